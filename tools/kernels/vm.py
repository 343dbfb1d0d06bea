# SPDX-License-Identifier: MIT OR Apache-2.0
"""Runs test programs in a virtual machine on another kernel, without KVM: slow, and it works everywhere.

The guest's root is an ext4 image on an NVMe disk, made anew for each boot, so temporary files are on a real block
device; its reads are throttled, so that some are in flight for a while. What the guest says comes over its serial
console; the lines that begin with @@ are those of `init`, beside this file.
"""

import os
import re
import selectors
import shutil
import subprocess
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

HERE = Path(__file__).resolve().parent
PATH = f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"
# The Debian packages that depend on the newest kernel of their line.
KERNELS = ("linux-image-cloud-amd64", "linux-image-6.12-cloud-amd64")
# What a run needs, and the package that has it.
TOOLS = {
    "qemu-system-x86_64": "qemu-system-x86",
    "busybox": "busybox-static",
    "mkfs.ext4": "e2fsprogs",
    "apt-get": "apt",
    "dpkg-deb": "dpkg",
}
# What tests run that busybox hasn't, or has differently.
GNU = ("ls", "nm")
GUEST = ["-accel", "tcg,thread=multi", "-cpu", "max", "-M", "q35", "-smp", "2", "-m", "768"]
GUEST += ["-nodefaults", "-no-user-config", "-display", "none", "-no-reboot", "-serial", "stdio"]
GUEST += ["-append", "console=ttyS0 root=/dev/nvme0n1 rw rootwait init=/init panic=-1 quiet loglevel=2 mitigations=off"]
READ_RATE = 48 << 20
DISK_SIZE = "512M"


class Program(NamedTuple):
    path: Path
    build: Path  # the folder of a library's build
    arguments: tuple[str, ...] = ()
    needs: tuple[Path, ...] = ()  # files, which are put at the same places

    @property
    def name(self):
        return " ".join([self.path.name, *self.arguments])


def which(tool):
    return shutil.which(tool, path=PATH)


def missing():
    """The packages that are to be installed first."""
    return [package for tool, package in TOOLS.items() if not which(tool)]


def run(folder, package, programs, seconds):
    """Runs `programs` on the kernel of a Debian package, with images kept in `folder`. Yields (name, status, output, seconds that it took) for each, status as subprocess gives it and None for
    out of time; and first, with no time, for the kernel itself if it can't be had."""
    folder.mkdir(parents=True, exist_ok=True)
    fetched = subprocess.run([HERE / "fetch", folder, package], stdin=subprocess.DEVNULL, capture_output=True, text=True)
    if fetched.returncode != 0:
        yield package, 77, f"not to be had: {fetched.stderr.strip()}", None
        return
    disk = folder / f"{package}.img"
    make_disk(disk, programs, seconds)
    left = {program.name for program in programs}
    limit = 60 + 10 * seconds
    yield from results(boot(fetched.stdout.strip(), disk, limit), package, left, seconds)
    for name in sorted(left):
        yield name, 1, f"the guest came to its end before (or {limit:.0f} s were over)", 0
    disk.unlink()


def results(lines, package, left, seconds):
    """What the guest's lines tell."""
    release, name, output, began = package, None, [], 0
    for line in lines:
        word, _, rest = line.partition(" ")[2].partition(" ") if line.startswith("@@ ") else (None, None, None)
        if word == "kernel":
            release = ".".join(re.findall(r"\d+", rest)[:2])
        elif word == "begin":
            name, output, began = rest, [], time.monotonic()
        elif word == "end":
            status = int(rest.split()[0])
            took = time.monotonic() - began
            status = None if status == 137 and took >= seconds - 1 else 128 - status if status > 128 else status
            left.discard(name)
            yield f"{release}: {name}", status, "\n".join(output), took
            name = None
        elif word == "complaint":
            yield f"{release}: the kernel's log", 1, rest, None
        elif word == "done":
            return
        else:
            output.append(line)
    left.discard(name)
    yield f"{release}: {name or 'boot'}", 1, "\n".join([*output, "the guest is gone or hangs"]), None


def boot(kernel, disk, limit):
    """Boots, and yields the lines of the console until the guest is off or `limit` seconds are over."""
    drive = f"file={disk},if=none,id=disk,format=raw,cache=unsafe,throttling.bps-read={READ_RATE}"
    command = [which("qemu-system-x86_64"), *GUEST, "-kernel", kernel, "-drive", drive, "-device", "nvme,drive=disk,serial=disk"]
    with subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as guest:
        try:
            yield from lines_of(guest.stdout, time.monotonic() + limit)
        finally:
            guest.kill()


def lines_of(stream, end):
    """The lines of a stream, until it ends or the time is over."""
    ready = selectors.DefaultSelector()
    ready.register(stream, selectors.EVENT_READ)
    rest = b""
    while (left := end - time.monotonic()) > 0 and ready.select(left):
        some = os.read(stream.fileno(), 1 << 16)
        *whole, rest = (rest + some).split(b"\n")
        yield from (line.decode(errors="replace").rstrip("\r") for line in whole)
        if not some:
            return


def make_disk(disk, programs, seconds):
    """The guest's root: busybox, the programs in /tests, and what they are linked with."""
    with tempfile.TemporaryDirectory(prefix="root-", dir=disk.parent) as root:
        root = Path(root)
        for folder in ("bin", "dev", "proc", "sys", "tmp", "tests", "var/tmp"):
            (root / folder).mkdir(parents=True)
        shutil.copy(HERE / "init", root / "init")
        shutil.copy(which("busybox"), root / "bin")
        applets = subprocess.run([root / "bin/busybox", "--list"], check=True, capture_output=True, text=True).stdout
        for applet in set(applets.split()) - {"busybox"}:
            (root / "bin" / applet).symlink_to("busybox")
        builds = {program.build for program in programs}
        for build in builds:
            shutil.copytree(build, root / "lib" / build.name, symlinks=True, ignore=shutil.ignore_patterns("*.a"))
        put(root, "tests", {program.path for program in programs})
        for file in {file for program in programs for file in program.needs}:
            put(root, file.parent.relative_to("/"), [file])
        put(root, "bin", [Path(found) for found in map(which, GNU) if found])
        add_libraries(root, [build / "libpaluring.so" for build in builds])
        told = (f"{seconds:.0f} {program.build.name} {program.name}\n" for program in programs)
        (root / "tests/list").write_text("".join(told))
        disk.unlink(missing_ok=True)
        subprocess.run([which("mkfs.ext4"), "-q", "-F", "-d", root, disk, DISK_SIZE], check=True, capture_output=True)


def put(root, folder, files):
    (root / folder).mkdir(parents=True, exist_ok=True)
    for file in files:
        (root / folder / file.name).unlink(missing_ok=True)
        shutil.copy2(file, root / folder)  # with its time, by which Python knows what is compiled already
    add_libraries(root, files)


def add_libraries(root, files):
    """The shared objects that files need, as far as they aren't the project's, at the same places."""
    for file in files:
        told = subprocess.run(["ldd", file], capture_output=True, text=True).stdout
        for library in map(Path, re.findall(r"(/\S+\.so\S*)", told)):
            place = root / library.relative_to("/")
            if "paluring" not in library.name and not place.exists():
                place.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(library, place)
