#!/usr/bin/env python3
# SPDX-License-Identifier: MIT OR Apache-2.0
"""Counts user-space instructions per I/O with callgrind, the caller's loop included.

Each variant runs twice, with different numbers of I/Os; the difference leaves out all that happens
once. What is left is exact: the same program gives the same count, so it can be compared with a
committed figure.

    instructions.py [--bench FILE] [--work nop] [--depth 64] [VARIANT...]
    instructions.py --profile callback       # where they go
"""
import argparse
import collections
import concurrent.futures
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile

VARIANTS = ["liburing-0", "liburing-tuned", "callback", "batch", "poll", "reap"]
FEW, MANY = 200, 1200  # rounds of `depth` I/Os
ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))


def run(args, variant, count, out, *options):
    """Run one variant under callgrind. None if it is missing from this build."""
    command = ["valgrind", "--tool=callgrind", "--collect-atstart=no", "--toggle-collect=counted*",
               f"--callgrind-out-file={out}", *options, args.bench,
               "--count", variant, str(args.depth), str(count), "--work", args.work]
    done = subprocess.run(command, capture_output=True, text=True)
    if "liburing-dev" in done.stderr:
        return None
    if done.returncode != 0:
        sys.exit(f"{' '.join(command)}\n{done.stderr}")
    with open(out) as file:
        return file.read()


def total(text):
    return int(re.search(r"^(?:summary|totals): (\d+)", text, re.M).group(1))


def measure(args, variant):
    """Instructions per I/O, or None."""
    few, many = FEW * args.depth, MANY * args.depth
    with tempfile.TemporaryDirectory() as folder:
        texts = [run(args, variant, count, f"{folder}/{count}") for count in (few, many)]
    if None in texts:
        return None
    return (total(texts[1]) - total(texts[0])) / (many - few)


# --- where they go ---

def addresses(text):
    """The cost of each instruction, by object file and address, from a dump with --dump-instr=yes.

    Addresses are absolute or relative to the line before ("+3", "-3", "*"), as are line numbers.
    A `calls=` line is followed by one line whose cost is the callee's, which is counted there.
    """
    costs = collections.Counter()
    names = {}
    place = None
    address = 0
    callee = False
    for line in text.splitlines():
        if line.startswith("ob="):
            number, _, name = line[3:].partition(" ")
            place = names.setdefault(number, name)
        elif line.startswith("cob="):
            number, _, name = line[4:].partition(" ")
            if name:
                names.setdefault(number, name)
        elif line.startswith("calls="):
            callee = True
        elif re.match(r"[0-9+*-]", line):
            first, _, cost = line.split()[:3] if len(line.split()) > 2 else (*line.split(), "0")
            address = (address if first == "*" else address + int(first, 0) if first[0] in "+-"
                       else int(first, 16))
            if not callee:
                costs[place, address] += int(cost)
            callee = False
    return costs


def source_of(place, where):
    """For each address in an object file: [(function, file:line), ...], innermost first."""
    command = ["addr2line", "-e", place, "-i", "-f", "-C", "-a"]
    lines = subprocess.run(command, input="\n".join(hex(a) for a in where), capture_output=True,
                           text=True).stdout.splitlines()
    found, stack = {}, []
    at = 0
    while at < len(lines):
        if re.fullmatch(r"0x[0-9a-f]+", lines[at]):
            stack = found.setdefault(int(lines[at], 16), [])
            at += 1
        else:
            name = re.sub(r"::h[0-9a-f]{16}$", "", lines[at])
            stack.append((name, lines[at + 1].split(" (")[0]))
            at += 2
    return found


def show(title, table, count, most):
    print(f"\n{title}")
    for name, cost in table.most_common(most):
        if cost / count >= 0.1:
            print(f"{cost / count:8.2f}  {name}")


def short(path):
    return re.split(r"/registry/src/[^/]+/", path.replace(ROOT + "/", ""))[-1].split("/library/")[-1]


def profile(args, variant):
    few, many = FEW * args.depth, MANY * args.depth
    with tempfile.TemporaryDirectory() as folder:
        texts = [run(args, variant, count, f"{folder}/{count}", "--dump-instr=yes")
                 for count in (few, many)]
    if None in texts:
        sys.exit(f"{variant} is missing from this build")
    costs = addresses(texts[1])
    costs.subtract(addresses(texts[0]))
    outer, inner, lines = collections.Counter(), collections.Counter(), collections.Counter()
    count = many - few
    for place in {place for place, _ in costs}:
        where = [address for p, address in costs if p == place]
        stacks = source_of(place, where)
        for address in where:
            cost = costs[place, address]
            stack = stacks.get(address) or [("??", "??:0")]
            outer[f"{stack[-1][0]}  [{os.path.basename(place)}]"] += cost
            inner[stack[0][0]] += cost
            lines[f"{short(stack[0][1])}  {stack[0][0]}"] += cost
    print(f"{variant}, {args.work}, depth {args.depth}: {sum(costs.values()) / count:.1f} "
          "instructions per I/O")
    show("by function of the machine code", outer, count, 20)
    show("by function of the source, inlined ones apart", inner, count, 30)
    show("by line", lines, count, 40)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--bench", default=f"{ROOT}/target/benches/bench", help="made by make bench")
    parser.add_argument("--work", default="nop", choices=["nop", "read"])
    parser.add_argument("--depth", type=int, default=64)
    parser.add_argument("--json", metavar="FILE", help="write the counts there")
    parser.add_argument("--profile", metavar="VARIANT", help="show where the instructions go")
    parser.add_argument("variants", nargs="*", default=VARIANTS, metavar="VARIANT")
    args = parser.parse_args()
    for tool, package in (("valgrind", "valgrind"), ("addr2line", "binutils")):
        if shutil.which(tool) is None:
            sys.exit(f"{tool} is missing: apt-get install {package}")
    if not os.path.exists(args.bench):
        sys.exit(f"{args.bench} is missing: run `make bench` first")
    if args.profile:
        profile(args, args.profile)
        return
    print(f"user-space instructions per {args.work} at depth {args.depth}, the caller's loop included")
    counts = {}
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        for variant, count in zip(args.variants, pool.map(lambda v: measure(args, v), args.variants)):
            counts[variant] = count
            print(f"{variant:16} {'needs apt-get install liburing-dev' if count is None else f'{count:8.1f}'}",
                  flush=True)
    if args.json:
        with open(args.json, "w") as file:
            json.dump({"work": args.work, "depth": args.depth, "instructions": counts}, file, indent=1)
            file.write("\n")


if __name__ == "__main__":
    main()
