# Builds, runs and tests Catga. `make help` lists the verbs.
#
# BUILD=dir puts everything elsewhere, CC=clang takes another compiler, SANITIZE=address,undefined
# builds with sanitizers, V=1 shows the commands.

VERSION  := 0.1.0
BUILD    ?= build
PREFIX   ?= /usr/local
SANITIZE ?=
FILE     ?=
ORDERS   ?=
ONLY     ?=
RUNS     ?= 5
SECONDS  ?= 60
V        ?= 0
Q        := $(if $(filter 1,$(V)),,@)

# Libraries: those of these that the machine has. A new one is a line in docs/decisions.md.
PACKAGES := luajit libuv sqlite3 libmicrohttpd nettle
PACKAGES := $(shell for p in $(PACKAGES); do pkg-config --exists $$p 2>/dev/null && echo $$p; done)
ifneq ($(PACKAGES),)
PACKAGE_CFLAGS := $(shell pkg-config --cflags $(PACKAGES))
PACKAGE_LIBS   := $(shell pkg-config --libs $(PACKAGES))
endif

OPTIMIZE := -O2 -D_FORTIFY_SOURCE=2
ifneq ($(SANITIZE),)
# The fortified C library calls hide from the sanitizers what they would check.
OPTIMIZE := -O1 -fno-omit-frame-pointer -fsanitize=$(SANITIZE) -fno-sanitize-recover=all
endif

CFLAGS   ?=
CPPFLAGS ?=
LDFLAGS  ?=
ALL_CPPFLAGS := -D_GNU_SOURCE -Isrc -Iinclude $(PACKAGE_CFLAGS) -DCG_VERSION='"$(VERSION)"' \
	$(CPPFLAGS)
ALL_CFLAGS   := -std=c11 $(OPTIMIZE) -g -Wall -Wextra -Werror -fstack-protector-strong \
	-ffunction-sections -fdata-sections -pthread $(CFLAGS)
ALL_LDFLAGS  := -pthread -Wl,--gc-sections $(if $(SANITIZE),-fsanitize=$(SANITIZE)) $(LDFLAGS)
LIBS         := $(PACKAGE_LIBS) -lm

# Sources, found by where they lie.
LIB_SOURCES     := $(filter-out src/cli/%,$(wildcard src/*/*.c))
PROGRAM_SOURCES := $(wildcard src/main.c src/cli/*.c)
LUA_SOURCES     := $(filter-out lua/catga/_meta/%,$(wildcard lua/catga/*.lua lua/catga/*/*.lua \
	lua/catga/*/*/*.lua)) $(wildcard stdlib/*.lua stdlib/*/*.lua)
