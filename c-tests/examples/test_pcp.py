#!/usr/bin/env python3
# SPDX-License-Identifier: MIT OR Apache-2.0
"""examples/pcp.c copies real files, says what is wrong as cp does, and leaves no half-written file."""

import os
import resource
import signal
import stat
import subprocess

from cases import EXAMPLES, Skip, as_nobody, case, end, fill, main, run, same, same_files, spawn, until
from pcp import FOLDERS, SLOW, SLOW_SIZE, Folder

BLOCK = 256 * 1024  # pcp's default
SIZES = [0, 1, 4095, 4096, 4097, BLOCK - 1, BLOCK, BLOCK + 1, 20 * BLOCK + 777]


def copy(*arguments, **options):
    """A copy that must succeed, silently."""
    same(run("pcp", *arguments, **options), (0, "", ""), "status, stdout, stderr")


def refused(*arguments, says, folder, **options):
    """A copy that must fail with that message and neither add nor remove a file."""
    before = sorted(os.listdir(folder))
    same(run("pcp", *arguments, cwd=folder, **options), (1, "", f"pcp: {says}\n"), "status, stdout, stderr")
    same(sorted(os.listdir(folder)), before, "the list of files")


# --- content ---


def content(place, options):
    with Folder(place, direct="-d" in options) as folder:
        for size in SIZES:
            source, target = fill(folder / "from", size, seed=size), folder / "to"
            target.unlink(missing_ok=True)
            copy(*options, source, target)
            same_files(source, target)


for where in FOLDERS:
    for flags in [], ["-n"], ["-d"], ["-q", "1"], ["-q", "64", "-b", "4K"], ["-d", "-q", "64", "-b", "4K"], ["-b", "1000"]:
        case(" ".join(["files of all sizes on", where, *flags]), where, flags)(content)


@case("a block larger than the file")
def large_block():
    with Folder() as folder:
        copy("-b", "1G", "-q", "1024", fill(folder / "from", 5000), folder / "to")
        same_files(folder / "from", folder / "to")


@case("1 GiB, and with -d")
def gibibyte():
    with Folder(room=3 << 30) as folder:
        source = fill(folder / "from", 1 << 30)
        for flags in [], ["-d"]:
            with Folder(direct=bool(flags)) as other:
                copy(*flags, source, other, timeout=120)
                same_files(source, other / "from")


def sparse(size, pieces, *flags):
    """Data at some places, and holes between them."""
    with Folder(direct="-d" in flags) as folder:
        source, target = folder / "from", folder / "to"
        with open(source, "wb") as file:
            for position, data in pieces:
                file.seek(position)
                file.write(data)
            file.truncate(size)
        copy(*flags, source, target)
        same_files(source, target)
        if os.stat(source).st_blocks * 512 > size // 2:
            raise Skip("this file system makes no holes, only the content was compared")
        written = os.stat(target).st_blocks * 512
        assert written < size // 2, f"the holes are filled: {written} bytes are allocated for {size}"


for flags in [], ["-d"]:
    case(" ".join(["sparse, data at both ends and between", *flags]), 100 << 20,
         [(0, b"begin"), (33_333_333, b"between" * 9999), ((100 << 20) - 3, b"end")], *flags)(sparse)
    case(" ".join(["sparse, holes at both ends", *flags]), 100 << 20, [(50_000_000, b"data")], *flags)(sparse)
    case(" ".join(["sparse, nothing but a hole", *flags]), (100 << 20) + 5, [], *flags)(sparse)


# --- what else is kept, and where it goes ---


@case("the mode is kept, whatever the umask and the target's mode")
def mode():
    with Folder() as folder:
        source, target = fill(folder / "from", 100), folder / "to"
        for bits in 0o600, 0o644, 0o755, 0o777, 0o444:
            source.chmod(bits)
            for umask in 0, 0o077:
                target.unlink(missing_ok=True)
                for _ in "new", "existing":
                    copy(source, target, umask=umask)
                    same(oct(stat.S_IMODE(target.stat().st_mode)), oct(bits), "the mode")
                    target.chmod(0o640)


