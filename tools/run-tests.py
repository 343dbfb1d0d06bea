#!/usr/bin/env python3
# SPDX-License-Identifier: MIT OR Apache-2.0
"""Runs the test suites and counts: run-tests.py --target FOLDER SUITE...

A test program says how it went as liburing's do: exit status 0 (passed), 1 (failed), 77 (skipped,
its last line says why). It may print a line for each of its cases, which are then counted one by one:
  ok - NAME
  not ok - NAME: REASON
  skip - NAME: REASON
The last line of the output is `N passed, N failed, N skipped`.
"""

import argparse
import ctypes
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import checkers
import hosts
import older

ROOT = Path(__file__).resolve().parent.parent
MAKE = os.environ.get("MAKE", "make")
CC = os.environ.get("CC", "cc").split()
CXX = os.environ.get("CXX", "c++").split()
PKG_CONFIG = os.environ.get("PKG_CONFIG", "pkg-config")
TIMEOUT = float(os.environ.get("TEST_TIMEOUT", "60"))
STRICT = ["-Wall", "-Wextra", "-Wpedantic", "-Wconversion", "-Werror"]
C_STANDARDS = ["c99", "c11", "c17", "c2x"]
CXX_STANDARDS = ["c++11", "c++14", "c++17", "c++20"]
CASE = re.compile(r"^(ok|not ok|skip) - ([^:]*)(?:: *(.*))?$")


class Counts:
    """What passed, what failed and what was skipped, over all suites."""

    def __init__(self):
        self.lock = threading.Lock()  # some suites run several programs at a time
        self.passed = 0
        self.failed = []
        self.skipped = []

    def ok(self, count=1):
        with self.lock:
            self.passed += count

    def fail(self, name, reason):
        self.failed.append((name, reason))
        print(f"  FAILED   {name}: {reason}", flush=True)

    def skip(self, name, reason):
        self.skipped.append((name, reason))
        print(f"  skipped  {name}: {reason}", flush=True)

    def check(self, name, fault):
        """One case: fault is what went wrong, or nothing."""
        if fault:
            self.fail(name, fault)
        else:
            self.ok()

    def summary(self):
        print()
        for name, reason in self.skipped:
            print(f"skipped: {name}: {reason}")
        for name, reason in self.failed:
            print(f"FAILED: {name}: {reason}")
        print(f"{self.passed} passed, {len(self.failed)} failed, {len(self.skipped)} skipped", flush=True)


def run(command, timeout=600.0, **options):
    """Runs a command in a process group of its own; gives its status (None = out of time) and output."""
    options.setdefault("cwd", ROOT)
    options.setdefault("stderr", subprocess.STDOUT)
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, start_new_session=True, **options)
    try:
        output = process.communicate(timeout=timeout)[0]
        status = process.returncode
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        output = process.communicate()[0]
        status = None
    return status, output.decode(errors="replace")


def make(*arguments, **variables):
    """Builds, and gives what went wrong, or nothing. Errors are shown."""
    status, output = run([*MAKE.split(), "--no-print-directory", *arguments, *(f"{name}={value}" for name, value in variables.items())])
    if status == 0:
        return ""
    show(output)
    return f"`make {' '.join(arguments)}` failed" if status is not None else "out of time"


def show(output, lines=60):
    for line in output.splitlines()[-lines:]:
        print(f"    | {line}")


def last_line(output):
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    return lines[-1][:300] if lines else "no reason given"


def program(counts, name, command, timeout=None, **options):
    """Runs one test program and counts its cases, or the program where it has none."""
    limit = TIMEOUT if timeout is None else timeout
    began = time.monotonic()
    status, output = run(command, timeout=limit, **options)
    tell(counts, name, status, output, time.monotonic() - began, limit)


