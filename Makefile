# The short commands; CMake does the building. `make help` lists them.

BUILD   ?= build
JOBS    ?= $(shell nproc)
PREFIX  ?= /usr/local
DESTDIR ?=
ARGS    ?=
SANITIZED ?= unit

export JOBS

.DEFAULT_GOAL := build
.PHONY: build demo run check check-debian13 soak lint format asan tsan fuzz bench benches man install uninstall clean \
  deps help

# What asan and fuzz are built with, in one folder: clang compiles sanitized code in two thirds of the time that g++
# takes, and has libFuzzer, whose targets use the same libraries.
CLANG := -DCMAKE_C_COMPILER=clang-19 -DCMAKE_CXX_COMPILER=clang++-19
ASAN_BUILD := $(CLANG) -DBLOBCACHE_SANITIZE=address,undefined -DBLOBCACHE_FUZZ=ON

# configure(folder, options): once; CMake itself sees later changes. A first try that failed starts afresh, since
# the generator may be another one after `make deps`.
define configure
@command -v cmake >/dev/null || { echo "cmake is missing: run  make deps" >&2; exit 1; }
@test -e $(1)/build.ninja -o -e $(1)/Makefile || cmake --fresh -S . -B $(1) \
  $$(command -v ninja >/dev/null && echo -GNinja) $(2)
endef

# build: compiles both programs, build/bin/blobcached and build/bin/blobcachectl
build:
	$(call configure,$(BUILD))
	@cmake --build $(BUILD) -j $(JOBS)

# demo: installs what is missing, builds, and shows both doors on real files; leaves nothing behind
demo:
	@tools/deps build demo
	@$(MAKE) --no-print-directory build
	@tools/demo $(BUILD)/bin

# run: a daemon on build/run, with its sockets there, until Ctrl-C
run: build
	@tools/run $(BUILD)/bin $(BUILD)/run

# check: installs what is missing, builds, runs the unit and system tests; some boot a machine in software (test/guest)
check:
	@tools/deps build demo test $(if $(filter x86_64,$(shell uname -m)),guest)
	@$(MAKE) --no-print-directory build
	@tools/guest-kernel $(BUILD)/guest >/dev/null || echo "the tests that boot a machine will be skipped"
	@tools/check $(BUILD) 'unit|system'

# check-debian13: the same on a Debian 13, whose libfuse has passthrough; makes one by debootstrap in build-debian13
#       (as root) and leaves it there for the next time. COMMAND="..." runs another command in it
check-debian13:
	@tools/debian13 $(BUILD)-debian13 $(or $(COMMAND),$(MAKE) --no-print-directory check BUILD=$(BUILD)-debian13/build)

# soak: the crash tests of `make check` at length: ROUNDS=150 kills, rounds of gc and killed rebuilds, POWER_CUTS=400
#       power cuts, and where clang is the fuzz targets, FUZZ_SECONDS=60 each; about half an hour
soak:
	@tools/deps build demo test
	@$(MAKE) --no-print-directory build
	@tools/soak $(BUILD)/bin

# lint: format, clang-tidy and thread-safety with clang 19, includes, headers, scripts, man pages.
#       LINT_SINCE=main looks with clang-tidy only at what changed since then
lint:
	@tools/deps build demo lint
	$(call configure,$(BUILD)-clang,$(CLANG) -DBLOBCACHE_PRECOMPILE=OFF)
	@tools/check $(BUILD)-clang lint

# format: formats all C++ sources in place
format:
	@tools/deps lint
	@git ls-files '*.cc' '*.h' | xargs clang-format-19 -i

# asan: builds with AddressSanitizer and UndefinedBehaviorSanitizer (build-asan) and runs the unit tests;
#       SANITIZED=race only those that `make tsan` has, too, which takes a third of the time
# tsan: builds with ThreadSanitizer (build-tsan) and runs those of the rooms that share memory between threads
asan:
	@tools/deps build sanitize
	$(call configure,$(BUILD)-asan,$(ASAN_BUILD))
	@cmake --build $(BUILD)-asan -j $(JOBS) --target $(if $(filter race,$(SANITIZED)),race_tests,unit_tests)
	@tools/check $(BUILD)-asan $(SANITIZED)
