#!/usr/bin/env python3
# SPDX-License-Identifier: MIT OR Apache-2.0
"""examples/ffi/read_file.py reads files with ctypes alone, and says by its exit status how it went."""

import os
import subprocess
import sys
from pathlib import Path

SCRIPT = Path(__file__).resolve().parents[2] / "examples/ffi/read_file.py"


def check(name, content, expected):
    path = Path("some-file")
    path.unlink(missing_ok=True)
    if content is not None:
        path.write_bytes(content)
    ran = subprocess.run([sys.executable, SCRIPT, path], capture_output=True, text=True, errors="replace")
    as_expected = ran.returncode == 0 if expected else ran.returncode > 0
    print(f"ok - {name}" if as_expected else f"not ok - {name}: status {ran.returncode}: {(ran.stdout + ran.stderr).strip()[-300:]!r}")
    return as_expected


results = [
    check("a file is read", os.urandom(100_000), True),
    check("an empty file is read", b"", True),
    check("a missing file is an error", None, False),
]
sys.exit(0 if all(results) else 1)
