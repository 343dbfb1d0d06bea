# SPDX-License-Identifier: MIT OR Apache-2.0
"""Suites that run the C tests on older kernels, or on this one with what older ones lack refused; run-tests.py registers them."""

import os
from concurrent.futures import ThreadPoolExecutor
from threading import Lock

import __main__ as runner  # run-tests.py, which imports this
import hosts
from kernels import vm

# What a kernel may lack (the words are c-tests/faults/older.c's), and the tests that look at how the library does without.
WITHOUT = ["send_msg_ring", "defer_taskrun", "defer_taskrun,single_issuer,no_sqarray,taskrun_flag,submit_all", "membarrier", "ring_fds", "alloc_range"]
WITHOUT.append(",".join(WITHOUT))
FALLBACK_TESTS = "threads drive event shared close orphan deadline kept io cancel progress quirks files".split()
# A program may take long in a virtual machine.
TIMEOUT = float(os.environ.get("TEST_TIMEOUT", "240"))
# One build for each program: the one on which most of its cases say something.
BUILDS = {name: "debug" for name in ("test_abuse", "test_mistakes", "test_released_rings")} | {"test_poison": "fault-hooks"}


def fallbacks(counts, target):
    """C tests that go by what the kernel has, without each of what older ones lack."""
    fault = runner.make("build") or runner.make(str(target / "faults/older.so")) or runner.make("c-tests")
    if fault:
        return counts.fail("fallbacks", fault)
    chosen = os.environ.get("TEST", "")
    shim = {"LD_PRELOAD": str(target / "faults/older.so"), "PALURING_TEST_TRIES": "20"}

    def run_without(without):
        environment = {**shim, "PALURING_WITHOUT": without}
        for test in (test for test in FALLBACK_TESTS if chosen in test):
            program = target / "c-tests" / f"test_{test}"
            runner.run_c_test(counts, f"without {without}: {test}", program, target / "lib/release", environment)

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        list(pool.map(run_without, WITHOUT))


def kernels(counts, target):
    """The C tests and the hosts on older kernels, in a virtual machine."""
    if missing := vm.missing():
        return counts.skip("kernels", f"not installed: apt-get install {' '.join(missing)}")
    fault = runner.make("build") or runner.make("build-debug") or runner.make("build-fault-hooks") or runner.make("c-tests")
    if fault:
        return counts.fail("kernels", fault)
    chosen = os.environ.get("TEST", "")
    names = [path.stem for path in sorted(runner.ROOT.glob("c-tests/test_*.c")) if chosen in path.stem]
    programs = [vm.Program(target / "c-tests" / name, target / "lib" / BUILDS.get(name, "release")) for name in names]
    programs += hosts.for_kernels(counts, target, chosen)
    told = Lock()

    def run_on(package):
        for name, status, output, took in vm.run(target / "kernels", package, programs, TIMEOUT):
            with told:
                runner.tell(counts, f"kernels: {name}", status, output, took or 0, TIMEOUT)

    with ThreadPoolExecutor() as pool:  # side by side: they wait a lot
        list(pool.map(run_on, vm.KERNELS))


SUITES = {suite.__name__: suite for suite in (fallbacks, kernels)}
