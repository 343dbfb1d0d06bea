# SPDX-License-Identifier: MIT OR Apache-2.0
"""The suite that runs a ring in event loops, each with its real library; run-tests.py registers it."""

import contextlib
import os
import re
import select
import signal
import socket
import subprocess
import sys
import tempfile
from pathlib import Path

import __main__ as runner  # run-tests.py, which imports this
from kernels import vm

# Each host: the package of pkg-config and Debian's that its library is in, and how it is run.
C_HOSTS = {
    "epoll": (None, None, ["level"], ["edge"]),
    "libuv": ("libuv", "libuv1-dev", []),
    "glib": ("glib-2.0", "libglib2.0-dev", []),
    "libevent": ("libevent_core", "libevent-dev", []),
    "pthreads": (None, None, []),
    "epoll_budget_of_one": (None, None, ["edge"]),
}
ROOT = Path(__file__).resolve().parent.parent
ASYNCIO = ROOT / "examples/hosts/asyncio_host.py"
COMPLETIONS = 100_000
CLIENTS = 50
SECONDS = 60  # a host may take, unless it stands still, which it tells sooner


def c_hosts(counts, suite, target):
    """The hosts in C that can be built here, built: name -> command. What can't is told and skipped."""
    found = {}
    for host, (package, debian, *ways) in C_HOSTS.items():
        if package and runner.run([runner.PKG_CONFIG, "--exists", package])[0] != 0:
            counts.skip(f"{suite}: {host}", f"{package} is not installed: apt-get install {debian}")
            continue
        program = str(target / "hosts" / host)
        fault = runner.make(program)
        counts.check(f"{suite}: {host} builds without a warning", fault)
        if not fault:
            found |= {" ".join([host, *way]): [program, *way] for way in ways}
    return found


def hosts(counts, target):
    """Each host does its work, and ends well when it is told to; TEST=name for some."""
    fault = runner.make("build")
    if fault:
        return counts.fail("hosts", fault)
    chosen = os.environ.get("TEST", "")
    for name, command in {"asyncio": [sys.executable, str(ASYNCIO)], **c_hosts(counts, "hosts", target)}.items():
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


# --- in virtual machines ---

# Runs a script, and prints the files of all modules that are loaded at its end, as source and, which spares much time, compiled.
TELL = """
import atexit, os, runpy, sys
sys.argv.pop(0)
known = lambda: {getattr(module, name, None) for module in sys.modules.values() for name in ("__file__", "__cached__")}
atexit.register(lambda: print(*(f"module {file}" for file in known() if file and file != sys.argv[0] and os.path.exists(file)), sep="\\n"))
runpy.run_path(sys.argv[0], run_name="__main__")
"""


def for_kernels(counts, target, chosen):
    """The hosts as programs for a virtual machine, with a twentieth of the completions, and patience. `chosen` is part of a host's
    name, or of "hosts"."""
    if not any(chosen in name for name in ("hosts", "asyncio", *C_HOSTS)):
        return []
    few, library = (str(COMPLETIONS // 50), "60"), target / "lib/release"
    commands = c_hosts(counts, "kernels", target).values()
    slow = (str(COMPLETIONS // 100), "60")
    programs = [asyncio_for_kernels(counts, library, slow)] + [vm.Program(Path(path), library, (*way, *few)) for path, *way in commands]
    return [program for program in programs if chosen in "hosts" or chosen in program.name]


def asyncio_for_kernels(counts, library, arguments):
    """Python comes along as far as the host uses it, which a run of it here tells."""
    environment = {**os.environ, "LD_LIBRARY_PATH": str(library)}
    status, output = runner.run([sys.executable, "-c", TELL, str(ASYNCIO), "1000"], env=environment, timeout=SECONDS)
    modules = re.findall(r"^module (/.+)$", output, re.M)
    counts.check("kernels: asyncio tells which modules it needs", "" if status == 0 and modules else runner.last_line(output))
    python, script = Path(sys.executable).resolve(), library.parent.parent / "hosts/asyncio"
    script.parent.mkdir(exist_ok=True)
    script.write_text(f"#!{python} -B\n{ASYNCIO.read_text()}")
    script.chmod(0o755)
    return vm.Program(script, library, arguments, (python, *map(Path, modules)))


SUITES = {"hosts": hosts}
