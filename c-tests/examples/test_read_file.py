#!/usr/bin/env python3
# SPDX-License-Identifier: MIT OR Apache-2.0
"""The examples in Python have the header's structs, constants and functions; examples/ffi/read_file.py finds the library."""

import ctypes
import importlib.util
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

from cases import BUILD, ROOT, Skip, case, fill, main, same

SCRIPT = ROOT / "examples/ffi/read_file.py"
ASYNCIO = ROOT / "examples/hosts/asyncio_host.py"
HEADER = ROOT / "include/paluring.h"
CC = shlex.split(os.environ.get("CC", "cc"))


def script(path):
    """The example as a module."""
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def read(*arguments, **environment):
    """Runs the example without the variables that tell it where the library is, but for those given."""
    plain = {name: value for name, value in os.environ.items() if not name.startswith("PALURING_")}
    ran = subprocess.run([sys.executable, SCRIPT, *map(str, arguments)], env={**plain, **environment},
                         capture_output=True, text=True, timeout=60)
    return ran.returncode, ran.stdout, ran.stderr


def structs(path):
    if not shutil.which(CC[0]):
        raise Skip(f"{CC[0]} is not installed")
    module, lines, expected = script(path), [], []
    for name, struct in ("paluring_op", module.Op), ("paluring_completion", module.Completion):
        lines.append(f'printf("{name} %zu\\n", sizeof({name}));')
        expected.append(f"{name} {ctypes.sizeof(struct)}")
        for field, _ in struct._fields_:
            lines.append(f'printf("{field} %zu %zu\\n", offsetof({name}, {field}), sizeof((({name} *)0)->{field}));')
            expected.append(f"{field} {getattr(struct, field).offset} {getattr(struct, field).size}")
    for name, value in vars(module).items():
        if name.startswith(("PALURING_", "IORING_")):
            lines.append(f'printf("{name} %d\\n", {name});')
            expected.append(f"{name} {value}")
    source = f'#include <linux/io_uring.h>\n#include <paluring.h>\n#include <stdio.h>\nint main(void) {{ {" ".join(lines)} return 0; }}\n'
    Path("layout.c").write_text(source)
    subprocess.run([*CC, "-I", HEADER.parent, "-o", "layout", "layout.c"], check=True)
    found = subprocess.run(["./layout"], capture_output=True, text=True, check=True).stdout.splitlines()
    same(found, expected, "the layout in C")


def functions(path):
    module = script(path)
    text = re.sub(r"/\*.*?\*/", "", HEADER.read_text(), flags=re.S)
    kinds = {"int32_t": ctypes.c_int32, "uint32_t": ctypes.c_uint32, "int64_t": ctypes.c_int64, "uint64_t": ctypes.c_uint64,
             "size_t": ctypes.c_size_t, "uintptr_t": ctypes.c_size_t, "int": ctypes.c_int, "paluring_io": ctypes.c_uint64,
             "paluring_ready_fn": ctypes.c_void_p, "void": None}  # fmt: skip
    for name, (result, *arguments) in module.FUNCTIONS.items():
        declared = re.search(rf"^([\w \*]+?)\b{name}\(([^)]*)\);", text, re.M)
        assert declared, f"the header has no {name}"
        types = [declared[1], *declared[2].split(",")]
        same(len(arguments), len(types) - 1, f"the number of {name}'s arguments")
        for given, written in zip([result, *arguments], types):
            if "*" in written:
                pointer = given in (ctypes.c_void_p, ctypes.c_char_p) or hasattr(given, "contents")
                assert pointer, f"{name}: {given} for {written.strip()}"
            else:
                word = re.sub(r"\bconst\b", "", written).split()[0]
                same(given, kinds[word], f"{name}: the type for {written.strip()}")


for path in SCRIPT, ASYNCIO:
    case(f"{path.name}: its structs and constants are the header's", path)(structs)
    case(f"{path.name}: its functions take what the header's take", path)(functions)


@case("the library by argument, by PALURING_LIB and by PALURING_BUILD")
def library():
    path, library = fill(Path("file"), 200_001), str(BUILD / "libpaluring.so")
    expected = (0, "file: 200001 bytes, the same by poll and by reap\n", "")
    same(read(path, library), expected, "status, stdout, stderr")
    same(read(path, PALURING_LIB=library), expected, "status, stdout, stderr")
    same(read(path, PALURING_BUILD=str(BUILD)), expected, "status, stdout, stderr")


def content(size):
    found = read(fill(Path("file"), size), BUILD / "libpaluring.so")
    same(found, (0, f"file: {size} bytes, the same by poll and by reap\n", ""), "status, stdout, stderr")


for size in 0, 1, 65535, 65536, 65537, 30_000_000:
    case(f"a file of {size} bytes", size)(content)


@case("what can't be read")
def unreadable():
    for path, reason in ("missing", "No such file or directory"), (".", "Is a directory"):
        status, output, errors = read(path, BUILD / "libpaluring.so")
        assert status == 1 and not output and reason in errors and "Traceback" not in errors, (status, output, errors)


main()
