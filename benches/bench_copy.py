#!/usr/bin/env python3
# SPDX-License-Identifier: MIT OR Apache-2.0
"""Times examples/pcp beside cp and dd on one large file: from the page cache, and with O_DIRECT.

All commands take turns in random order, and before each the file's copy is removed, everything is
written back and the machine left alone for a moment: writeback makes single runs worthless. A rented
disk may be fast only until a credit is used up: then a longer --settle or a smaller --mib helps.
Fair pairs: pcp flushes its copy to the device before it ends, cp and dd don't. So pcp -n (no
flush) is compared with cp and dd as they are, and pcp with cp and dd whose copy is flushed too.

    bench_copy.py [--dir FOLDER] [--mib 1024] [--rounds 7] [--only "page cache"]
"""
import argparse
import collections
import filecmp
import os
import platform
import random
import shlex
import shutil
import statistics
import subprocess
import sys
import time

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
EXAMPLES = os.environ.get("EXAMPLES", f"{ROOT}/target/examples")

# group, name, command, name of the one it is compared with
Entry = collections.namedtuple("Entry", "group name command peer")
DD = "dd bs=256k iflag=direct oflag=direct status=none if={src} of={dst}"
ENTRIES = [
    Entry("page cache", "cp", "cp {src} {dst}", None),
    Entry("page cache", "pcp -n", "{pcp} -n {src} {dst}", "cp"),
    Entry("page cache, flushed", "cp; sync FILE", "cp {src} {dst} && sync {dst}", None),
    Entry("page cache, flushed", "pcp", "{pcp} {src} {dst}", "cp; sync FILE"),
    Entry("O_DIRECT", "dd", DD, None),
    Entry("O_DIRECT", "pcp -d -n", "{pcp} -d -n {src} {dst}", "dd"),
    Entry("O_DIRECT, flushed", "dd conv=fsync", DD + " conv=fsync", None),
    Entry("O_DIRECT, flushed", "pcp -d", "{pcp} -d {src} {dst}", "dd conv=fsync"),
]


def filesystem_of(path):
    """Type and device of the mount that path is on."""
    path = os.path.realpath(path)
    best = ("", "unknown", "unknown")
    with open("/proc/self/mounts") as mounts:
        for line in mounts:
            device, point, kind = line.split()[:3]
            inside = path == point or path.startswith(point.rstrip("/") + "/")
            if inside and len(point) >= len(best[0]):
                best = (point, kind, device)
    return f"{best[1]} on {best[2]}"


def first_line(path, prefix, default):
    with open(path) as file:
        for line in file:
            if line.startswith(prefix):
                return line.split(":", 1)[1].strip()
    return default


def machine(args):
    memory = int(first_line("/proc/meminfo", "MemTotal", "0 kB").split()[0]) // 1024
    return (f"{first_line('/proc/cpuinfo', 'model name', platform.machine())}, {os.cpu_count()} cores, "
            f"{memory} MiB, {platform.system()} {platform.release()}, "
            f"{time.strftime('%Y-%m-%d', time.gmtime())}, {filesystem_of(args.dir)}, "
            f"{args.mib} MiB, {args.rounds} rounds in random order")


def make_source(path, mib):
    """Bytes that nothing on the way can compress or share."""
    with open(path, "wb") as file:
        for _ in range(mib):
            file.write(random.randbytes(1 << 20))
        file.flush()
        os.fsync(file.fileno())


def settle(src, dst, cached, seconds):
    """The same state before each run: no copy, nothing dirty, the source cached or not."""
    if os.path.exists(dst):
        os.unlink(dst)
    os.sync()
    fd = os.open(src, os.O_RDONLY)
    if cached:
        while os.read(fd, 1 << 20):
            pass
    else:
        os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
    os.close(fd)
    time.sleep(seconds)


def run(entry, args, src, dst):
    """Seconds that the command takes."""
    settle(src, dst, entry.group.startswith("page cache"), args.settle)
    command = entry.command.format(pcp=shlex.quote(args.pcp), src=shlex.quote(src), dst=shlex.quote(dst))
    start = time.perf_counter()
    done = subprocess.run(["sh", "-c", command], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    seconds = time.perf_counter() - start
    if done.returncode != 0:
        sys.exit(f"bench_copy: {command}: {done.stderr.strip()}")
    return seconds


def ways(args, src, dst):
    """Runs each command once, compares its copy, and leaves out what this filesystem can't do."""
    able = []
    for entry in ENTRIES:
        if args.only and not entry.group.startswith(args.only):
            continue
        if entry.group.startswith("O_DIRECT") and not direct_works(args.dir):
            print(f"{entry.name}: left out, no O_DIRECT on this filesystem")
            continue
        run(entry, args, src, dst)
        if not filecmp.cmp(src, dst, shallow=False):
            sys.exit(f"bench_copy: {entry.name}: the copy differs")
        able.append(entry)
    if not able:
        sys.exit("bench_copy: nothing to measure")
    return able


def direct_works(folder):
    path = os.path.join(folder, "direct")
    try:
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_DIRECT, 0o600))
        return True
    except OSError:
        return False
    finally:
        if os.path.exists(path):
            os.unlink(path)


def show(entries, seconds, mib):
    """Rates of each command, and its ratios to its peer: of the medians, and the median of the
    rounds' ratios, which a disk whose mood changes between rounds disturbs less."""
    print(f"{'':20} {'MiB/s':>24}  {'ratio to peer':>16}")
    print(f"{'command':20} {'min':>8}{'median':>8}{'max':>8}  {'medians':>8}{'rounds':>8}")
    group = None
    for entry in entries:
        if entry.group != group:
            group = entry.group
            print(f"\n{group}")
        rates = [mib / s for s in seconds[entry.name]]
        line = f"{entry.name:20} {min(rates):8.0f}{statistics.median(rates):8.0f}{max(rates):8.0f}"
        if entry.peer:
            peer = [mib / s for s in seconds[entry.peer]]
            medians = statistics.median(rates) / statistics.median(peer)
            rounds = statistics.median(ours / theirs for ours, theirs in zip(rates, peer))
            line += f"  {medians:8.2f}{rounds:8.2f}  x {entry.peer}"
        print(line)


def measure(args, folder):
    src, dst = os.path.join(folder, "source"), os.path.join(folder, "copy")
    print(machine(args), flush=True)
    make_source(src, args.mib)
    entries = ways(args, src, dst)
    seconds = collections.defaultdict(list)
    for number in range(args.rounds):
        for entry in random.sample(entries, len(entries)):
            seconds[entry.name].append(run(entry, args, src, dst))
        if sys.stderr.isatty():
            print(f"\rround {number + 1} of {args.rounds} ", end="", file=sys.stderr, flush=True)
    print()
    show(entries, seconds, args.mib)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--dir", default=os.path.dirname(EXAMPLES), help="where the files are made")
    parser.add_argument("--mib", type=int, default=1024, help="size of the file")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--settle", type=float, default=1.0, help="seconds of rest before each run")
    parser.add_argument("--only", metavar="GROUP", help='"page cache", "O_DIRECT", or more of a heading')
    parser.add_argument("--pcp", default=f"{EXAMPLES}/pcp")
    args = parser.parse_args()
    if not os.path.exists(args.pcp):
        sys.exit(f"{args.pcp} is missing: run `make examples` first")
    folder = os.path.join(args.dir, "bench-copy")
    os.makedirs(folder, exist_ok=True)
    try:
        measure(args, folder)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
