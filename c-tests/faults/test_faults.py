#!/usr/bin/env python3
# SPDX-License-Identifier: MIT OR Apache-2.0
"""Calls of io_uring fail with any errno, before or after the kernel has acted: programs end, and end right.

A copy gives a file with the same bytes, or says what failed, exits with 1 and leaves no file. The workload, whose host goes
on after errors, checks itself. Nothing hangs, and no signal ends a program. Words on the command line choose cases by name.
"""

import errno
import itertools
import os
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

PROGRAMS = Path(os.environ["FAULTS"])  # shim.so and workload
PCP = Path(os.environ["EXAMPLES"]) / "pcp"
ERRNOS = ["EINTR", "EAGAIN", "EBUSY", "ENOMEM", "EBADR", "EEXIST", "ENXIO", "EOPNOTSUPP", "EBADFD"]
EVERY = ["1", "2", "7"]
SKIPS = {"enter": [1, 3, 12], "register": [1, 2, 3, 4, 5, 6, 7], "setup": []}  # then every call fails: what was begun is ended under it
LIMIT = 20  # seconds; without a hang a run takes one or two at most
SIZE = 40 * 65536 + 777


class Wrong(Exception):
    """What a program did and must not do."""


def run(fault, folder, *command):
    """Runs a program under a fault: its status and stderr, and how many calls failed on purpose."""
    report = folder / "report"
    environment = {**os.environ, "LD_PRELOAD": str(PROGRAMS / "shim.so"), "PALURING_FAULT": fault}
    environment.update(PALURING_FAULT_REPORT=str(report), TMPDIR=str(folder))
    try:
        ran = subprocess.run(list(map(str, command)), capture_output=True, env=environment, timeout=LIMIT, check=False)
    except subprocess.TimeoutExpired as hung:
        raise Wrong(f"still running after {LIMIT} s") from hung
    output = (ran.stdout + ran.stderr).decode(errors="replace").strip()
    if ran.returncode < 0:
        raise Wrong(f"killed by signal {-ran.returncode}: {output}")
    return ran.returncode, output, int(report.read_text().split()[1])


def copy(size):
    """A copy of a file of that size."""

    def judge(fault, folder):
        source, target = folder / "from", folder / "to"
        content = bytes((i * 31 + (i >> 8) * 17) & 255 for i in range(4096)) * (size // 4096) + b"end" * (size % 4096 // 3)
        source.write_bytes(content)
        status, output, injected = run(fault, folder, PCP, "-b", "64K", source, target)
        if status == 0 and target.read_bytes() != content:
            raise Wrong("it says that all is well, and the copy differs")
        if status == 0 and output:
            raise Wrong(f"it says that all is well, and: {output}")
        if status not in (0, 1):
            raise Wrong(f"exit status {status}: {output}")
        if status == 1 and not (output.startswith("pcp: ") and "\n" not in output):
            raise Wrong(f"it doesn't say in one line what is wrong: {output}")
        if status == 1 and target.exists():
            raise Wrong(f"it failed ({output}), and left {target.stat().st_size} bytes")
        if status == 1 and not injected:
            raise Wrong(f"nothing went wrong, yet: {output}")
        return injected, output

    return judge


def workload(mode):
    """Rings of a mode, whose user checks each I/O."""

    def judge(fault, folder):
        rare = fault.endswith("/7") and fault.count("/") == 3
        sparse = ["sparse"] if rare and f"/{errno.EBADR}/" not in fault else []  # that one makes the ring LOST
        status, output, injected = run(fault, folder, PROGRAMS / "workload", mode, *sparse)
        if status != 0:
            raise Wrong(f"exit status {status}: {output}")
        return injected, output

    return judge


SUBJECTS = {"a copy": copy(SIZE), "an empty copy": copy(0), "owner": workload("owner"), "shared": workload("shared"), "loop": workload("loop")}


def cases():
    """Names, with the faults that each is tried under."""
    for call, when, name in itertools.product(["enter", "register", "setup"], ["before", "after"], ERRNOS):
        fault = f"{call}/{when}/{getattr(errno, name)}"
        faults = [f"{fault}/{every}" for every in EVERY] + [f"{fault}/1/{skip}" for skip in SKIPS[call]]
        for subject in SUBJECTS:
            yield f"{subject} with {name} {when} {call}", subject, faults


def try_case(case):
    name, subject, faults = case
    injected = 0
    for fault in faults:
        with tempfile.TemporaryDirectory(prefix="faults-", dir=os.environ.get("TMPDIR")) as folder:
            try:
                count, output = SUBJECTS[subject](fault, Path(folder))
            except Wrong as wrong:
                return name, f"{fault}: {' | '.join(str(wrong).splitlines())}"
            if "-v" in sys.argv:
                print(f"# {fault}: {subject}: {count} failed: {output}", flush=True)
            injected += count
    return name, "" if injected else "no call failed: this proves nothing"


def main():
    words = [word for word in sys.argv[1:] if word != "-v"]
    chosen = [case for case in cases() if all(word in case[0] for word in words)]
    bad = 0
    with ThreadPoolExecutor(8) as pool:
        for name, wrong in pool.map(try_case, chosen):
            bad += bool(wrong)
            print(f"not ok - {name}: {wrong}" if wrong else f"ok - {name}", flush=True)
    return 1 if bad or not chosen else 0


if __name__ == "__main__":
    sys.exit(main())
