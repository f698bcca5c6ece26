# POSIX make: GNU make and BSD make read it alike. Everything that is built goes under build/.

CC ?= cc
CFLAGS ?= -O2 -g
LDFLAGS ?=
# Empty it where a newer compiler warns of something new.
WERROR ?= -Werror
AWK ?= awk
PREFIX ?= /usr/local
DESTDIR ?=

# Lanes of tests/run.sh: how to build the library and what to run with it.
LANES = header examples docs install sched c11 posix generic
GATES = helgrind memcheck children gcc-tsan clang-tsan gcc-asan clang-asan gcc-header clang-header \
	matrix static bench mutants plants models clang-examples musl-gcc-examples clang-c11 clang-posix \
	musl-gcc-c11 musl-gcc-posix

incdir = $(DESTDIR)$(PREFIX)/include
docdir = $(DESTDIR)$(PREFIX)/share/doc/cfutures
mandir = $(DESTDIR)$(PREFIX)/share/man/man3
pcdir = $(DESTDIR)$(PREFIX)/share/pkgconfig
pages = $(AWK) -f .man/pages.awk
env = MAKE='$(MAKE)' CC='$(CC)' CFLAGS='$(CFLAGS)' LDFLAGS='$(LDFLAGS)' WERROR='$(WERROR)'

all: examples ## build the examples (the library itself is one header: nothing to build)

help: ## show this list
	@echo 'cfutures.h: copy it into your project, or `make install`. Here you can'
	@echo
	@sed -n 's/^\([a-z]*\):.*## /\1|/p' Makefile | awk -F'|' '{ printf "  make %-10s %s\n", $$1, $$2 }'
	@echo
	@echo 'with CC=$(CC) CFLAGS="$(CFLAGS)" LDFLAGS="$(LDFLAGS)" PREFIX=$(PREFIX) DESTDIR=$(DESTDIR)'
	@echo 'LANES="$(LANES)" and GATES: see tests/run.sh'

examples: ## build every program in examples/ by the command of its first line, into build/examples/
	@$(env) sh tests/check_examples.sh build

demo: ## download the flags of 20 countries in five styles, from a server of its own
	@$(env) sh tests/check_examples.sh build flags
	@mkdir -p build/demo && cd build/demo && ../examples/flags

pictures: ## draw the pictures of README.md: what ran on which worker, and when
	@$(env) sh tests/check_examples.sh build timeline
	@mkdir -p examples/pictures
	build/examples/timeline --svg examples/pictures/loiter.svg loiter
	build/examples/timeline --processes --svg examples/pictures/flags.svg flags

test: ## run all tests on each backend, check header, examples and documents (under 2 minutes)
	@$(env) sh tests/run.sh $(LANES)

check: ## the long gate: sanitizers, valgrind, other compilers; what is not installed is skipped
	@$(env) sh tests/run.sh $(GATES)

matrix: ## every compiler, processor and system that this machine can build for: a table
	@$(env) sh tests/matrix.sh

soak: ## the gates in their long form, for MINUTES=60 or SECONDS=60, with a table at the end
	@$(env) SECONDS_TO_SOAK='$(SECONDS)' MINUTES='$(MINUTES)' sh tests/soak.sh

fuzz: ## fuzz what the processes of a pool tell each other, for SECONDS=60
	@$(env) SECONDS_TO_FUZZ='$(SECONDS)' sh tests/fuzz.sh

coverage: ## which lines and branches of the header the tests reach, by gcc's gcov
	@$(env) sh tests/coverage.sh

mutation: ## do the tests notice N=20 random errors in the header?
	@$(env) sh tests/mutate.sh $(N) $(SEED)

bench: ## measure, beside other libraries where they are installed
	@if [ -f tests/bench/run.sh ]; then $(env) sh tests/bench/run.sh; \
	else echo 'there is no tests/bench/run.sh'; fi

table: ## write what the last `make bench` measured into README.md
	@$(env) sh tests/bench/table.sh

man: ## turn the header's comments into manual pages in build/man/: man -l build/man/cfutures.3
	@mkdir -p build/man
	$(pages) -v dir=build/man cfutures.h

install: ## install the header, its documents and cfutures.pc under DESTDIR and PREFIX
	mkdir -p "$(incdir)" "$(docdir)" "$(mandir)" "$(pcdir)"
	cp cfutures.h "$(incdir)/cfutures.h"
	cp README.md LICENSE "$(docdir)/"
	@{ echo 'prefix=$(PREFIX)'; echo 'includedir=$${prefix}/include'; echo; \
	echo 'Name: cfutures'; \
	echo "Description: Python's concurrent.futures for C11, in one header"; \
	sed -n 's/^#define CFUTURES_VERSION_STRING "\(.*\)"/Version: \1/p' cfutures.h; \
	echo 'Cflags: -I$${includedir}'; echo 'Libs: -pthread'; } >"$(pcdir)/cfutures.pc"
	chmod 644 "$(incdir)/cfutures.h" "$(docdir)/README.md" "$(docdir)/LICENSE" "$(pcdir)/cfutures.pc"
	$(pages) -v dir="$(mandir)" cfutures.h
	@for page in `$(pages) -v list=1 cfutures.h`; do chmod 644 "$(mandir)/$$page" || exit; done

uninstall: ## remove exactly that
	rm -f "$(incdir)/cfutures.h" "$(docdir)/README.md" "$(docdir)/LICENSE" "$(pcdir)/cfutures.pc"
	@for page in `$(pages) -v list=1 cfutures.h`; do rm -f "$(mandir)/$$page" || exit; done
	[ ! -d "$(docdir)" ] || rmdir "$(docdir)" || true

clean: ## remove build/
	rm -rf build

.PHONY: all help examples demo pictures test check matrix soak fuzz coverage mutation bench table \
	man install uninstall clean
