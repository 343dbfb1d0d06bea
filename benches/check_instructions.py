#!/usr/bin/env python3
# SPDX-License-Identifier: MIT OR Apache-2.0
"""Compares instructions per I/O with the committed figures (instructions.json): more than 3 % over one of them is a failure.

    check_instructions.py [--bench FILE]            # compare
    check_instructions.py [--bench FILE] --accept   # write what is counted now, to be committed
"""
import argparse
import concurrent.futures
import json
import os
import shutil
import sys
from types import SimpleNamespace

import instructions

FIGURES = os.path.join(os.path.dirname(os.path.abspath(__file__)), "instructions.json")
VARIANTS = ("callback", "batch", "poll", "reap")
DEPTHS = (1, 64)
MOST = 1.03


def count(bench):
    """Instructions per NOP, by "variant, depth"."""
    cells = [(variant, depth) for depth in DEPTHS for variant in VARIANTS]

    def one(cell):
        return instructions.measure(SimpleNamespace(bench=bench, work="nop", depth=cell[1]), cell[0])

    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        counts = pool.map(one, cells)
        return {f"{variant}, depth {depth}": round(counted, 1) for (variant, depth), counted in zip(cells, counts)}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--bench", default=f"{instructions.ROOT}/target/benches/bench", help="made by make bench")
    parser.add_argument("--accept", action="store_true", help="write the figures instead of comparing")
    arguments = parser.parse_args()
    if shutil.which("valgrind") is None:
        print("skipped: instructions per I/O: valgrind is not installed: apt-get install valgrind\n0 passed, 0 failed, 1 skipped")
        return 0
    counts = count(arguments.bench)
    if arguments.accept:
        with open(FIGURES, "w", encoding="utf-8") as file:
            json.dump(counts, file, indent=1)
            file.write("\n")
        return print(f"written to {FIGURES}: commit it")
    with open(FIGURES, encoding="utf-8") as file:
        figures = json.load(file)
    failed = [name for name in figures if counts.get(name, 0) > figures[name] * MOST]
    for name, figure in figures.items():
        print(f"{'FAILED' if name in failed else 'ok':7}{name:20} {counts.get(name, 0):8.1f}, committed {figure:8.1f}")
    if failed:
        print("More than 3 % over. If that is meant: make accept-instructions, and commit benches/instructions.json")
    print(f"{len(figures) - len(failed)} passed, {len(failed)} failed, 0 skipped")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
