#!/usr/bin/env python3
# SPDX-License-Identifier: MIT OR Apache-2.0
"""examples/echo.c gives each client its own bytes back, outlives bad ones, and ends when told to."""

import contextlib
import os
import random
import resource
import select
import signal
import socket
import struct
import threading
import time

from cases import case, end, main, run, same, spawn, until

MIB = 1 << 20


@contextlib.contextmanager
def server(**options):
    """A server, which must end well on SIGTERM afterwards; its port and its process."""
    process = spawn("echo", "0", **options)
    try:
        if not select.select([process.stdout], [], [], 20)[0]:
            raise AssertionError("the server says nothing")
        line = process.stdout.readline().decode()
        assert line.startswith("listening on port "), f"it says {line!r}, {end(process, 5)}"
        yield int(line.split()[-1]), process
        same(process.poll(), None, "the server's status while it serves")
        process.send_signal(signal.SIGTERM)
        same(end(process, 20), (0, ""), "status and stderr")
    finally:
        process.kill()
        process.communicate()


def connect(port):
    return socket.create_connection(("127.0.0.1", port), timeout=20)


def receive(client, size):
    """Exactly size bytes, or fewer at the end of the stream."""
    content = bytearray()
    while len(content) < size and (piece := client.recv(size - len(content))):
        content += piece
    return bytes(content)


def converse(port, content):
    """Sends and receives at the same time, then ends the stream; what came back."""
    with connect(port) as client:
        def send():
            client.sendall(content)
            client.shutdown(socket.SHUT_WR)

        sender = threading.Thread(target=send, daemon=True)
        sender.start()
        back = receive(client, len(content) + 1)
        sender.join(20)
        return back


def alive(port):
    same(converse(port, b"hello"), b"hello", "what comes back")


@case("eight clients at once, 1 MiB each way")
def several():
    contents = [random.Random(number).randbytes(MIB + number) for number in range(8)]
    wrong = []

    def client(port, number):
        try:
            if converse(port, contents[number]) != contents[number]:
                wrong.append(f"client {number} gets other bytes back")
        except Exception as fault:
            wrong.append(f"client {number}: {fault}")

    with server() as (port, _):
        threads = [threading.Thread(target=client, args=(port, number), daemon=True) for number in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        assert not wrong and not any(thread.is_alive() for thread in threads), wrong or "a client is stuck"


@case("a line at a time")
def lines():
    with server() as (port, _), connect(port) as client:
        for number in range(200):
            line = b"line %d\n" % number
            client.sendall(line)
            same(receive(client, len(line)), line, "what comes back")


@case("a client that reads nothing holds nobody up")
def lazy():
    with server() as (port, _), connect(port) as client:
        client.settimeout(0.5)
        with contextlib.suppress(TimeoutError):
            for _ in range(64):
                client.sendall(bytes(MIB))
        alive(port)


@case("clients that break off")
def rude():
    with server() as (port, process):
        for _ in range(20):
            client = connect(port)
            client.sendall(bytes(100_000))
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # a reset
            client.close()
        for _ in range(20):
            connect(port).close()
        alive(port)
        until(lambda: sockets(process) == 1, "all connections are closed")


def sockets(process):
    """How many sockets the server has: the listener, and one for each connection."""
    folder = f"/proc/{process.pid}/fd"
    links = []
    for name in os.listdir(folder):
        with contextlib.suppress(OSError):
            links.append(os.readlink(f"{folder}/{name}"))
    return sum(link.startswith("socket:") for link in links)


@case("more clients than descriptors, until some are gone")
def crowd():
    limit = 40

    def few_files():
        resource.setrlimit(resource.RLIMIT_NOFILE, (limit, limit))

    process = spawn("echo", "0", preexec_fn=few_files)
    try:
        port = int(process.stdout.readline().split()[-1])
        with contextlib.ExitStack() as stack:
            for _ in range(limit):
                stack.enter_context(connect(port))
            time.sleep(0.3)
            same(process.poll(), None, "the server's status")
        alive(port)
        process.send_signal(signal.SIGTERM)
        status, errors = end(process, 20)
        same((status, set(errors.splitlines())), (0, {"echo: accept: Too many open files"}), "status and messages")
        assert len(errors.splitlines()) < 20, "it tries to accept over and over"
    finally:
        process.kill()
        process.communicate()


def ended(number):
    """With connections open, some of them busy."""
    process = spawn("echo", "0")
    with contextlib.ExitStack() as stack:
        stack.callback(process.kill)
        port = int(process.stdout.readline().split()[-1])
        clients = [stack.enter_context(connect(port)) for _ in range(20)]
        for client in clients[:10]:
            client.sendall(b"x")
            same(receive(client, 1), b"x", "what comes back")
        process.send_signal(number)
        same(end(process, 20), (0, ""), "status and stderr")
        for client in clients[:10]:
            same(client.recv(1), b"", "what a client reads then")


case("SIGTERM ends it", signal.SIGTERM)(ended)
case("SIGINT ends it", signal.SIGINT)(ended)


@case("a port in use, and wrong arguments")
def refused():
    with server() as (port, _):
        same(run("echo", port), (1, "", "echo: listener: Address already in use\n"), "status, stdout, stderr")
    for arguments in ["x"], ["65536"], ["1", "2"], ["-1"]:
        same(run("echo", *arguments), (1, "", "Usage: echo [PORT]\n"), "status, stdout, stderr")


main()
