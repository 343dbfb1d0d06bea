#!/usr/bin/env python3
# SPDX-License-Identifier: MIT OR Apache-2.0
"""A ring in asyncio's loop, with ctypes alone: asyncio_host.py [COUNT [SECONDS]].

Class Ring is the host: I/Os are awaited, and tasks that await them may be cancelled at any time. The rest is the work that
it does here, and the proof that no wake-up is lost in COUNT completions: see work.h. Nothing may happen for SECONDS.

libpaluring.so is $PALURING_LIB, or in the folder $PALURING_BUILD, or where the loader finds it.
"""

import asyncio
import ctypes
import ctypes.util
import itertools
import os
import signal
import socket
import struct
import sys
import tempfile
import threading
import time
from contextlib import closing, contextmanager
from concurrent.futures import Future
from ctypes import CFUNCTYPE, POINTER, Structure, byref, c_char_p, c_int, c_int32, c_int64, c_size_t, c_uint16, c_uint32
from ctypes import c_uint64, c_void_p
from errno import EAGAIN, ECANCELED, ENOMEM, ETIME

PALURING_ERR_CLOSED = -5004
FILE_POSITION = 2**64 - 1
BUDGET = 32


class Op(Structure):
    """struct paluring_op; it borrows its buffer until the start, so these keep theirs as .buf"""

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


# Handles are opaque pointers, an I/O is a number. Without argument types ctypes would pass ints.
FUNCTIONS = {
    "paluring_strerror": (c_char_p, c_int32),
    "paluring_ring_open": (c_int32, c_void_p, POINTER(c_void_p)),
    "paluring_ring_event_fd": (c_int32, c_void_p, POINTER(c_int)),
    "paluring_ring_prepare": (c_int32, c_void_p),
    "paluring_ring_process": (c_int32, c_void_p, c_uint32),
    "paluring_ring_close": (c_int32, c_void_p, c_int64),
    "paluring_ring_release": (None, c_void_p),
    "paluring_buf_alloc": (c_int32, c_size_t, c_size_t, POINTER(c_void_p)),
    "paluring_buf_data": (c_void_p, c_void_p),
    "paluring_buf_release": (None, c_void_p),
    "paluring_op_read": (None, POINTER(Op), c_int, c_void_p, c_size_t, c_size_t, c_uint64),
    "paluring_op_write": (None, POINTER(Op), c_int, c_void_p, c_size_t, c_size_t, c_uint64),
    "paluring_op_raw": (None, POINTER(Op), c_void_p, c_void_p),
    "paluring_io_start": (c_int32, c_void_p, POINTER(Op), POINTER(c_uint64)),
    "paluring_io_cancel": (c_int32, c_void_p, c_uint64),
}
COMPLETE_FN = CFUNCTYPE(None, c_size_t, POINTER(Completion))


def load():
    """The library, with its functions declared."""
    folder = os.environ.get("PALURING_BUILD")
    path = os.environ.get("PALURING_LIB") or (folder and os.path.join(folder, "libpaluring.so"))
    library = ctypes.CDLL(path or ctypes.util.find_library("paluring") or "libpaluring.so.0")
    for name, (result, *arguments) in FUNCTIONS.items():
        function = getattr(library, name)
        function.restype, function.argtypes = result, arguments
    return library


lib = load()


def check(status):
    """A count, or an exception."""
    if status < 0:
        raise OSError(-status, lib.paluring_strerror(status).decode())
    return status


# --- the host ---


class Ring:
    """A ring that asyncio's loop drives."""

    def __init__(self, loop):
        self.loop = loop
        self.handle, fd = c_void_p(), c_int()
        check(lib.paluring_ring_open(None, byref(self.handle)))
        check(lib.paluring_ring_event_fd(self.handle, byref(fd)))
        self.fd = fd.value
        self.callback = COMPLETE_FN(self._completed)  # kept: the library calls it
        self.pending, self.numbers = {}, itertools.count(1)
        self.prepares = False
        loop.add_reader(self.fd, self._on_readable)

    def start(self, op):
        """On the loop's thread: a future for the result, to be awaited. Cancelled, it cancels the I/O."""
        future = self.loop.create_future()
        io = self._start(op, future)
        future.add_done_callback(lambda _: lib.paluring_io_cancel(self.handle, io) if future.cancelled() else None)
        self._prepare_soon()
        return future

    def start_from_thread(self, op):
        """On any thread: a future for the result, to be waited for. The library wakes the loop."""
        future = Future()
        return future, self._start(op, future)

    def close(self):
        """On the loop's thread: cancels what is in flight; every future gets its result."""
        self.loop.remove_reader(self.fd)
        check(lib.paluring_ring_close(self.handle, -1))

    def _start(self, op, future):
        io, number = c_uint64(), next(self.numbers)
        op.callback, op.user_data = ctypes.cast(self.callback, c_void_p), number
        self.pending[number] = future
        status = lib.paluring_io_start(self.handle, byref(op), byref(io))
        if status < 0:
            del self.pending[number]
        check(status)
        return io

    def _completed(self, number, completion):
        """In process and close: the callback of all I/Os."""
        future, result = self.pending.pop(number), completion.contents.result
        if not future.done():  # cancelled otherwise
            future.set_result(result)

    def _on_readable(self):
        lib.paluring_ring_process(self.handle, BUDGET)  # what is beyond the budget leaves the descriptor readable
        self._prepare_soon()

    def _prepare_soon(self):
        """asyncio tells nobody that it is about to sleep, but it doesn't while there are calls to make: so after each process and
        each start one such call is asked for, and comes after the tasks that are ready now have started their I/Os."""
        if not self.prepares:
            self.prepares = True
            self.loop.call_soon(self._prepare)

    def _prepare(self):
        self.prepares = False
        status = lib.paluring_ring_prepare(self.handle)
        if status in (-EAGAIN, -ENOMEM):  # the kernel is short of memory
            self.loop.call_later(0.01, self._prepare_soon)
        elif status != PALURING_ERR_CLOSED:
            check(status)  # 1: something has come already; then the descriptor is readable, and the loop doesn't sleep


