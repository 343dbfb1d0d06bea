#!/usr/bin/env python3
# SPDX-License-Identifier: MIT OR Apache-2.0
"""Reads a file through libpaluring with ctypes alone, in two ways, and compares the bytes.

    read_file.py FILE [LIBRARY]

LIBRARY is libpaluring.so by path; else $PALURING_LIB is, or the one in the folder $PALURING_BUILD,
or the one that the loader finds.
"""

import ctypes
import ctypes.util
import os
import sys
from collections import deque
from contextlib import ExitStack
from ctypes import POINTER, Structure, byref, c_char_p, c_int, c_int32, c_int64, c_size_t, c_uint16, c_uint32
from ctypes import c_uint64, c_void_p
from pathlib import Path

PALURING_OP_QUEUE = 4
FOREVER = -1
CHUNK = 64 * 1024
DEPTH = 16


class Op(Structure):
    """struct paluring_op"""

    _fields_ = [
        ("callback", c_void_p),
        ("user_data", c_size_t),
        ("timeout_ns", c_int64),
        ("flags", c_uint32),
        ("rw_flags", c_uint32),
        ("ioprio", c_uint16),
        ("personality", c_uint16),
        ("reserved", c_uint32),
        ("private_", c_uint64 * 11),
    ]


class Completion(Structure):
    """struct paluring_completion"""

    _fields_ = [
        ("io", c_uint64),
        ("user_data", c_size_t),
        ("buf", c_void_p),
        ("extra", c_uint64),
        ("result", c_int32),
        ("flags", c_uint32),
        ("opcode", c_uint32),
        ("reserved0", c_uint32),
        ("reserved", c_uint64 * 2),
    ]


assert ctypes.sizeof(Op) == 128 and ctypes.sizeof(Completion) == 64

# Handles are opaque pointers, an I/O is a number. Without argument types ctypes would pass ints.
FUNCTIONS = {
    "paluring_strerror": (c_char_p, c_int32),
    "paluring_ring_open": (c_int32, c_void_p, POINTER(c_void_p)),
    "paluring_ring_wait": (c_int32, c_void_p, c_uint32, c_int64),
    "paluring_ring_reap": (c_int32, c_void_p, c_uint32, c_int64, POINTER(Completion), c_size_t),
    "paluring_ring_close": (c_int32, c_void_p, c_int64),
    "paluring_ring_release": (None, c_void_p),
    "paluring_buf_alloc": (c_int32, c_size_t, c_size_t, POINTER(c_void_p)),
    "paluring_buf_data": (c_void_p, c_void_p),
    "paluring_buf_release": (None, c_void_p),
    "paluring_op_read": (None, POINTER(Op), c_int, c_void_p, c_size_t, c_size_t, c_uint64),
    "paluring_io_start": (c_int32, c_void_p, POINTER(Op), POINTER(c_uint64)),
    "paluring_io_poll": (c_int32, c_void_p, c_uint64, c_void_p, c_size_t, POINTER(Completion)),
}


def load(path=None):
    """The library, with its functions declared."""
    folder = os.environ.get("PALURING_BUILD")
    path = path or os.environ.get("PALURING_LIB") or (folder and os.path.join(folder, "libpaluring.so"))
    lib = ctypes.CDLL(path or ctypes.util.find_library("paluring") or "libpaluring.so.0")
    for name, (result, *arguments) in FUNCTIONS.items():
        function = getattr(lib, name)
        function.restype, function.argtypes = result, arguments
    return lib


def check(lib, status):
    """A count, or an exception."""
    if status < 0:
        raise OSError(-status, lib.paluring_strerror(status).decode())
    return status


def allocate(lib, stack):
    """A buffer that is released when the stack ends."""
    buf = c_void_p()
    check(lib, lib.paluring_buf_alloc(CHUNK, 0, byref(buf)))
    stack.callback(lib.paluring_buf_release, buf)
    return buf


def start_read(lib, ring, fd, buf, offset, **fields):
    op, io = Op(), c_uint64()
    lib.paluring_op_read(byref(op), fd, buf, 0, CHUNK, offset)
    for name, value in fields.items():
        setattr(op, name, value)
    check(lib, lib.paluring_io_start(ring, byref(op), byref(io)))
    return io


def read_by_poll(lib, ring, fd):
    """One read after the other; the handle of each is asked for its completion."""
    content, completion = bytearray(), Completion()
    with ExitStack() as stack:
        buf = allocate(lib, stack)
        while True:
            io = start_read(lib, ring, fd, buf, len(content))
            while check(lib, lib.paluring_io_poll(ring, io, None, 0, byref(completion))) == 0:
                check(lib, lib.paluring_ring_wait(ring, 1, FOREVER))
            if check(lib, completion.result) == 0:
                return bytes(content)
            content += ctypes.string_at(lib.paluring_buf_data(buf), completion.result)


def read_by_reap(lib, ring, fd):
    """Many reads at a time; their completions come in any order, user_data says whose they are."""
    size = os.fstat(fd).st_size
    content, completions = bytearray(size), (Completion * DEPTH)()
    todo, offsets = deque(range(0, size, CHUNK)), [0] * DEPTH
    with ExitStack() as stack:
        bufs = [allocate(lib, stack) for _ in range(DEPTH)]
        free = list(range(DEPTH))
        while todo or len(free) < DEPTH:
            while todo and free:
                slot = free.pop()
                offsets[slot] = todo.popleft()
                start_read(lib, ring, fd, bufs[slot], offsets[slot], flags=PALURING_OP_QUEUE, user_data=slot)
            count = check(lib, lib.paluring_ring_reap(ring, 1, FOREVER, completions, DEPTH))
            for completion in completions[:count]:
                slot, offset = completion.user_data, offsets[completion.user_data]
                end = offset + check(lib, completion.result)
                content[offset:end] = ctypes.string_at(lib.paluring_buf_data(bufs[slot]), end - offset)
                free.append(slot)
                if offset < end < min(offset + CHUNK, size):  # less than asked for
                    todo.append(end)
    return bytes(content)


def main(path, library=None):
    lib = load(library)
    expected = Path(path).read_bytes()
    with ExitStack() as stack:
        ring = c_void_p()
        check(lib, lib.paluring_ring_open(None, byref(ring)))
        stack.callback(lib.paluring_ring_release, ring)
        stack.callback(lib.paluring_ring_close, ring, FOREVER)
        file = stack.enter_context(open(path, "rb"))
        for read in read_by_poll, read_by_reap:
            if read(lib, ring, file.fileno()) != expected:
                sys.exit(f"read_file: {read.__name__} gives other bytes than the file has")
    print(f"{path}: {len(expected)} bytes, the same by poll and by reap")


if __name__ == "__main__":
    if len(sys.argv) not in (2, 3):
        sys.exit("usage: read_file.py FILE [LIBRARY]")
    try:
        main(*sys.argv[1:])
    except OSError as error:
        sys.exit(f"read_file: {error}")
