#!/usr/bin/env python3
# SPDX-License-Identifier: MIT OR Apache-2.0
"""examples/cat.c prints what a file, a pipe or a terminal has, and says what is wrong."""

import os
import pty
import signal
import subprocess
import time
from pathlib import Path

from cases import case, end, fill, main, run, same, spawn

CHUNK = 65536  # the size of cat's buffer


def printed(path, **options):
    """What cat prints, having ended well and without a message."""
    process = spawn("cat", *path, **options)
    output, errors = process.communicate(timeout=60)
    same((process.returncode, errors), (0, b""), "status and stderr")
    return output


def prints(size):
    content = fill(Path("file"), size).read_bytes()
    assert printed(["file"]) == content, "the output differs from the file"


for size in 0, 1, CHUNK - 1, CHUNK, CHUNK + 1, 50_000_000:
    case(f"a file of {size} bytes", size)(prints)


@case("a file without a size")
def without_size():
    same(printed(["/proc/version"]), Path("/proc/version").read_bytes(), "the output")


@case("a pipe that gives little at a time")
def pipe():
    process = spawn("cat", stdin=subprocess.PIPE)
    for piece in b"one ", b"two ", b"three":
        process.stdin.write(piece)
        process.stdin.flush()
        time.sleep(0.05)
    same(process.communicate(timeout=60), (b"one two three", b""), "stdout and stderr")
    same(process.returncode, 0, "the status")


@case("stopped and continued while it waits")
def stopped():
    process = spawn("cat", stdin=subprocess.PIPE)
    for number in (signal.SIGSTOP, signal.SIGCONT) * 3:
        time.sleep(0.05)
        process.send_signal(number)
    same(process.communicate(b"after all", timeout=60), (b"after all", b""), "stdout and stderr")
    same(process.returncode, 0, "the status")


@case("a terminal")
def terminal():
    outside, inside = pty.openpty()
    process = spawn("cat", stdin=inside)
    os.write(outside, b"a line\n\x04")
    same(process.communicate(timeout=60), (b"a line\n", b""), "stdout and stderr")
    os.close(inside)
    os.close(outside)


@case("what can't be read")
def unreadable():
    same(run("cat", "missing"), (1, "", "cat: missing: No such file or directory\n"), "status, stdout, stderr")
    same(run("cat", "."), (1, "", "cat: .: Is a directory\n"), "status, stdout, stderr")


@case("a full device to print to")
def full():
    for source in fill(Path("file"), 10), "/dev/zero":
        with open("/dev/full", "wb") as device:
            process = spawn("cat", source, stdout=device)
            same(end(process), (1, "cat: standard output: No space left on device\n"), "status and stderr")


main()