@case("an existing target is replaced, a longer one too")
def replaced():
    for flags in [], ["-d"]:
        with Folder(direct=bool(flags)) as folder:
            fill(folder / "to", 3 * BLOCK, seed=1)
            copy(*flags, fill(folder / "from", BLOCK + 5), folder / "to")
            same_files(folder / "from", folder / "to")


@case("into a directory")
def into_directory():
    with Folder() as folder:
        (folder / "into").mkdir()
        fill(folder / "from", 1000)
        for source, target in ("from", "into"), (folder / "from", "into/"), ("./from", f"{folder}/into"):
            copy(source, target, cwd=folder)
            same_files(folder / "from", folder / "into/from")
            (folder / "into/from").unlink()


@case("through a symbolic link")
def through_link():
    with Folder() as folder:
        fill(folder / "from", 1000)
        fill(folder / "real", 10)
        (folder / "link").symlink_to("real")
        (folder / "dangling").symlink_to("new")
        copy("from", "link", cwd=folder)
        same_files(folder / "from", folder / "real")
        copy("from", "dangling", cwd=folder)
        same_files(folder / "from", folder / "new")
        assert (folder / "link").is_symlink() and (folder / "dangling").is_symlink()


# --- what is refused ---


@case("a missing source")
def missing_source():
    with Folder() as folder:
        refused("x", "y", says="cannot open 'x': No such file or directory", folder=folder)
        fill(folder / "y", 10)
        refused("x", "y", says="cannot open 'x': No such file or directory", folder=folder)
        same((folder / "y").stat().st_size, 10, "the size of the existing target")


@case("an unreadable source, an unwritable target or directory")
def permissions():
    with Folder() as folder:
        fill(folder / "x", 10)
        fill(folder / "readonly", 10, seed=1).chmod(0o444)
        fill(folder / "secret", 10).chmod(0o000)
        (folder / "closed").mkdir(mode=0o555)
        user = as_nobody("pcp")
        denied = {"folder": folder, **user}
        refused("secret", "y", says="cannot open 'secret': Permission denied", **denied)
        refused("x", "readonly", says="cannot create 'readonly': Permission denied", **denied)
        refused("x", "closed", says="cannot create 'closed/x': Permission denied", **denied)
        same((folder / "readonly").stat().st_size, 10, "the size of the existing target")


@case("a directory that isn't there")
def missing_directory():
    with Folder() as folder:
        fill(folder / "x", 10)
        refused("x", "no/y", says="cannot create 'no/y': No such file or directory", folder=folder)


@case("the same file, by name and by link")
def same_file():
    with Folder() as folder:
        fill(folder / "x", 1000)
        fill(folder / "copy", 1000)
        (folder / "hard").hardlink_to(folder / "x")
        (folder / "soft").symlink_to("x")
        for flags in [], ["-d"]:
            for other in "x", "./x", "hard", "soft":
                refused(*flags, "x", other, says=f"'x' and '{other}' are the same file", folder=folder)
        refused("x", ".", says="'x' and './x' are the same file", folder=folder)
        same_files(folder / "copy", folder / "x")


@case("what is no regular file")
def irregular():
    with Folder() as folder:
        fill(folder / "x", 10)
        os.mkfifo(folder / "fifo")
        (folder / "directory").mkdir()
        for other in "fifo", "directory", "/dev/zero":
            refused(other, "y", says=f"'{other}' is not a regular file", folder=folder)
        for other in "fifo", "/dev/null":
            refused("x", other, says=f"'{other}' is not a regular file", folder=folder)
        refused("/proc/self/status", "y", says="'/proc/self/status' has content but no size", folder=folder)


