# SPDX-License-Identifier: MIT OR Apache-2.0
"""What the example tests share: cases, the programs under test, files to try them on."""

import os
import random
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
EXAMPLES = Path(os.environ.get("EXAMPLES", ROOT / "target/examples")).resolve()
BUILD = Path(os.environ.get("PALURING_BUILD", ROOT / "target/lib/release")).resolve()
NOBODY = 65534


class Skip(Exception):
    """Raised by a case that can't be tried here; says why."""


CASES = []


def case(name, *arguments):
    """Makes a case of a function, which raises what is wrong."""

    def add(function):
        CASES.append((name, lambda: function(*arguments)))
        return function

    return add


def main():
    """Runs the cases, all or those that the command line names in part; the exit status is the answer."""
    counts = {"ok": 0, "not ok": 0, "skip": 0}
    chosen = [(name, run) for name, run in CASES if all(word in name for word in sys.argv[1:])]
    for name, run in chosen:
        outcome, reason = "ok", ""
        try:
            run()
        except Skip as why:
            outcome, reason = "skip", str(why)
        except Exception as fault:  # whatever it is, the other cases go on
            outcome, reason = "not ok", f"{type(fault).__name__}: {fault}" if str(fault) else repr(fault)
        counts[outcome] += 1
        text = " | ".join(reason.split("\n"))[:600]
        print(f"{outcome} - {name}: {text}" if reason else f"{outcome} - {name}", flush=True)
    sys.exit(1 if counts["not ok"] else 77 if counts["skip"] and not counts["ok"] else 0)


def same(found, expected, what):
    if found != expected:
        raise AssertionError(f"{what} is {found!r}, not {expected!r}")


def until(condition, what, seconds=20.0):
    """Waits for a condition, and gives what it gave."""
    end = time.monotonic() + seconds
    while not (result := condition()):
        if time.monotonic() > end:
            raise AssertionError(f"{what}: not so after {seconds:g} s")
        time.sleep(0.001)
    return result


def run(program, *arguments, **options):
    """Runs a program to its end: status, stdout and stderr."""
    options.setdefault("stdin", subprocess.DEVNULL)
    options.setdefault("timeout", 60)
    ran = subprocess.run([EXAMPLES / program, *map(str, arguments)], capture_output=True, **options)
    return ran.returncode, ran.stdout.decode(errors="replace"), ran.stderr.decode(errors="replace")


def spawn(program, *arguments, **options):
    """Starts a program whose output can be read."""
    pipes = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    return subprocess.Popen([EXAMPLES / program, *map(str, arguments)], **{**pipes, **options})


def end(process, seconds=60):
    """Waits for a started program: status and stderr."""
    try:
        _, errors = process.communicate(timeout=seconds)
    finally:
        if process.poll() is None:
            process.kill()
            process.communicate()
    return process.returncode, (errors or b"").decode(errors="replace")


def as_nobody(program):
    """For subprocess: a user for whom permissions count, where root runs the tests."""
    if os.geteuid() != 0:
        return {}
    user = {"user": NOBODY, "group": NOBODY, "extra_groups": []}
    try:
        usable = subprocess.run([EXAMPLES / program, "-h"], capture_output=True, **user).returncode == 0
    except OSError:
        usable = False
    if not usable:
        raise Skip(f"root runs the tests, and uid {NOBODY} may not run {EXAMPLES / program}")
    return user


NOISE = random.Random(5).randbytes(2 << 20)


def fill(path, size, seed=0):
    """Makes a file in which no two blocks are alike."""
    with open(path, "wb") as file:
        for number in range(0, size, 1 << 20):
            start = (number // (1 << 20) * 4099 + seed * 257) % (1 << 20)
            file.write(NOISE[start : start + min(1 << 20, size - number)])
    return path


def same_files(one, other):
    """Compares size and content."""
    same(os.path.getsize(other), os.path.getsize(one), f"the size of {other}")
    with open(one, "rb") as a, open(other, "rb") as b:
        while piece := a.read(4 << 20):
            if piece != b.read(len(piece)):
                raise AssertionError(f"{other} differs from {one} before byte {a.tell()}")