LUA_SOURCES     := $(filter-out stdlib/spec/%,$(LUA_SOURCES))
TEST_SOURCES    := $(wildcard spec/c/*_test.c)
SUPPORT_SOURCES := $(wildcard spec/c/support/*.c)
FUZZ_SOURCES    := $(wildcard spec/fuzz/*_fuzz.c)
STORE_CRASH     := $(wildcard spec/crash/store/*.c)
BENCH_SOURCES   := $(wildcard bench/c/*.c)
PEER_SOURCES    := $(wildcard bench/c/peers/*.c)
FORMATTED       := $(wildcard src/*.c src/*/*.[ch] include/*.h spec/c/*.[ch] spec/c/*/*.[ch] \
	spec/fuzz/*.[ch] spec/crash/*/*.[ch] bench/c/*.[ch] bench/c/*/*.[ch] examples/*/*.[ch])

comma := ,
object = $(patsubst %.c,$(BUILD)/obj/%.o,$(1))
EMBEDDED        := $(BUILD)/gen/embedded_lua.c
EMBEDDED_OBJECT := $(BUILD)/obj/gen/embedded_lua.o
LIBRARY         := $(BUILD)/libcatga.a
SUPPORT_LIBRARY := $(if $(SUPPORT_SOURCES),$(BUILD)/libsupport.a)
PROGRAM         := $(if $(wildcard src/main.c),$(BUILD)/catga)
TEST_PROGRAMS   := $(patsubst spec/c/%.c,$(BUILD)/test/%,$(TEST_SOURCES))
REPLAY_PROGRAMS := $(patsubst spec/fuzz/%_fuzz.c,$(BUILD)/test/%_replay,$(FUZZ_SOURCES))
FUZZ_PROGRAMS   := $(patsubst spec/fuzz/%_fuzz.c,$(BUILD)/fuzz/%_fuzz,$(FUZZ_SOURCES))
BENCH_PROGRAMS  := $(patsubst bench/c/%.c,$(BUILD)/bench/%,$(BENCH_SOURCES))

# One job a core unless told otherwise.
ifeq ($(MAKELEVEL)$(filter -j% --jobs%,$(MAKEFLAGS)),0)
MAKEFLAGS += --jobs=$(shell nproc)
endif
# The verbs build by a second make: only then is what scripts/setup installs seen above.
SUBMAKE = +$(Q)$(MAKE) --no-print-directory BUILD=$(BUILD)

.PHONY: all help run run-fresh serve test test-programs check asan tsan torture fuzz fuzz-programs \
	bench bench-programs install clean FORCE
.DELETE_ON_ERROR:
.SECONDARY:

all: $(LIBRARY) $(PROGRAM)

help:
	@echo "make                     build $(BUILD)/catga and $(BUILD)/libcatga.a"
	@echo "make run [ORDERS=f.csv]  install what is missing, build, run examples/orders"
	@echo "make run-fresh           the same with an empty data directory"
	@echo "make serve               the same, and it goes on serving until Ctrl-C"
	@echo "make test [FILE=path]    all tests, or those of one file"
	@echo "make check               format, lint and the project's own rules"
	@echo "make asan | tsan         the tests under sanitizers"
	@echo "make torture             the crash tests, many times over"
	@echo "make fuzz [FILE=] [SECONDS=60]  each fuzz target for a while (clang)"
	@echo "make bench [ONLY=group] [RUNS=5]  the benchmarks, see bench/README.md"
	@echo "make install PREFIX= DESTDIR=   program, library, header, catga.pc"
	@echo "make clean               removes $(BUILD)"

# Running the example.

RUN_ORDERS = $(if $(ORDERS),CATGA_ORDERS_FILE="$(abspath $(ORDERS))") \
	$(BUILD)/catga run examples/orders --data $(BUILD)/orders-data

run:
	$(Q)scripts/setup run
	$(SUBMAKE) all
	$(Q)$(RUN_ORDERS)
	@echo
	@echo "next: examples/orders/order_process.lua is the flow, revenue.lua the read model;"
	@echo "make serve$(if $(filter command,$(origin BUILD)), BUILD=$(BUILD)) keeps it running, so that you can look inside"

serve:
	$(Q)scripts/setup run
	$(SUBMAKE) all
	@echo "while it serves, in another terminal (Ctrl-C here ends it):"
	@echo "  export CATGA_DATA=$(BUILD)/orders-data"
	@echo "  $(BUILD)/catga process list --status compensated"
	@echo "  $(BUILD)/catga process show ID        an ID of that list"
	@echo "  $(BUILD)/catga stream read Process-ID"
	@echo "  $(BUILD)/catga ask Revenue '{\"month\":\"2011-11\"}'"
	$(Q)CATGA_ORDERS_SERVE=1 $(RUN_ORDERS)

run-fresh:
	$(Q)rm -rf $(BUILD)/orders-data
	$(SUBMAKE) run

# Testing. scripts/test runs what was built, and counts what was not as failed.

test:
	$(Q)scripts/setup test
	$(Q)scripts/fetch_webhooks $(BUILD)
	+$(Q)BUILD=$(BUILD) FILE=$(FILE) scripts/test

asan:
	$(Q)scripts/setup test
	$(Q)scripts/fetch_webhooks $(BUILD)
	+$(Q)BUILD=$(BUILD)/asan FILE=$(FILE) SANITIZE=address,undefined scripts/test

tsan:
	$(Q)scripts/setup test
	$(Q)scripts/fetch_webhooks $(BUILD)
	+$(Q)BUILD=$(BUILD)/tsan FILE=$(FILE) SANITIZE=thread PARTS="c lua" scripts/test

torture:
	$(Q)scripts/setup test
	+$(Q)BUILD=$(BUILD) FILE=$(FILE) PARTS=torture scripts/test

test-programs: $(TEST_PROGRAMS) $(REPLAY_PROGRAMS) $(BUILD)/test/store_crash

check:
	$(Q)scripts/setup check
	$(Q)code=0; \
	clang-format --dry-run -Werror $(FORMATTED) || code=1; \
	luacheck -q $(wildcard .luacheckrc lua stdlib examples spec scripts bench) || code=1; \
	luajit scripts/tidy.lua || code=1; \
	exit $$code

fuzz:
	$(Q)scripts/setup fuzz
	+$(Q)$(MAKE) --no-print-directory BUILD=$(BUILD)/clang CC=clang \
		SANITIZE=fuzzer-no-link,address,undefined fuzz-programs
	$(Q)BUILD=$(BUILD)/clang FILE=$(FILE) SECONDS_EACH=$(SECONDS) scripts/fuzz

fuzz-programs: $(FUZZ_PROGRAMS)

bench:
	$(Q)scripts/setup bench
	$(SUBMAKE) all bench-programs
	$(Q)exec env BUILD=$(BUILD) ONLY=$(ONLY) RUNS=$(RUNS) scripts/bench

bench-programs: $(BENCH_PROGRAMS) $(BUILD)/bench/peer_bench

# Compiling. Objects also depend on the flags they were made with.

$(BUILD)/obj/%.o: %.c $(BUILD)/flags
	@mkdir -p $(@D)
	@echo "  CC    $<"
	$(Q)$(CC) $(ALL_CPPFLAGS) $(if $(filter spec/%,$<),-Ispec/c) $(ALL_CFLAGS) -MMD -MP -c $< -o $@

$(EMBEDDED_OBJECT): $(EMBEDDED) $(BUILD)/flags
	@mkdir -p $(@D)
	@echo "  CC    $<"
	$(Q)$(CC) $(ALL_CPPFLAGS) $(ALL_CFLAGS) -MMD -MP -c $< -o $@

$(EMBEDDED): scripts/embed.lua $(LUA_SOURCES) $(BUILD)/lua-sources
	@mkdir -p $(@D)
	@echo "  EMBED $@"
	$(Q)luajit scripts/embed.lua $@ $(LUA_SOURCES)

# Stamps: rewritten only when what they say has changed.
$(BUILD)/flags: STAMP = $(CC) $(ALL_CPPFLAGS) $(ALL_CFLAGS)
$(BUILD)/lua-sources: STAMP = $(LUA_SOURCES)
$(BUILD)/lib-sources: STAMP = $(LIB_SOURCES)
$(BUILD)/program-sources: STAMP = $(PROGRAM_SOURCES) $(LIB_SOURCES) $(ALL_LDFLAGS) $(LIBS)
$(BUILD)/support-sources: STAMP = $(SUPPORT_SOURCES)
$(BUILD)/flags $(BUILD)/lua-sources $(BUILD)/lib-sources $(BUILD)/program-sources \
$(BUILD)/support-sources: FORCE
	@mkdir -p $(@D)
	@printf '%s\n' '$(subst ','\'',$(STAMP))' | cmp -s - $@ || \
		printf '%s\n' '$(subst ','\'',$(STAMP))' > $@

define archive
@echo "  AR    $@"
$(Q)rm -f $@
$(Q)$(AR) rcs $@ $(filter %.o,$^)
endef

# $(1): what to put beside the objects; the archives come after them, the libraries last.
define link
@mkdir -p $(@D)
@echo "  LINK  $@"
$(Q)$(CC) $(ALL_LDFLAGS) $(1) -o $@ $(filter %.o,$^) $(filter %.a,$^) $(LIBS)
endef

$(LIBRARY): $(call object,$(LIB_SOURCES)) $(EMBEDDED_OBJECT) $(BUILD)/lib-sources
	$(archive)

$(BUILD)/libsupport.a: $(call object,$(SUPPORT_SOURCES)) $(BUILD)/support-sources
	$(archive)

# From all objects, not from the archive, and with its symbols visible: scripts reach them by FFI.
# What debuggers need stands beside it.
$(BUILD)/catga: $(call object,$(PROGRAM_SOURCES) $(LIB_SOURCES)) $(EMBEDDED_OBJECT) \
		$(BUILD)/program-sources
	$(call link,-rdynamic)
ifeq ($(SANITIZE),)
	$(Q)objcopy --only-keep-debug $@ $@.debug
	$(Q)objcopy --strip-debug --add-gnu-debuglink=$@.debug $@
endif

$(BUILD)/test/%_test: $(BUILD)/obj/spec/c/%_test.o $(SUPPORT_LIBRARY) $(LIBRARY)
	$(call link,) -lcmocka

$(BUILD)/test/%_replay: $(BUILD)/obj/spec/fuzz/%_fuzz.o $(BUILD)/obj/spec/fuzz/replay_main.o \
		$(SUPPORT_LIBRARY) $(LIBRARY)
	$(call link,)

$(BUILD)/test/store_crash: $(call object,$(STORE_CRASH)) $(LIBRARY)
	$(call link,-Wl$(comma)--wrap=malloc$(comma)--wrap=calloc$(comma)--wrap=realloc)

$(BUILD)/fuzz/%_fuzz: $(BUILD)/obj/spec/fuzz/%_fuzz.o $(SUPPORT_LIBRARY) $(LIBRARY)
	$(call link,-fsanitize=fuzzer)

$(BUILD)/bench/peer_bench: $(call object,$(PEER_SOURCES)) $(LIBRARY)
	$(call link,) -llmdb -lhiredis

$(BUILD)/bench/%: $(BUILD)/obj/bench/c/%.o $(SUPPORT_LIBRARY) $(LIBRARY)
	$(call link,)

# Installing.

install: all
	install -d $(DESTDIR)$(PREFIX)/bin $(DESTDIR)$(PREFIX)/include \
		$(DESTDIR)$(PREFIX)/lib/pkgconfig
	$(if $(PROGRAM),install -m 755 $(PROGRAM) $(DESTDIR)$(PREFIX)/bin/catga)
	install -m 644 $(LIBRARY) $(DESTDIR)$(PREFIX)/lib/libcatga.a
	install -m 644 include/catga.h $(DESTDIR)$(PREFIX)/include/catga.h
	printf '%s\n' 'prefix=$(PREFIX)' 'libdir=$${prefix}/lib' 'includedir=$${prefix}/include' '' \
		'Name: catga' 'Description: Durable event-driven software in Lua, embedded' \
		'Version: $(VERSION)' 'Requires: $(PACKAGES)' \
		'Libs: -L$${libdir} -lcatga -pthread -lm' 'Cflags: -I$${includedir}' \
		> $(DESTDIR)$(PREFIX)/lib/pkgconfig/catga.pc

clean:
	rm -rf $(BUILD)

-include $(patsubst %.o,%.d,$(call object,$(LIB_SOURCES) $(PROGRAM_SOURCES) $(TEST_SOURCES) \
	$(SUPPORT_SOURCES) $(FUZZ_SOURCES) $(STORE_CRASH) $(BENCH_SOURCES) $(PEER_SOURCES) spec/fuzz/replay_main.c) $(EMBEDDED_OBJECT))