def tell(counts, name, status, output, took, limit):
    """Counts what a test program has done."""
    cases = [match for match in map(CASE.match, output.splitlines()) if match]
    failed = [match for match in cases if match[1] == "not ok"]
    if failed or status not in (0, 77):
        show(output)
    for match in cases:
        if match[1] == "ok":
            counts.ok()
        elif match[1] == "skip":
            counts.skip(f"{name}: {match[2]}", match[3] or "no reason given")
        else:
            counts.fail(f"{name}: {match[2]}", match[3] or "no reason given")
    if status == 77 and not cases:
        counts.skip(name, last_line(output))
    elif status is None:
        counts.fail(name, f"not done after {limit:g} s")
    elif status not in (0, 77) and not failed:
        ended = f"killed by {signal.Signals(-status).name}" if status < 0 else f"exit status {status}"
        counts.fail(name, f"{ended}: {last_line(output)}" if output.strip() else ended)
    elif status == 0 and not cases:
        counts.ok()
    print(f"  {name}: {max(len(cases), 1)} cases, {took:.1f} s", flush=True)


# --- the suites ---


def io_uring(counts, _target):
    """Asks the kernel for a ring, without the library."""
    libc = ctypes.CDLL(None, use_errno=True)
    ring = libc.syscall(425, 1, ctypes.create_string_buffer(120))  # io_uring_setup
    if ring >= 0:
        os.close(ring)
        return counts.ok()
    counts.fail(
        "io_uring is available on this machine",
        f"io_uring_setup(2) says {os.strerror(ctypes.get_errno())}, so the library can't be proven here"
        " (sysctl kernel.io_uring_disabled, a container's seccomp filter, or an old kernel)",
    )


def rust(counts, _target):
    cargo_test(counts, "rust", ["--no-fail-fast"])


def model(counts, target):
    """All orders of a few threads: a build with loom in place of the standard library's locks and atomics."""
    optimised = [word for name in ("paluring", "loom", "generator") for word in ("--config", f"profile.dev.package.{name}.opt-level=3")]
    flags = f"{os.environ.get('RUSTFLAGS', '')} --cfg loom"
    arguments = ["--lib", "--target-dir", str(target / "model"), "--config", "profile.dev.debug=0", *optimised, "core::threads"]
    cargo_test(counts, "model", arguments, env={**os.environ, "RUSTFLAGS": flags})


def cargo_test(counts, suite, arguments, **options):
    cargo = os.environ.get("CARGO", "cargo").split()
    status, output = run([*cargo, "test", "--locked", *arguments], stderr=None, **options)
    results = re.findall(r"^test result: \w+\. (\d+) passed; (\d+) failed; (\d+) ignored", output, re.M)
    counts.ok(sum(int(passed) for passed, _, _ in results))
    for name in re.findall(r"^test (.+) \.\.\. FAILED$", output, re.M):
        counts.fail(f"{suite}: {name}", "see above")
    for name, reason in re.findall(r"^test (.+) \.\.\. ignored(?:, (.*))?$", output, re.M):
        counts.skip(f"{suite}: {name}", reason or "ignored in the source")
    if status != 0:
        show(output, lines=200)
        if not any(int(failed) for _, failed, _ in results):
            counts.fail(suite, "cargo test failed" if status is not None else "cargo test ran out of time")


def header(counts, _target):
    """The header alone and twice, for each compiler and standard."""
    hint = {"clang": "apt-get install clang", "clang++": "apt-get install clang", "c++": "apt-get install g++"}
    for language, compilers, standards in (
        ("c", [CC, ["clang"]], C_STANDARDS),
        ("c++", [CXX, ["clang++"]], CXX_STANDARDS),
    ):
        for compiler in compilers:
            if not shutil.which(compiler[0]):
                counts.skip(f"header as {language} with {compiler[0]}", f"not installed ({hint.get(compiler[0], 'install it')})")
                continue
            for standard in standards:
                header_at(counts, compiler, language, standard)


def header_at(counts, compiler, language, standard):
    at = [*compiler, "-x", language, f"-std={standard}", "-fsyntax-only"]
    if run([*at, "/dev/null"])[0] != 0:
        return counts.skip(f"header with {compiler[0]} -std={standard}", "this compiler doesn't know that standard")
    for source in sorted(ROOT.glob("c-tests/header/*.c")):
        status, output = run([*at, *STRICT, "-I", "include", str(source)])
        if status != 0:
            show(output)
        counts.check(f"header: {source.stem} with {compiler[0]} -std={standard}", "doesn't compile clean" if status else "")