tsan:
	@tools/deps build
	$(call configure,$(BUILD)-tsan,-DBLOBCACHE_SANITIZE=thread)
	@cmake --build $(BUILD)-tsan -j $(JOBS) --target race_tests
	@tools/check $(BUILD)-tsan race

# fuzz: runs each fuzz target (test/fuzz), built in build-asan, for 30 seconds (FUZZ_SECONDS);
#       FUZZ_RUNS=N instead: so many inputs each, however long they take
fuzz:
	@tools/deps build sanitize
	$(call configure,$(BUILD)-asan,$(ASAN_BUILD))
	@cmake --build $(BUILD)-asan -j $(JOBS) --target fuzz
	@tools/fuzz $(BUILD)-asan \
	  $(if $(FUZZ_RUNS),-runs=$(FUZZ_RUNS),-max_total_time=$(or $(FUZZ_SECONDS),30)) $(ARGS)

# bench: builds and runs every benchmark; bench-NAME only bench/NAME*, with ARGS="..." passed on
bench:
	@tools/deps build demo test bench
	$(call configure,$(BUILD)-bench,-DBLOBCACHE_BENCH=ON -DBUILD_TESTING=OFF)
	@cmake --build $(BUILD)-bench -j $(JOBS)
	@tools/bench $(BUILD)-bench/bin '' $(ARGS)
bench-%:
	@tools/deps build demo test bench
	$(call configure,$(BUILD)-bench,-DBLOBCACHE_BENCH=ON -DBUILD_TESTING=OFF)
	@cmake --build $(BUILD)-bench -j $(JOBS)
	@tools/bench $(BUILD)-bench/bin '$*' $(ARGS)

# benches: compiles the benchmarks, beside the programs in the build folder, and runs none
benches:
	@tools/deps build bench
	$(call configure,$(BUILD))
	@cmake -S . -B $(BUILD) -DBLOBCACHE_BENCH=ON >/dev/null
	@status=0; cmake --build $(BUILD) -j $(JOBS) --target benches || status=1; \
	cmake -S . -B $(BUILD) -DBLOBCACHE_BENCH=OFF >/dev/null && exit $$status

# man: checks the man pages and renders them as text and HTML into build/man
man:
	@command -v mandoc >/dev/null || tools/deps lint
	@mkdir -p $(BUILD)/man
	@for page in man/*.[1-9]; do \
	  mandoc -T lint -W warning $$page || exit 1; \
	  mandoc -T utf8 $$page | sed "s/.\x08//g" >$(BUILD)/man/$$(basename $$page).txt; \
	  mandoc -T html -O style=mandoc.css $$page >$(BUILD)/man/$$(basename $$page).html; \
	done
	@ls $(BUILD)/man/*

# install, uninstall: programs, man pages, completions, the service, under $(DESTDIR)$(PREFIX)
install: build
	@DESTDIR=$(DESTDIR) cmake --install $(BUILD) --prefix $(PREFIX)
uninstall:
	@sed 's|^|$(DESTDIR)|' $(BUILD)/install_manifest.txt | xargs -d '\n' rm -fv

# clean: removes everything that was built
clean:
	rm -rf --one-file-system $(BUILD) $(BUILD)-clang $(BUILD)-asan $(BUILD)-tsan $(BUILD)-bench $(BUILD)-ci \
	  $(BUILD)-debian13

# deps: installs the Debian packages for building, testing and linting (as root or with sudo)
deps:
	@tools/deps

# help: this list
help:
	@sed -n 's/^# \([a-z, ]*\): /\1\t/p; s/^#       \(.*\)/\t\1/p' Makefile | expand -t 20