@case("a wrong command line")
def command_line():
    depth, block = "DEPTH must be a number from 1 to 1024", "BLOCK must be a number of bytes from 1 to 1G"
    with Folder() as folder:
        fill(folder / "x", 10)
        for value in "0", "-1", "1025", "x", "", "8x", "99999999999999999999":
            refused("-q", value, "x", "y", says=depth, folder=folder)
        for value in "0", "-1", "2G", "1025M", "4KK", "K", "4k", "4 K", "18446744073709551617", "17179869185G":
            refused("-b", value, "x", "y", says=block, folder=folder)
        refused("-d", "-b", "1000", "x", "y", says="with -d BLOCK must be a multiple of 4K", folder=folder)
        for operands in [], ["x"], ["x", "y", "z"]:
            refused(*operands, says="SOURCE and TARGET are needed; -h shows all", folder=folder)
        status, _, errors = run("pcp", "-z", "x", "y", cwd=folder)
        assert status == 1 and "invalid option" in errors, (status, errors)
        status, output, errors = run("pcp", "-h")
        assert status == 0 and output.startswith("Usage: pcp ") and not errors, (status, output, errors)


# --- failures and ends on the way ---


class Slow:
    """A copy that takes a while, stopped by SIGSTOP in its midst."""

    def __init__(self, folder, *flags, hole=0, **spawning):
        self.source, self.target = fill(folder / "from", SLOW_SIZE), folder / "to"
        os.truncate(self.source, SLOW_SIZE + hole)
        self.process = spawn("pcp", *flags, *SLOW, self.source, self.target, **spawning)
        try:
            until(lambda: self.has_written(1 << 20), "a MiB is written")
            self.signal(signal.SIGSTOP)
            until(lambda: self.state() == "T", "pcp is stopped")
            assert not self.has_written(SLOW_SIZE // 10 * 9), "it was stopped too late"
        except BaseException:
            self.process.kill()
            self.process.communicate()
            raise

    def has_written(self, offset):
        """Whether the target has data there: what isn't written yet reads as zeros."""
        assert self.process.poll() is None, f"pcp has ended: {end(self.process)}"
        try:
            with open(self.target, "rb") as file:
                return any(os.pread(file.fileno(), 4096, offset))
        except FileNotFoundError:
            return False

    def state(self):
        with open(f"/proc/{self.process.pid}/stat") as file:
            return file.read().rsplit(")", 1)[1].split()[0]

    def signal(self, number):
        os.kill(self.process.pid, number)

    def go_on(self):
        """Lets it run to its end: status and stderr."""
        self.signal(signal.SIGCONT)
        return end(self.process)


def resized(size, *flags, hole=0):
    """The source gets another size while it is copied."""
    with Folder(direct="-d" in flags, room=2 * SLOW_SIZE) as folder:
        slow = Slow(folder, *flags, hole=hole)
        os.truncate(slow.source, size)
        outcome = slow.go_on()
        if size < SLOW_SIZE + hole:
            same(outcome, (1, f"pcp: '{slow.source}' has shrunk while it was copied\n"), "status and stderr")
            same(os.listdir(folder), ["from"], "the list of files")
        else:
            same(outcome, (0, ""), "status and stderr")
            os.truncate(slow.source, SLOW_SIZE)
            same_files(slow.source, slow.target)


for flags in [], ["-d"]:
    case(" ".join(["the source shrinks to nothing", *flags]), 0, *flags)(resized)
    case(" ".join(["the source shrinks by its last bytes", *flags]), SLOW_SIZE - 5, *flags)(resized)
case("the source shrinks in the hole at its end")(lambda: resized(SLOW_SIZE + 5000, hole=1 << 20))
case("the source grows, and is copied as it was", SLOW_SIZE + 5000)(resized)


def interrupted(number, status, *flags):
    with Folder(direct="-d" in flags, room=2 * SLOW_SIZE) as folder:
        slow = Slow(folder, *flags)
        slow.signal(number)
        same(slow.go_on(), (status, ""), "status and stderr")
        same(os.listdir(folder), ["from"], "the list of files")


case("SIGINT ends it", signal.SIGINT, 130)(interrupted)
case("SIGINT ends it -d", signal.SIGINT, 130, "-d")(interrupted)
case("SIGTERM ends it", signal.SIGTERM, 143)(interrupted)


@case("SIGINT with many blocks in flight")
def interrupted_busy():
    for flags in [], ["-d"]:
        with Folder(direct=bool(flags), room=2 * SLOW_SIZE) as folder:
            process = spawn("pcp", *flags, "-q", "256", "-b", "4K", fill(folder / "from", SLOW_SIZE), folder / "to")
            until((folder / "to").exists, "the target is there")
            process.send_signal(signal.SIGINT)
            same(end(process), (130, ""), "status and stderr")
            same(os.listdir(folder), ["from"], "the list of files")


@case("SIGINT that was ignored stays ignored")
def ignored():
    with Folder(room=2 * SLOW_SIZE) as folder:
        slow = Slow(folder, preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_IGN))
        slow.signal(signal.SIGINT)
        same(slow.go_on(), (0, ""), "status and stderr")
        same_files(slow.source, slow.target)


