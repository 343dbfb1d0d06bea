# SPDX-License-Identifier: MIT OR Apache-2.0
# `make help` lists the targets. Needs cargo, a C compiler, make, pkg-config and python3.

PREFIX     ?= /usr/local
LIBDIR     ?= $(PREFIX)/lib
INCLUDEDIR ?= $(PREFIX)/include
DESTDIR    ?=
STRIP      ?= strip
CC         ?= cc
CARGO      ?= cargo
PYTHON     ?= python3
PKG_CONFIG ?= pkg-config
CFLAGS     ?= -O2 -g
# The last two guess from what the optimiser sees, and guess differently in each compiler.
WARNINGS   ?= -Wall -Wextra -Wpedantic -Wconversion -Wstrict-prototypes -Werror \
              -Wno-unknown-warning-option -Wno-maybe-uninitialized -Wno-format-truncation
MODEL_CASES ?= 200000
FROM       ?=
TO         ?=
RUN_MIB    ?= 256

# The crate's version, which only Cargo.toml has.
VERSION := $(shell sed -n 's/^version *= *"\([^"]*\)".*/\1/p' Cargo.toml)
SO      := libpaluring.so
SONAME  := $(SO).$(firstword $(subst ., ,$(VERSION)))

# Everything that is built is below TARGET. lib/ holds what C programs link with, one folder for
# each build of the library; cargo builds it in c/, apart from what `cargo build` and `cargo test` make.
TARGET := $(abspath $(or $(CARGO_TARGET_DIR),target))
LIB    := $(TARGET)/lib/release
SHARED  = $(CARGO) rustc --locked --lib --crate-type cdylib
LINKER := -Clinker=$(CURDIR)/tools/versioned-cc
COMPILE = $(CC) -std=c11 -D_GNU_SOURCE -pthread $(CFLAGS) $(WARNINGS) -Iinclude
LINK    = -L$(1) -Wl,--enable-new-dtags,-rpath,$(1) -lpaluring $(LDFLAGS)

