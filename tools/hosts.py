# SPDX-License-Identifier: MIT OR Apache-2.0
"""The suite that runs a ring in event loops, each with its real library; run-tests.py registers it."""

import contextlib
import os
import select
import signal
import socket
import subprocess
import sys
import tempfile

import __main__ as runner  # run-tests.py, which imports this

# Each host: the package of pkg-config and Debian's that its library is in, and how it is run.
C_HOSTS = {
    "epoll": (None, None, ["level"], ["edge"]),
    "libuv": ("libuv", "libuv1-dev", []),
    "glib": ("glib-2.0", "libglib2.0-dev", []),
    "libevent": ("libevent_core", "libevent-dev", []),
    "pthreads": (None, None, []),
    "epoll_budget_of_one": (None, None, ["edge"]),
}
COMPLETIONS = 100_000
CLIENTS = 50
SECONDS = 60  # a host may take, unless it stands still, which it tells sooner


def commands(counts, target):
    """What can be run here, built: name -> command. What can't is told and skipped."""
    python = runner.ROOT / "examples/hosts/asyncio_host.py"
    found = {"asyncio": [sys.executable, str(python)]}
    for host, (package, debian, *ways) in C_HOSTS.items():
        if package and runner.run([runner.PKG_CONFIG, "--exists", package])[0] != 0:
            counts.skip(f"hosts: {host}", f"{package} is not installed: apt-get install {debian}")
            continue
        program = str(target / "hosts" / host)
        fault = runner.make(program)
        counts.check(f"hosts: {host} builds without a warning", fault)
        if not fault:
            found |= {" ".join([host, *way]): [program, *way] for way in ways}
    return found


def hosts(counts, target):
    """Each host does its work, and ends well when it is told to; TEST=name for some."""
    fault = runner.make("build")
    if fault:
        return counts.fail("hosts", fault)
    chosen = os.environ.get("TEST", "")
    for name, command in commands(counts, target).items():
        if chosen not in name:
            continue
        with tempfile.TemporaryDirectory(prefix="hosts-", dir=target) as folder:
            options = {"cwd": folder, "env": {**os.environ, "PALURING_BUILD": str(target / "lib/release"), "TMPDIR": folder}}
            runner.program(counts, f"hosts: {name}, {COMPLETIONS} completions", [*command, str(COMPLETIONS)], timeout=SECONDS, **options)
            if "budget" not in name:
                counts.check(f"hosts: {name} serves {CLIENTS} clients more, and ends on SIGTERM", ended(command, options))
            counts.check(f"hosts: {name} leaves no files", " ".join(os.listdir(folder)))
    if chosen in "forgets":
        counts.check("hosts: a wake-up that is lost is told", forgotten(target))


def ended(command, options):
    """What goes wrong with a host that is told to end while it has clients, if anything does."""
    with subprocess.Popen([*command, "1000000000"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **options) as host:
        try:
            if not select.select([host.stdout], [], [], SECONDS)[0]:
                return "it says nothing"
            port = int(host.stdout.readline().split()[-1])
            with contextlib.ExitStack() as stack:
                fault = converse([stack.enter_context(socket.create_connection(("127.0.0.1", port), timeout=SECONDS)) for _ in range(CLIENTS)])
                host.send_signal(signal.SIGTERM)
                output, errors = host.communicate(timeout=SECONDS)
            if host.returncode != 1 or "stopped after" not in output or errors:
                return f"status {host.returncode}: {runner.last_line(output + errors)}"
            return fault
        except (OSError, ValueError, IndexError, subprocess.TimeoutExpired) as error:
            return f"{type(error).__name__}: {error}"
        finally:
            host.kill()


def converse(clients):
    """All of them send, then all of them receive; some leave, one of them in the middle of a message."""
    for number, client in enumerate(clients):
        client.sendall(bytes([number]) * 20000)
    for number, client in enumerate(clients):
        with client.makefile("rb") as stream:
            if stream.read(20000) != bytes([number]) * 20000:
                return "a client gets other bytes back"
    clients[0].sendall(b"bye")
    for client in clients[: CLIENTS // 2]:
        client.close()
    return ""


def forgotten(target):
    """A host that now and then forgets to prepare stands still, and its watchdog says so."""
    program = target / "hosts/epoll_forgets_prepare"
    fault = runner.make(str(program))
    if fault:
        return fault
    status, output = runner.run([str(program), "edge", str(COMPLETIONS), "1"], timeout=SECONDS)
    told = status == 1 and "nothing comes any more after" in output
    return "" if told else f"status {status}: {runner.last_line(output)}"


SUITES = {"hosts": hosts}