def too_large(*flags):
    """Beyond ulimit -f: an error of a write, after others have succeeded."""
    limit = 5 * BLOCK + 8192
    with Folder(direct="-d" in flags) as folder:
        fill(folder / "x", 20 * BLOCK)
        fill(folder / "longer", 30 * BLOCK)
        for target in "new", "longer":
            status = run("pcp", *flags, "x", target, cwd=folder,
                         preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit)))
            same(status, (1, "", f"pcp: error writing '{target}': File too large\n"), "status, stdout, stderr")
            assert not (folder / target).exists(), "the half-written target is still there"


case("the target grows beyond a limit")(too_large)
case("the target grows beyond a limit -d", "-d")(too_large)


@case("a failed copy through a link leaves the link and no file")
def failed_through_link():
    with Folder() as folder:
        fill(folder / "x", 20 * BLOCK)
        fill(folder / "real", 10)
        (folder / "link").symlink_to("real")
        status, _, _ = run("pcp", "x", "link", cwd=folder,
                           preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (BLOCK, BLOCK)))
        same((status, sorted(os.listdir(folder))), (1, ["link", "x"]), "the status, and the list of files")


def mounted(kind, options, *arguments):
    """Copies x to mnt/y, on a file system mounted for that alone: status and message, then mnt's files."""
    with Folder() as folder:
        fill(folder / "x", 4 << 20)
        (folder / "mnt").mkdir()
        script = f'mount -t {kind} -o {options} none mnt || exit 77; "$@"; echo "status $?"; ls -A mnt'
        command = ["unshare", "--mount", *(["--map-root-user"] if os.geteuid() != 0 else []), "sh", "-c", script, "sh"]
        try:
            ran = subprocess.run([*command, EXAMPLES / "pcp", *arguments], cwd=folder, stdin=subprocess.DEVNULL,
                                 stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=60)
        except OSError as error:
            raise Skip(f"unshare(1): {error.strerror}")
        if "status " not in ran.stdout:
            raise Skip(f"no {kind} may be mounted here: {ran.stdout.strip()}")
        return ran.stdout


@case("a full disk")
def full():
    for flags in [], ["-d"]:
        found = mounted("tmpfs", "size=1M", *flags, "x", "mnt/y")
        if flags and "O_DIRECT" in found:
            return  # a kernel whose tmpfs has none
        same(found, "pcp: error writing 'mnt/y': No space left on device\nstatus 1\n", "what it says, and the files")


@case("-d where there is no O_DIRECT")
def no_direct():
    found = mounted("ramfs", "mode=755", "-d", "x", "mnt/y")
    same(found, "pcp: cannot use O_DIRECT on 'mnt/y': Invalid argument\nstatus 1\n", "what it says, and the files")


# --- progress ---


main()
