# SPDX-License-Identifier: MIT OR Apache-2.0
"""Suites that run the C tests under memory checkers; run-tests.py registers them.

Cases that can't be told anything there are named, with the reason, in tools/exceptions/SUITE, a line each: `TEST CASE: REASON`; a
whole program as `TEST *: REASON`.
"""

import os
import re
import select
import shutil
import signal
import socket
import subprocess
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import __main__ as runner  # run-tests.py, which imports this

ROOT = Path(__file__).resolve().parent.parent


def exceptions(suite):
    """The cases that a suite leaves out: test program -> lines of `CASE: REASON`. Each must be there."""
    left_out = {}
    for line in (ROOT / "tools/exceptions" / suite).read_text().splitlines():
        if line and not line.startswith("#"):
            test, case = line.split(" ", 1)
            if not case.startswith("*:") and f"RUN({case.split(':')[0]})" not in (ROOT / "c-tests" / f"{test}.c").read_text():
                raise ValueError(f"tools/exceptions/{suite}: {test} has no case {case}")
            left_out.setdefault(test, []).append(case)
    return left_out


def c_tests(counts, suite, folder, run_one, at_once=1):
    """Builds each C test in a folder of the target's, and runs it without what the suite leaves out."""
    left_out = exceptions(suite)
    chosen = os.environ.get("TEST", "")
    names = [path.stem for path in sorted(ROOT.glob("c-tests/test_*.c"))]
    names = [name for name in names if chosen in name]
    for name in [name for name in names if left_out.get(name, [""])[0].startswith("*:")]:
        counts.skip(f"{suite}: {name}", left_out[name][0][2:].strip())
        names.remove(name)
    if runner.make("-k", f"-j{os.cpu_count()}", *(str(folder / name) for name in names)):
        counts.fail(f"{suite}: C tests", "they don't all compile")
    with ThreadPoolExecutor(at_once) as pool:
        list(pool.map(lambda name: run_one(name, {"PALURING_TEST_EXCEPT": "\n".join(left_out.get(name, []))}), names))


# --- valgrind ---

VALGRIND = ["valgrind", "-q", "--fair-sched=yes", "--leak-check=full", "--show-leak-kinds=definite", "--track-fds=yes",
            "--child-silent-after-fork=yes", "--num-callers=20"]  # fmt: skip


def valgrind(counts, target):
    if not shutil.which("valgrind"):
        return counts.skip("valgrind", "not installed: apt-get install valgrind")
    fault = runner.make("build") or runner.make("build-fault-hooks") or runner.make("valgrind-waits", "examples")
    if fault:
        return counts.fail("valgrind", fault)
    preload = {"LD_PRELOAD": str(target / "valgrind/waits.so"), "PALURING_TEST_SECONDS": "100", "PALURING_TEST_TRIES": "20"}

    def run_one(name, environment):
        library = target / "lib" / ("fault-hooks" if name.startswith("test_poison") else "release")
        with tempfile.TemporaryDirectory(prefix="valgrind-", dir=target) as folder:
            command = [*VALGRIND, f"--log-file={folder}/log.%p", str(target / "c-tests" / name)]
            environment = {**os.environ, **environment, **preload, "LD_LIBRARY_PATH": str(library), "TMPDIR": folder}
            runner.program(counts, f"valgrind: {name}", command, cwd=folder, env=environment, timeout=4 * runner.TIMEOUT)
            check_logs(counts, name, Path(folder), lambda _block: True)

    c_tests(counts, "valgrind", target / "c-tests", run_one, at_once=os.cpu_count())
    if not os.environ.get("TEST"):
        valgrind_examples(counts, target, preload)
        misuse(counts, "valgrind", target / "c-tests/misuse", ["use_after_release", "double_release", "leak"], lambda path: valgrind_finds(path, target))


def misuse(counts, suite, folder, names, finds):
    """Whether a checker sees mistakes at all: each program of c-tests/misuse makes one."""
    fault = runner.make(*(str(folder / name) for name in names))
    for name in names:
        counts.check(f"{suite}: finds the mistake of {name}", fault or ("" if finds(folder / name) else "nothing found"))


def valgrind_finds(path, target):
    with tempfile.TemporaryDirectory(prefix="valgrind-", dir=target) as folder:
        runner.run([*VALGRIND, f"--log-file={folder}/log.%p", str(path)], env={**os.environ, "LD_LIBRARY_PATH": str(target / "lib/release")})
        return findings(Path(folder))


def findings(folder):
    """What valgrind has found: with -q, whatever it says besides the descriptors that a program was given."""
    found = []
    for log in folder.glob("log.*"):
        text = re.sub(r"^==\d+== ?(FILE DESCRIPTORS.*)?", "", log.read_text(errors="replace"), flags=re.M)
        blocks = [block.strip() for block in re.split(r"\n\s*\n", text)]
        found += [block for block in blocks if block and "<inherited from parent>" not in block]
    return found


def check_logs(counts, name, folder, is_fault):
    found = [block for block in findings(folder) if is_fault(block)]
    for block in found:
        runner.show(block)
    counts.check(f"valgrind: {name} has no error, leak or open descriptor", f"{len(found)}, see above" if found else "")


