#!/usr/bin/env python3
# SPDX-License-Identifier: MIT OR Apache-2.0
"""examples/pcp.c on a terminal: progress, errors, Ctrl-C."""

import fcntl
import os
import pty
import select
import subprocess
import termios

from cases import EXAMPLES, case, fill, main, same, same_files
from pcp import SLOW, SLOW_SIZE, Folder


def on_terminal(*arguments, keys=b""):
    """Runs pcp on a terminal of its own, types keys once it shows something: status and what it shows."""
    outside, inside = pty.openpty()
    fcntl.ioctl(inside, termios.TIOCSWINSZ, b"\x18\0\x50\0\0\0\0\0")
    process = subprocess.Popen([EXAMPLES / "pcp", *map(str, arguments)], stdin=inside, stdout=inside, stderr=inside,
                               start_new_session=True, preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0))
    os.close(inside)
    shown = b""
    try:
        while select.select([outside], [], [], 60)[0]:
            try:
                piece = os.read(outside, 65536)
            except OSError:  # EIO: the last user of the other side is gone
                break
            if not piece:
                break
            shown += piece
            if keys:
                os.write(outside, keys)
                keys = b""
        return process.wait(10), shown.decode()
    finally:
        process.kill()
        process.wait()
        os.close(outside)


@case("progress on a terminal")
def progress():
    with Folder(room=512 << 20) as folder:
        source = fill(folder / "from", 192 << 20)
        status, shown = on_terminal(*SLOW, source, folder / "to")
        same(status, 0, "the status")
        same_files(source, folder / "to")
        frames = shown.split("\r")
        bars = [frame for frame in frames if "%" in frame]
        parts = [int(bar.split("%")[0]) for bar in bars]
        assert len(bars) > 2 and parts == sorted(parts) and parts[-1] == 100, f"percentages are {parts}"
        assert all("B/s" in bar and len(bar) < 80 for bar in bars), bars
        last = frames[-2] if frames[-1] == "\n" else frames[-1]
        assert "192 MiB in " in last and "B/s" in last and shown.endswith("\n"), last


@case("an empty file on a terminal")
def progress_empty():
    with Folder() as folder:
        status, shown = on_terminal(fill(folder / "from", 0), folder / "to")
        assert status == 0 and "nan" not in shown and "inf" not in shown, (status, shown)


@case("an error on a terminal")
def progress_error():
    with Folder() as folder:
        status, shown = on_terminal(folder / "x", folder / "to")
        same(status, 1, "the status")
        assert shown.endswith(f"pcp: cannot open '{folder}/x': No such file or directory\r\n"), shown


@case("Ctrl-C on a terminal")
def progress_interrupted():
    with Folder(room=2 * SLOW_SIZE) as folder:
        status, shown = on_terminal(*SLOW, fill(folder / "from", SLOW_SIZE), folder / "to", keys=b"\x03")
        same(status, 130, f"the status, after showing {shown!r},")
        same(os.listdir(folder), ["from"], "the list of files")


main()