# --- operations ---


class Buffer:
    def __init__(self, size):
        self.handle = c_void_p()
        check(lib.paluring_buf_alloc(size, 0, byref(self.handle)))
        self.size, self.address = size, lib.paluring_buf_data(self.handle)

    def __del__(self):
        lib.paluring_buf_release(self.handle)  # I/Os in flight have references of their own


def read(fd, buf, length, offset=FILE_POSITION, timeout_ns=0):
    op = Op()
    op.buf = buf
    lib.paluring_op_read(byref(op), fd, buf.handle, 0, length, offset)
    op.timeout_ns = timeout_ns
    return op


def write(fd, buf, length, offset):
    op = Op()
    op.buf = buf
    lib.paluring_op_write(byref(op), fd, buf.handle, 0, length, offset)
    return op


def raw(opcode, fd, buf=None, length=0, flags=0):
    """struct io_uring_sqe: opcode, flags, ioprio, fd, off, addr, len, op_flags, and what isn't used here."""
    op, sqe = Op(), struct.pack("=BBHiQQII32x", opcode, 0, 0, fd, 0, buf.address if buf else 0, length, flags)
    op.buf = buf
    lib.paluring_op_raw(byref(op), sqe, buf.handle if buf else None)
    return op


IORING_OP_ACCEPT, IORING_OP_SEND, IORING_OP_RECV = 13, 26, 27


# --- the work, as in work.c and serve.c ---

COPY, ECHO, FOREIGN, CLOSE = "copy", "echo", "starts of other threads", "end and close"
SIZE = (8 << 20) + 12345