def layout(counts, target):
    for compiler, language in ((CC, "c"), (CXX, "c++")):
        if not shutil.which(compiler[0]):
            counts.skip(f"layout as {language}", f"{compiler[0]} is not installed")
            continue
        standard = "-std=c11" if language == "c" else "-std=c++11"
        command = [*compiler, "-x", language, standard, *STRICT, "-fsyntax-only", "-I", "include", "c-tests/abi/layout.c"]
        program(counts, f"layout of public structs as {language}", command)
    fault = make("build")
    if fault:
        return counts.fail("shared object", fault)
    library = next((target / "lib/release").glob("libpaluring.so.*.*.*"))
    program(counts, "shared object", ["tools/check-library", str(library), soname(library)])


def soname(library):
    return ".".join(library.name.split(".")[:3])


def c(counts, target):
    """Each test program on the release build and on the debug build; test_poison* on the one with fault hooks."""
    for build in ("build", "build-debug", "build-fault-hooks"):
        fault = make(build)
        if fault:
            counts.fail(f"c: {build}", fault)
    chosen = os.environ.get("TEST", "")
    sources = [path for path in sorted(ROOT.glob("c-tests/test_*.c")) if chosen in path.stem]
    if not sources:
        return counts.fail("c", f"there is no c-tests/test_*{chosen}*.c")
    make("-k", f"-j{os.cpu_count()}", *(str(target / "c-tests" / path.stem) for path in sources))
    for source in sources:
        binary = target / "c-tests" / source.stem
        if run([*MAKE.split(), "-q", str(binary)])[0] != 0:
            counts.fail(f"c: {source.stem}", "doesn't compile")
            continue
        for build in ("fault-hooks",) if source.stem.startswith("test_poison") else ("release", "debug"):
            run_c_test(counts, f"c: {source.stem} ({build})", binary, target / "lib" / build)


def run_c_test(counts, name, binary, library, more=()):
    """In an empty folder, which is gone afterwards."""
    with tempfile.TemporaryDirectory(prefix="c-test-", dir=binary.parent) as folder:
        environment = {**os.environ, "LD_LIBRARY_PATH": str(library), "TMPDIR": folder, **dict(more)}
        environment["PALURING_DEBUG_BUILD"] = "0" if library.name == "release" else "1"
        program(counts, name, [str(binary)], cwd=folder, env=environment)


def install(counts, target):
    fault = make("build")
    if fault:
        return counts.fail("install", fault)
    with tempfile.TemporaryDirectory(prefix="install-", dir=target) as folder:
        staged = Path(folder, "staged")
        places = {"DESTDIR": str(staged), "PREFIX": "/opt/paluring", "LIBDIR": "/opt/paluring/lib64"}
        fault = make("install", **places)
        if fault:
            return counts.fail("install", fault)
        pkg_config = {
            "PKG_CONFIG_SYSROOT_DIR": str(staged),
            "PKG_CONFIG_LIBDIR": str(staged / "opt/paluring/lib64/pkgconfig"),
            "LD_LIBRARY_PATH": str(staged / "opt/paluring/lib64"),
        }
        programs(counts, "installed", Path(folder), pkg_config, static=True)
        counts.check("install: uninstall succeeds", make("uninstall", **places))
        left = [str(path.relative_to(staged)) for path in staged.rglob("*") if not path.is_dir()]
        counts.check("install: uninstall leaves nothing", ", ".join(left))
        uninstalled = {"PKG_CONFIG_PATH": str(target / "lib/release")}
        programs(counts, "uninstalled", Path(folder), uninstalled, static=False)


