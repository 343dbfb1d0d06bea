#!/usr/bin/env python3
# SPDX-License-Identifier: MIT OR Apache-2.0
"""The README's first program is examples/cat.c, and builds and runs with the command shown there."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def fail(name, reason):
    print(f"not ok - {name}: {reason}")
    sys.exit(1)


def blocks(text):
    """Each fenced block: its language and its content."""
    return re.findall(r"^```(\w*)[^\n]*\n(.*?)^```", text, re.M | re.S)


def command_in(text):
    """The first shell line that compiles with what pkg-config says."""
    for language, block in blocks(text):
        if language in ("", "sh", "bash", "console", "shell"):
            for line in block.replace("\\\n", " ").splitlines():
                line = line.strip().removeprefix("$ ")
                if re.match(r"(cc|gcc|c99)\b", line) and "pkg-config" in line and "paluring" in line:
                    return line
    return None


def main():
    readme = ROOT / "README.md"
    if not readme.is_file():
        fail("README.md is there", "it is missing")
    text = readme.read_text()
    source = next((block for language, block in blocks(text) if language == "c"), None)
    if source is None:
        fail("README.md has a first program", "no ```c block")
    # The licence line is for the file, not for the reader.
    example = re.sub(r"\A/\*[^*]*SPDX-License-Identifier[^*]*\*/\n+", "", (ROOT / "examples/cat.c").read_text())
    if re.sub(r"\A/\*[^*]*SPDX-License-Identifier[^*]*\*/\n+", "", source) != example:
        fail("the first program is examples/cat.c", "the ```c block and the file differ")
    print("ok - the first program is examples/cat.c")

    command = command_in(text)
    if command is None:
        fail("README.md says how to compile it", "no shell line begins with cc and uses pkg-config ... paluring")
    named = re.search(r"(\S+)\.c\b", command)
    output = re.search(r"-o *(\S+)", command)
    if not named or not output:
        fail("the command names the source and -o", command)
    Path(named[0]).parent.mkdir(parents=True, exist_ok=True)
    Path(named[0]).write_text(source)
    environment = {**os.environ, "PKG_CONFIG_PATH": os.environ["PALURING_BUILD"]}
    built = subprocess.run(command, shell=True, env=environment, capture_output=True, text=True)
    if built.returncode != 0 or built.stderr:
        fail("it compiles as shown, without a warning", f"`{command}`: {built.stderr.strip() or built.returncode}".replace("\n", " | "))
    print("ok - it compiles as shown, without a warning")

    shutil.copy(readme, "some-file")
    shown = subprocess.run([Path(output[1]).resolve(), "some-file"], capture_output=True)
    if shown.returncode != 0 or shown.stdout != readme.read_bytes():
        fail("it prints a file", f"status {shown.returncode}, {len(shown.stdout)} bytes, {shown.stderr.decode(errors='replace').strip()}")
    print("ok - it prints a file")


main()