def valgrind_examples(counts, target, preload):
    """Each example once. Files of its own that a program leaves open end with it: only the library's descriptors count."""
    for name, use in (("cat", use_cat), ("pcp", use_pcp), ("echo", use_echo)):
        with tempfile.TemporaryDirectory(prefix="valgrind-", dir=target) as folder:
            Path(folder, "from").write_bytes(os.urandom(3 << 20))
            command = [*VALGRIND, f"--log-file={folder}/log.%p", str(target / "examples" / name)]
            fault = use(command, folder, {**os.environ, **preload})
            counts.check(f"valgrind: examples/{name} does its work", fault)
            check_logs(counts, f"examples/{name}", Path(folder), lambda block: not block.startswith("Open") or "paluring_" in block)


def use_cat(command, folder, environment):
    finished = subprocess.run([*command, "from"], cwd=folder, env=environment, capture_output=True, timeout=100)
    same = finished.stdout == Path(folder, "from").read_bytes()
    return "" if finished.returncode == 0 and same else f"status {finished.returncode}, content {'as' if same else 'not as'} it should be"


def use_pcp(command, folder, environment):
    status, output = runner.run([*command, "from", "to"], cwd=folder, env=environment)
    if status == 0 and Path(folder, "to").read_bytes() == Path(folder, "from").read_bytes():
        return ""
    return f"status {status}: {runner.last_line(output)}"


def use_echo(command, folder, environment):
    with subprocess.Popen([*command, "0"], cwd=folder, env=environment, stdout=subprocess.PIPE, text=True) as server:
        try:
            if not select.select([server.stdout], [], [], 60)[0]:
                return "it says nothing"
            port = int(server.stdout.readline().split()[-1])
            for size in (1, 100, 10000):
                with socket.create_connection(("127.0.0.1", port), timeout=60) as client, client.makefile("rb") as stream:
                    client.sendall(sent := os.urandom(size))
                    if stream.read(size) != sent:
                        return "other bytes come back"
            server.send_signal(signal.SIGTERM)
            status = server.wait(60)
            return f"status {status}" if status else ""
        except (OSError, ValueError, IndexError, subprocess.TimeoutExpired) as error:
            return f"{type(error).__name__}: {error}"
        finally:
            server.kill()


# --- AddressSanitizer ---


def asan(counts, target):
    """Library and programs with AddressSanitizer, leaks included; the runtime is the Rust compiler's."""
    if runner.run([*runner.MAKE.split(), "--no-print-directory", "asan-runtime"])[0] != 0:
        return counts.skip("asan", "this Rust toolchain has no AddressSanitizer")
    fault = runner.make("build-asan")
    if fault:
        return counts.fail("asan", fault)
    options = {"ASAN_OPTIONS": "exitcode=99:detect_leaks=1:allocator_may_return_null=1", "PALURING_TEST_SECONDS": "100"}
    folder = target / "c-tests/asan"

    def run_one(name, environment):
        with tempfile.TemporaryDirectory(prefix="asan-", dir=target) as own:
            environment = {**os.environ, **environment, **options, "TMPDIR": own}
            runner.program(counts, f"asan: {name}", [str(folder / name)], cwd=own, env=environment, timeout=4 * runner.TIMEOUT)

    def finds(path):
        status, output = runner.run([str(path)], env={**os.environ, **options})
        return status == 99 and "Sanitizer" in output

    c_tests(counts, "asan", folder, run_one, at_once=os.cpu_count())
    misuse(counts, "asan", folder / "misuse", ["use_after_release", "double_release", "leak", "released_in_flight"], finds)


# --- freed memory that is none any more ---


def unmap(counts, target):
    fault = runner.make("build") or runner.make("build-fault-hooks") or runner.make("build-unmap")
    if fault:
        return counts.fail("unmap", fault)

    def run_one(name, environment):
        with tempfile.TemporaryDirectory(prefix="unmap-", dir=target) as folder:
            environment = {**os.environ, **environment, "LD_LIBRARY_PATH": str(target / "lib/unmap"), "TMPDIR": folder}
            runner.program(counts, f"unmap: {name}", [str(target / "c-tests" / name)], cwd=folder, env=environment)

    def finds(path):
        status, output = runner.run([str(path)], env={**os.environ, "LD_LIBRARY_PATH": str(target / "lib/unmap")})
        return status == -signal.SIGSEGV or "EFAULT" in output

    c_tests(counts, "unmap", target / "c-tests", run_one, at_once=os.cpu_count())
    misuse(counts, "unmap", target / "c-tests/misuse", ["use_after_release", "released_in_flight"], finds)


# --- the soak ---


def soak(counts, target):
    """On the release build, then as long on the debug build, which tells of mistakes: SOAK_SECONDS together."""
    program = target / "soak/soak"
    fault = runner.make("build") or runner.make("build-debug") or runner.make(str(program))
    if fault:
        return counts.fail("soak", fault)
    seconds = int(os.environ.get("SOAK_SECONDS") or 60)
    seed = os.environ.get("SEED", "").split()
    for build in ("release", "debug"):
        with tempfile.TemporaryDirectory(prefix="soak-", dir=target) as folder:
            environment = {**os.environ, "LD_LIBRARY_PATH": str(target / "lib" / build), "TMPDIR": folder, "PALURING_TEST_SECONDS": str(seconds + 120)}
            command = [str(program), str(max(seconds // 2, 1)), *seed]
            status, output = runner.run(command, cwd=folder, env=environment, timeout=seconds + 180)
            runner.show(output)
            counts.check(f"soak: {build}", "" if status == 0 else f"status {status}, the seed is above")


SUITES = {suite.__name__: suite for suite in (valgrind, asan, unmap, soak)}