def programs(counts, name, folder, pkg_config, static):
    """Builds each program of c-tests/installed with what pkg-config says and nothing else, and runs it."""
    environment = {**os.environ, **pkg_config}
    version = run(["sed", "-n", 's/^version *= *"\\([^"]*\\)".*/\\1/p', "Cargo.toml"])[1]
    found = run([PKG_CONFIG, "--modversion", "paluring"], env=environment)[1]
    counts.check(f"{name}: pkg-config knows the version", "" if found == version else f"it says {found.strip()}")
    for source in sorted(ROOT.glob("c-tests/installed/*.c*")):
        compiler = CC if source.suffix == ".c" else CXX
        if not shutil.which(compiler[0]):
            counts.skip(f"{name}: {source.name}", f"{compiler[0]} is not installed")
            continue
        for kind in ("dynamic", "static") if static else ("dynamic",):
            binary = folder / f"{name}-{source.name}-{kind}"
            flags = [PKG_CONFIG, "--cflags", "--libs", *(["--static"] if kind == "static" else []), "paluring"]
            words = run(flags, env=environment)[1].split()
            command = [*compiler, *(["-static"] if kind == "static" else []), *STRICT, "-o", str(binary), str(source), *words]
            status, output = run(command, env=environment)
            if status != 0:
                show(f"{' '.join(command)}\n{output}")
                counts.fail(f"{name}: {source.name}, {kind}", "doesn't build")
                continue
            needed = run(["readelf", "-d", str(binary)])[1]
            wrong = ("libpaluring" in needed) != (kind == "dynamic")
            counts.check(f"{name}: {source.name} is {kind}", "it is linked in the other way" if wrong else "")
            program(counts, f"{name}: {source.name}, {kind}", [str(binary)], env=environment)


def examples(counts, target):
    fault = make("build") or make("-k", "examples")
    counts.check("examples: all build without a warning", fault)
    scripts(counts, "examples", "c-tests/examples/test_*", target)


def faults(counts, target):
    """Programs under calls of io_uring that fail, on the release build and on the debug build."""
    fault = make("build") or make("build-debug") or make("fault-tools", "examples")
    if fault:
        return counts.fail("faults", fault)
    for build in ("release", "debug"):
        environment = {"FAULTS": str(target / "faults"), "LD_LIBRARY_PATH": str(target / "lib" / build)}
        scripts(counts, f"faults ({build})", "c-tests/faults/test_*.py", target, environment)


def python(counts, target):
    fault = make("build")
    if fault:
        return counts.fail("python", fault)
    scripts(counts, "python", "c-tests/python/test_*", target)


def scripts(counts, name, pattern, target, more=()):
    """Test programs in any language, told where the library and the examples are."""
    environment = {**os.environ, "PALURING_BUILD": str(target / "lib/release"), "EXAMPLES": str(target / "examples"), **dict(more)}
    found = [path for path in sorted(ROOT.glob(pattern)) if path.is_file()]
    if not found:
        counts.fail(name, f"there is no {pattern}")
    for path in found:
        interpreter = {".py": [sys.executable], ".sh": ["sh"]}.get(path.suffix, [])
        with tempfile.TemporaryDirectory(prefix=f"{name.split()[0]}-", dir=target) as folder:
            program(counts, f"{name}: {path.stem}", [*interpreter, str(path)], cwd=folder, env={**environment, "TMPDIR": folder}, timeout=3 * TIMEOUT)


def abi(counts, target):
    if not shutil.which("abidiff"):
        return counts.skip("abi", "abidiff is not installed: apt-get install abigail-tools")
    fault = make("build-abi")
    if fault:
        return counts.fail("abi", fault)
    library = next((target / "lib/abi").glob("libpaluring.so.*.*.*"))
    program(counts, "abi: as in the baseline", ["tools/abi", str(library), "c-tests/abi/baseline.abi"], timeout=300)


SUITES = {suite.__name__: suite for suite in (rust, model, header, layout, c, install, examples, python, faults, abi)}
SUITES.update(checkers.SUITES | hosts.SUITES | older.SUITES)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--target", type=Path, required=True, help="where the builds are")
    parser.add_argument("suites", nargs="+", choices=SUITES, help="what to run")
    arguments = parser.parse_args()
    arguments.target.mkdir(parents=True, exist_ok=True)
    # A shell starts what goes to the background with SIGINT ignored; tests send it.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    counts = Counts()
    if {"c", "install", "examples", "python", "faults", *checkers.SUITES, *hosts.SUITES, *older.SUITES} & set(arguments.suites):
        io_uring(counts, arguments.target)
    for suite in arguments.suites:
        print(f"== {suite}", flush=True)
        try:
            SUITES[suite](counts, arguments.target)
        except Exception as error:  # a suite that can't run is a failure, not the end
            counts.fail(suite, f"{type(error).__name__}: {error}")
    counts.summary()
    return 1 if counts.failed else 0


if __name__ == "__main__":
    sys.exit(main())