class Work:
    def __init__(self, ring, count, seconds):
        self.ring, self.count, self.seconds = ring, count, seconds
        self.completions = dict.fromkeys((COPY, ECHO, FOREIGN, CLOSE), 0)
        self.busy = dict(self.completions)  # how many wait for it
        self.stopped, self.faults = False, []
        self.copied, self.over, self.lock = threading.Event(), asyncio.Event(), threading.Lock()

    def fail(self, what):
        self.faults.append(what)
        self.stopped = True

    def goes_on(self, count):
        return not self.stopped and sum(self.completions.values()) < count

    @contextmanager
    def waiting(self, source):
        with self.lock:
            self.busy[source] += 1
        yield
        with self.lock:
            self.busy[source] -= 1

    # On the loop's thread: the copy, the service, and tasks that are cancelled.

    async def io(self, op, source):
        result = await self.ring.start(op)
        self.completions[source] += 1
        return result

    async def copy_blocks(self, source, target, offsets):
        buf = Buffer(65536)
        for offset in offsets:
            length = await self.io(read(source, buf, buf.size, offset), COPY)
            if length <= 0 or await self.io(write(target, buf, length, offset), COPY) != length:
                self.fail(f"copy: the block at {offset}")

    async def copy(self, source, target):
        offsets = iter(range(0, SIZE, 65536))
        with self.waiting(COPY):
            await asyncio.gather(*(self.copy_blocks(source, target, offsets) for _ in range(4)))
        self.copied.set()

    async def serve_connection(self, fd):
        buf = Buffer(65536)
        with socket.socket(fileno=fd):
            while (length := await self.io(raw(IORING_OP_RECV, fd, buf, buf.size), ECHO)) > 0:
                await self.io(raw(IORING_OP_SEND, fd, buf, length, socket.MSG_NOSIGNAL | socket.MSG_WAITALL), ECHO)

    async def serve(self, listener):
        connections = []
        while (fd := await self.io(raw(IORING_OP_ACCEPT, listener.fileno(), flags=os.O_CLOEXEC), ECHO)) >= 0:
            connections.append(asyncio.create_task(self.serve_connection(fd)))
        if fd != -ECANCELED:
            self.fail(f"accept: {os.strerror(-fd)}")
        await asyncio.gather(*connections)

    async def cancel_tasks(self):
        """The futures are forgotten, the I/Os end, and the buffers live until then."""
        left, right = socket.socketpair()
        reads = [self.ring.start(read(left.fileno(), Buffer(1), 1)) for _ in range(10)]
        await asyncio.sleep(0)
        for future in reads:
            future.cancel()
        await asyncio.wait(reads)
        left.close()
        right.close()

    # Other threads: each step waits for the loop.

    def client(self, address):
        with socket.create_connection(address) as client:
            for number in itertools.count():
                sent = bytes([number % 251]) * (1 + number * 977 % 4096)
                with self.waiting(ECHO):
                    client.sendall(sent)
                    if client.recv(len(sent), socket.MSG_WAITALL) != sent:
                        self.fail("echo: other bytes come back")
                yield

    def starter(self):
        left, right = socket.socketpair()
        with left, right:
            buf = Buffer(1)
            for number in itertools.count():
                with self.waiting(FOREIGN):
                    self.start_one(number % 50, left, right, buf)
                with self.lock:
                    self.completions[FOREIGN] += 1
                yield

    def start_one(self, kind, left, right, buf):
        """A read that runs out of time or is cancelled, or whose byte comes before or after."""
        if kind > 1 and kind % 2 == 0:
            right.send(b"x")
        future, io = self.ring.start_from_thread(read(left.fileno(), buf, 1, timeout_ns=1_000_000 if kind == 0 else 0))
        if kind == 1:
            lib.paluring_io_cancel(self.ring.handle, io)
        elif kind % 2 == 1:
            right.send(b"x")
        if (result := future.result()) != {0: -ETIME, 1: -ECANCELED}.get(kind, 1):
            self.fail(f"another thread's I/O has the result {result}")

    def run(self, actors, count):
        while self.goes_on(count):
            for actor in actors:
                next(actor)

    def conduct(self, address):
        """First all at once, then one thing at a time."""
        actors = [self.client(address), self.starter(), self.client(address), self.client(address), self.starter()]
        threads = [threading.Thread(target=self.run, args=([actor], self.count // 4)) for actor in actors]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self.copied.wait()
        self.run(actors[:2], self.count)
        for actor in actors:
            actor.close()
        self.busy[CLOSE] += 1
        self.ring.loop.call_soon_threadsafe(self.over.set)

    def watch(self):
        seen, since = {}, {}
        while True:
            time.sleep(0.1)
            now = time.monotonic()
            for source, completions in self.completions.items():
                if not self.busy[source] or seen.get(source) != completions:
                    seen[source], since[source] = completions, now
            still = [source for source in since if now - since[source] > self.seconds]
            if still:
                came = sum(self.completions.values())
                print(f"asyncio: nothing comes any more after {came} completions, for {self.seconds} s:", file=sys.stderr, end=" ")
                print("; ".join(f"{source} ({self.completions[source]} came)" for source in still), file=sys.stderr, flush=True)
                os._exit(1)


async def host(count, seconds):
    loop = asyncio.get_running_loop()
    ring = Ring(loop)
    work = Work(ring, count, seconds)
    for number in signal.SIGINT, signal.SIGTERM:
        loop.add_signal_handler(number, setattr, work, "stopped", True)
    with tempfile.TemporaryFile() as source, tempfile.TemporaryFile() as target, closing(socket.create_server(("127.0.0.1", 0))) as listener:
        print(f"asyncio: echo service on port {listener.getsockname()[1]}", flush=True)
        source.write(os.urandom(SIZE))
        source.flush()
        tasks = [asyncio.create_task(task) for task in (work.copy(source.fileno(), target.fileno()), work.serve(listener), work.cancel_tasks())]
        threading.Thread(target=work.watch, daemon=True).start()
        threading.Thread(target=work.conduct, args=(listener.getsockname(),)).start()
        await work.over.wait()
        ring.close()
        await asyncio.gather(*tasks)
        source.seek(0)
        target.seek(0)
        if not work.stopped and source.read() != target.read():
            work.fail("the copy differs")
    lib.paluring_ring_release(ring.handle)
    return work


def main(count=100000, seconds=10):
    work = asyncio.run(host(int(count), int(seconds)))
    for fault in work.faults:
        print(f"asyncio: {fault}", file=sys.stderr)
    came = ", ".join(f"{source} {work.completions[source]}" for source in (COPY, ECHO, FOREIGN))
    total = f"{sum(work.completions.values())} completions"
    print(f"asyncio: stopped after {total}" if work.stopped else f"asyncio: {total} ({came}), nothing lost")
    sys.exit(1 if work.stopped else 0)


if __name__ == "__main__":
    main(*sys.argv[1:])