EXAMPLES      := $(patsubst examples/%.c,$(TARGET)/examples/%,$(wildcard examples/*.c))
C_TESTS       := $(patsubst c-tests/%.c,$(TARGET)/c-tests/%,$(wildcard c-tests/test_*.c))
POISON_TESTS  := $(filter $(TARGET)/c-tests/test_poison%,$(C_TESTS))
C_HEADERS     := $(wildcard c-tests/*.h)
BENCH_SOURCES := $(wildcard benches/*.c)
THREAD_BENCH  := $(wildcard benches/threads/*.c) benches/figures.c benches/load.c

export CC CARGO PYTHON PKG_CONFIG PALURING_CC = $(CC)
export PYTHONDONTWRITEBYTECODE = 1

# mode:from:to of each installed file; install and uninstall both go by this list.
FILES := \
  644:include/paluring.h:$(INCLUDEDIR)/paluring.h \
  755:$(LIB)/$(SO).$(VERSION):$(LIBDIR)/$(SO).$(VERSION) \
  link:$(SO).$(VERSION):$(LIBDIR)/$(SONAME) \
  link:$(SONAME):$(LIBDIR)/$(SO) \
  644:$(LIB)/libpaluring.a:$(LIBDIR)/libpaluring.a \
  644:$(TARGET)/paluring.pc:$(LIBDIR)/pkgconfig/paluring.pc

.PHONY: help
help: ## list the targets
	@sed -n 's/^\([a-z-]*\):.* ## \(.*\)/  make \1|\2/p' $(MAKEFILE_LIST) | awk -F'|' '{ printf "%-27s %s\n", $$1, $$2 }'

# --- build ---

.PHONY: build
build: ## build the shared and the static library, into target/lib/release
	$(SHARED) --release --target-dir $(TARGET)/c -- $(LINKER)
	$(CARGO) rustc --locked --lib --crate-type staticlib --release --target-dir $(TARGET)/c
	@$(call stage,$(TARGET)/c/release,$(LIB))
	@cmp -s $(TARGET)/c/release/libpaluring.a $(LIB)/libpaluring.a || cp $(TARGET)/c/release/libpaluring.a $(LIB)/

.PHONY: build-debug
build-debug: ## build the shared library that reports the host's mistakes, into target/lib/debug
	$(SHARED) --config profile.dev.opt-level=1 --target-dir $(TARGET)/c -- $(LINKER)
	@$(call stage,$(TARGET)/c/debug,$(TARGET)/lib/debug)

.PHONY: build-fault-hooks
build-fault-hooks: ## build the shared library that panics on demand, into target/lib/fault-hooks
	$(SHARED) --features fault-hooks --target-dir $(TARGET)/fault-hooks -- $(LINKER)
	@$(call stage,$(TARGET)/fault-hooks/debug,$(TARGET)/lib/fault-hooks)

# Without debug information of the crates below: their types are no ABI and their paths this machine's.
.PHONY: build-abi
build-abi: ## build the shared library with full debug information for abidiff, into target/lib/abi
	$(SHARED) --release --target-dir $(TARGET)/abi --config profile.release.debug=2 --config 'profile.release.package."*".debug=0' -- $(LINKER)
	@$(call stage,$(TARGET)/abi/release,$(TARGET)/lib/abi)

# Copies cargo's shared object to a folder, with the names that linker, loader and pkg-config look for.
define stage
  mkdir -p $(2) && \
  { cmp -s $(1)/$(SO) $(2)/$(SO).$(VERSION) || cp $(1)/$(SO) $(2)/$(SO).$(VERSION); } && \
  ln -sf $(SO).$(VERSION) $(2)/$(SONAME) && ln -sf $(SONAME) $(2)/$(SO) && \
  sed -e 's|@INCLUDEDIR@|$(CURDIR)/include|' -e 's|@LIBDIR@|$(2)|' -e 's|@VERSION@|$(VERSION)|' \
    pkgconfig/paluring-uninstalled.pc.in > $(2)/paluring-uninstalled.pc
endef

$(LIB)/$(SO).$(VERSION):
	@$(MAKE) --no-print-directory build
$(TARGET)/lib/fault-hooks/$(SO).$(VERSION):
	@$(MAKE) --no-print-directory build-fault-hooks

# --- programs ---

.PHONY: examples c-tests
examples: $(EXAMPLES) ## build the examples, into target/examples
c-tests: $(C_TESTS) ## build the C tests, into target/c-tests

$(TARGET)/examples/%: examples/%.c $(wildcard examples/*.h) include/paluring.h $(LIB)/$(SO).$(VERSION)
	@mkdir -p $(@D)
	$(COMPILE) -o $@ $< $(call LINK,$(LIB))

$(POISON_TESTS): $(TARGET)/c-tests/%: c-tests/%.c $(C_HEADERS) include/paluring.h $(TARGET)/lib/fault-hooks/$(SO).$(VERSION)
	@mkdir -p $(@D)
	$(COMPILE) -o $@ $< $(call LINK,$(TARGET)/lib/fault-hooks)

$(TARGET)/c-tests/%: c-tests/%.c $(C_HEADERS) include/paluring.h $(LIB)/$(SO).$(VERSION)
	@mkdir -p $(@D)
	$(COMPILE) -o $@ $< $(call LINK,$(LIB))

# --- hosts: event loops that a ring lives in, each with its real library ---

# The packages of pkg-config; hosts without one need nothing more.
HOST_NAMES    := $(filter-out work serve,$(patsubst examples/hosts/%.c,%,$(wildcard examples/hosts/*.c)))
HOST_libuv    := libuv
HOST_glib     := glib-2.0
HOST_libevent := libevent_core
HOST_WORK      = $(addprefix examples/hosts/,work.c serve.c)
HOST_FLAGS     = $(if $(HOST_$*),$(subst -I,-isystem ,$(shell $(PKG_CONFIG) --cflags --libs $(HOST_$*))))
has_package    = $(or $(if $(HOST_$(1)),,$(1)),$(shell $(PKG_CONFIG) --exists $(HOST_$(1)) && echo $(1)))

.PHONY: hosts test-hosts
hosts: $(addprefix $(TARGET)/hosts/,$(foreach host,$(HOST_NAMES),$(call has_package,$(host)))) ## build the event loops of examples/hosts whose libraries are installed, into target/hosts
	@$(foreach host,$(HOST_NAMES),$(if $(call has_package,$(host)),,echo "hosts: not built without $(HOST_$(host)): $(host) (test-hosts names the package)";)) :
test-hosts: ## run a ring in event loops of each kind (needs libuv1-dev, libglib2.0-dev, libevent-dev)
	@$(RUN_TESTS) hosts

$(TARGET)/hosts/%: examples/hosts/%.c $(HOST_WORK) examples/hosts/work.h include/paluring.h $(LIB)/$(SO).$(VERSION)
	@mkdir -p $(@D)
	$(COMPILE) -o $@ $< $(HOST_WORK) $(HOST_FLAGS) $(call LINK,$(LIB))

# Hosts that do something else than they should.
$(TARGET)/hosts/%: c-tests/hosts/%.c $(wildcard examples/hosts/*) include/paluring.h $(LIB)/$(SO).$(VERSION)
	@mkdir -p $(@D)
	$(COMPILE) -Iexamples/hosts -o $@ $< $(HOST_WORK) $(call LINK,$(LIB))

# --- mutations: what the tests notice ---

.PHONY: test-mutations test-main-mutations
test-mutations: ## break the library on purpose in a copy, and see that tests fail; some minutes; MUTATION=name for some
	$(PYTHON) tools/mutate --target $(TARGET) $(MUTATION)
test-main-mutations: ## the same with those that the library stands on
	$(PYTHON) tools/mutate --target $(TARGET) --main

# --- faults: preloaded libraries that have calls fail, and programs to run under them ---

FAULT_LIBRARIES := $(patsubst c-tests/faults/%.c,$(TARGET)/faults/%.so,$(wildcard c-tests/faults/shim*.c))
FAULT_PROGRAMS  := $(patsubst c-tests/faults/%.c,$(TARGET)/faults/%,$(wildcard c-tests/faults/workload*.c))

.PHONY: fault-tools test-faults
fault-tools: $(FAULT_LIBRARIES) $(FAULT_PROGRAMS) ## build what test-faults needs, into target/faults
test-faults: ## run copies and a workload while calls of io_uring fail
	@$(RUN_TESTS) faults

$(TARGET)/faults/%.so: c-tests/faults/%.c
	@mkdir -p $(@D)
	$(CC) -std=c11 $(CFLAGS) $(WARNINGS) -shared -fPIC -o $@ $< -ldl

$(TARGET)/faults/%: c-tests/faults/%.c $(C_HEADERS) include/paluring.h $(LIB)/$(SO).$(VERSION)
	@mkdir -p $(@D)
	$(COMPILE) -o $@ $< $(call LINK,$(LIB))

# --- older kernels: a preloaded library that refuses what they lack, and virtual machines that run them ---

.PHONY: test-fallbacks test-kernels
test-fallbacks: ## run C tests without what older kernels lack, one thing after the other
	@$(RUN_TESTS) fallbacks
test-kernels: ## run the C tests and the hosts in a virtual machine on Debian's older kernels; some minutes (needs qemu-system-x86, busybox-static)
	@$(RUN_TESTS) kernels

.PHONY: run
run: build ## copy a real file with examples/pcp and compare the result; FROM= and TO= choose the files
	@$(MAKE) --no-print-directory $(TARGET)/examples/pcp
	@tools/run-pcp $(TARGET)/examples/pcp $(TARGET)/run $(RUN_MIB) "$(FROM)" "$(TO)"

# --- tests ---

RUN_TESTS = $(PYTHON) tools/run-tests.py --target $(TARGET)

.PHONY: test test-rust test-model test-long test-c test-header test-layout test-install test-examples test-python test-abi
test: ## run all tests; takes some minutes, ends with the counts
	@$(RUN_TESTS) rust header layout c install examples python
test-rust: ## run the Rust tests
	@$(RUN_TESTS) rust
test-model: ## try all orders of threads and memory on the protocols between a ring's threads
	@$(RUN_TESTS) model
test-long: ## try many more random orders than `make test` does; MODEL_CASES=, MODEL_SEED= (else by the clock)
	PALURING_MODEL_CASES=$(MODEL_CASES) PALURING_MODEL_SEED=$(or $(MODEL_SEED),$(shell date +%s)) \
	  $(CARGO) test --locked --lib model -- --nocapture
test-c: ## run the C tests on the release and the debug build; TEST=name for one, TEST_TIMEOUT=seconds
	@$(RUN_TESTS) c
test-header: ## compile the header alone and twice, at each standard of C and C++
	@$(RUN_TESTS) header
test-layout: ## check public structs, exported symbols, soname, dependencies and size
	@$(RUN_TESTS) layout
test-install: ## install into a temporary folder and build programs from there with pkg-config
	@$(RUN_TESTS) install
test-examples: ## run the examples as a user would
	@$(RUN_TESTS) examples
test-python: ## run the Python examples
	@$(RUN_TESTS) python
test-abi: ## compare the ABI with the committed baseline (needs abidiff)
	@$(RUN_TESTS) abi

# --- memory checkers and the soak (tools/checkers.py) ---

# Builds without the debug builds' own checks, which would find the mistakes first.
CHECKED = --features "fault-hooks $(1)" --config profile.dev.opt-level=1 --config profile.dev.debug-assertions=false

# AddressSanitizer's runtime is the Rust compiler's own, linked into the programs; its switch is unstable, hence the bootstrap.
HOST          = $(shell rustc -vV | sed -n 's/^host: //p')
ASAN_RUNTIME  = $(firstword $(wildcard $(shell rustc --print sysroot)/lib/rustlib/$(HOST)/lib/librustc-*_rt.asan.a))
ASAN_PROGRAMS = -Wl,--whole-archive $(ASAN_RUNTIME) -Wl,--no-whole-archive -Wl,--export-dynamic -ldl -lm -lrt

.PHONY: build-unmap build-asan asan-runtime valgrind-waits test-valgrind test-unmap test-asan
build-unmap: ## build the shared library that unmaps freed buffers, into target/lib/unmap
	$(SHARED) $(call CHECKED,unmap-freed) --target-dir $(TARGET)/unmap -- $(LINKER)
	@$(call stage,$(TARGET)/unmap/debug,$(TARGET)/lib/unmap)

build-asan: ## build the shared library with AddressSanitizer, into target/lib/asan
	RUSTC_BOOTSTRAP=1 RUSTFLAGS=-Zsanitizer=address $(SHARED) $(call CHECKED,) --target $(HOST) --target-dir $(TARGET)/asan -- $(LINKER)
	@$(call stage,$(TARGET)/asan/$(HOST)/debug,$(TARGET)/lib/asan)

asan-runtime:
	@[ -f "$(ASAN_RUNTIME)" ] || { echo "this Rust toolchain has no AddressSanitizer for $(HOST)"; exit 1; }

$(TARGET)/c-tests/asan/%: c-tests/%.c $(C_HEADERS) include/paluring.h $(TARGET)/lib/asan/$(SO).$(VERSION)
	@mkdir -p $(@D)
	$(COMPILE) -O1 -fno-omit-frame-pointer -fsanitize=address -c -o $@.o $<
	$(CC) -o $@ $@.o $(call LINK,$(TARGET)/lib/asan) $(ASAN_PROGRAMS)

valgrind-waits: tools/valgrind/waits.c
	@mkdir -p $(TARGET)/valgrind
	$(COMPILE) -shared -fPIC -o $(TARGET)/valgrind/waits.so $< -ldl

$(TARGET)/soak/soak: $(wildcard c-tests/soak/*) $(C_HEADERS) include/paluring.h $(LIB)/$(SO).$(VERSION)
	@mkdir -p $(@D)
	$(COMPILE) -o $@ $(wildcard c-tests/soak/*.c) $(call LINK,$(LIB))

.PHONY: soak test-soak
soak: ## eight threads do random things on rings of each mode; MINUTES=10, SEED= for one that failed
	@SOAK_SECONDS=$$(( $(or $(MINUTES),10) * 60 )) SEED=$(SEED) $(RUN_TESTS) soak
test-soak: ## the soak for half a minute
	@SOAK_SECONDS=30 SEED=$(SEED) $(RUN_TESTS) soak

test-valgrind: ## run the C tests and examples under valgrind; TEST=name for one
	@$(RUN_TESTS) valgrind
test-asan: ## run the C tests with AddressSanitizer on both sides; TEST=name for one
	@$(RUN_TESTS) asan
test-unmap: ## run the C tests with buffers that are unmapped when they are freed; TEST=name for one
	@$(RUN_TESTS) unmap

.PHONY: check
check: build ## check formatting, lints, header, architecture, symbols
	$(CARGO) fmt --check
	$(CARGO) clippy --locked --all-targets -- -D warnings
	$(CARGO) clippy --locked --lib --features fault-hooks -- -D warnings -D clippy::too_many_lines
	$(CARGO) test --locked --quiet --test header --test architecture --test threads
	tools/check-library $(LIB)/$(SO).$(VERSION) $(SONAME)
	@echo "check: all is well"

# --- what is committed and made ---

.PHONY: header symbols abi-baseline
header: ## make include/paluring.h from src/ffi
	PALURING_WRITE_HEADER=1 $(CARGO) test --locked --quiet --test header

symbols: build ## accept the exported symbols as they are
	tools/check-library --list $(LIB)/$(SO).$(VERSION) > c-tests/abi/symbols.txt

abi-baseline: build-abi ## accept the ABI as it is (needs abidw)
	tools/abi --write $(TARGET)/lib/abi/$(SO).$(VERSION) c-tests/abi/baseline.abi

# --- benchmarks ---

LIBURING := $(shell $(PKG_CONFIG) --exists liburing 2>/dev/null && echo yes)
ifeq ($(LIBURING),yes)
BENCH_FLAGS = -DHAVE_LIBURING $(shell $(PKG_CONFIG) --cflags liburing)
BENCH_LIBS  = $(shell $(PKG_CONFIG) --libs liburing)
endif

$(TARGET)/benches/bench: $(BENCH_SOURCES) $(wildcard benches/*.h) include/paluring.h $(LIB)/$(SO).$(VERSION)
	@mkdir -p $(@D)
	$(COMPILE) $(BENCH_FLAGS) -o $@ $(BENCH_SOURCES) $(call LINK,$(LIB)) $(BENCH_LIBS) -lm
	@[ "$(LIBURING)" = yes ] || echo "bench: built without liburing to compare with: apt-get install liburing-dev, then make -B $@"

$(TARGET)/benches/bench-threads: $(THREAD_BENCH) $(wildcard benches/*.h benches/threads/*.h) include/paluring.h $(LIB)/$(SO).$(VERSION)
	@mkdir -p $(@D)
	$(COMPILE) $(BENCH_FLAGS) -o $@ $(THREAD_BENCH) $(call LINK,$(LIB)) $(BENCH_LIBS)
	@[ "$(LIBURING)" = yes ] || echo "bench-threads: built without liburing to compare with: apt-get install liburing-dev, then make -B $@"

.PHONY: bench bench-instructions bench-copy bench-threads test-instructions accept-instructions
bench: build ## measure NOPs and cached reads beside liburing; BENCH_ARGS= for the program
	@$(MAKE) --no-print-directory $(TARGET)/benches/bench
	$(TARGET)/benches/bench $(BENCH_ARGS)

bench-instructions: build ## count instructions for each I/O (needs valgrind); BENCH_ARGS= for the script
	@$(MAKE) --no-print-directory $(TARGET)/benches/bench
	$(PYTHON) benches/instructions.py --bench $(TARGET)/benches/bench $(BENCH_ARGS)

test-instructions: build ## compare instructions for each I/O with the committed figures (needs valgrind)
	@$(MAKE) --no-print-directory $(TARGET)/benches/bench
	$(PYTHON) benches/check_instructions.py --bench $(TARGET)/benches/bench

accept-instructions: build ## accept instructions for each I/O as they are
	@$(MAKE) --no-print-directory $(TARGET)/benches/bench
	$(PYTHON) benches/check_instructions.py --bench $(TARGET)/benches/bench --accept

bench-threads: build ## measure starts by other threads, wakes and waits, beside liburing; prints markdown; BENCH_ARGS= for the program
	@$(MAKE) --no-print-directory $(TARGET)/benches/bench-threads
	$(TARGET)/benches/bench-threads $(BENCH_ARGS)

bench-copy: build ## measure pcp beside cp and dd; BENCH_ARGS= for the script
	@$(MAKE) --no-print-directory $(TARGET)/examples/pcp
	PALURING_BUILD=$(LIB) EXAMPLES=$(TARGET)/examples $(PYTHON) benches/bench_copy.py $(BENCH_ARGS)

# --- install ---

# A path below the prefix is written with it, so that an installation can be moved.
below_prefix = $(patsubst $(PREFIX)/%,$${prefix}/%,$(1))

.PHONY: install uninstall
install: $(LIB)/$(SO).$(VERSION) ## install the library; PREFIX, LIBDIR, INCLUDEDIR, DESTDIR
	@sed -e 's|@PREFIX@|$(PREFIX)|' -e 's|@INCLUDEDIR@|$(call below_prefix,$(INCLUDEDIR))|' \
	  -e 's|@LIBDIR@|$(call below_prefix,$(LIBDIR))|' -e 's|@VERSION@|$(VERSION)|' pkgconfig/paluring.pc.in > $(TARGET)/paluring.pc
	@for file in $(FILES); do \
	  mode=$${file%%:*}; from=$${file#*:}; from=$${from%:*}; to="$(DESTDIR)$${file##*:}"; \
	  mkdir -p "$$(dirname "$$to")" || exit 1; \
	  if [ $$mode = link ]; then ln -sf "$$from" "$$to"; else install -m $$mode "$$from" "$$to"; fi || exit 1; \
	  case $$to in *.so.*.*) $(STRIP) --strip-unneeded "$$to" ;; *.a) $(STRIP) --strip-debug "$$to" ;; esac || exit 1; \
	  echo "installed $$to"; \
	done
	@if [ -z "$(DESTDIR)" ]; then echo "If programs don't find $(SONAME), run ldconfig."; fi

uninstall: ## remove what install has put there, given the same variables
	@for file in $(FILES); do rm -f "$(DESTDIR)$${file##*:}" && echo "removed $(DESTDIR)$${file##*:}" || exit 1; done

.PHONY: clean
clean: ## remove all that was built
	rm -rf $(TARGET)
