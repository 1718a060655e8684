# accreted: build, test, demo. `make help` lists the targets.
#
#   make                 the daemon, build/release/accreted
#   make SAN=address     the same under build/address (address+undefined), SAN=thread likewise
#
# Sources are found by folder; a new .c file needs no line here. Warnings are errors when CI or
# WERROR is set.

BUILD   := build/$(if $(SAN),$(SAN),release)
CC      ?= gcc
PKGS    := libmicrohttpd jansson sqlite3 libuv libsystemd libzstd libarchive libpng libjpeg \
           libxxhash libsodium zlib liblzma
WARN    := -Wall -Wextra -Wshadow -Wvla -Wstrict-prototypes -Wmissing-prototypes \
           -Wwrite-strings -Wpointer-arith -Wformat=2 $(if $(CI)$(WERROR),-Werror)
OPT     := -O2 -g
comma   := ,
SANFLAGS := $(if $(filter address,$(SAN)),-fsanitize=address$(comma)undefined -fno-sanitize-recover=all) \
            $(if $(filter thread,$(SAN)),-fsanitize=thread)
CPPFLAGS += -I. -I$(BUILD) -D_GNU_SOURCE
CFLAGS  += -std=c11 $(OPT) $(WARN) $(SANFLAGS) -fno-common -ffp-contract=off -pthread
LDFLAGS += $(SANFLAGS) -pthread

# core needs these alone; server adds the rest.
CORE_LIBS   := -lopenblas -lzstd -lxxhash -lm
SERVER_LIBS  = $(shell pkg-config --libs $(PKGS)) -linih

CORE_SRC    := $(wildcard core/*.c core/*/*.c)
SERVER_SRC  := $(wildcard server/*.c server/*/*.c)
ASSETS      := $(sort $(wildcard web/* migrations/*.sql schema/*.json))
UNIT_SRC    := $(wildcard tests/unit/*/test_*.c)

CORE_OBJ    := $(CORE_SRC:%.c=$(BUILD)/%.o)
SERVER_OBJ  := $(SERVER_SRC:%.c=$(BUILD)/%.o)
UNIT_BIN    := $(UNIT_SRC:tests/unit/%.c=$(BUILD)/unit/%)
FUZZ_BIN    := $(patsubst tests/%.c,$(BUILD)/%,$(wildcard tests/fuzz/fuzz_*.c))
BENCH_BIN   := $(patsubst tests/%.c,$(BUILD)/%,$(wildcard tests/bench/bench_*.c))
JOBS        ?= $(shell nproc)

.PHONY: all unit fuzz
all: $(BUILD)/accreted
unit: $(UNIT_BIN)
fuzz: $(FUZZ_BIN)

.PHONY: help
help:
	@echo 'make                the daemon: build/release/accreted (needs tests/install.sh build)'
	@echo 'make demo           installs what is missing, builds, and watches a daemon learn ten classes in five steps'
	@echo 'make demo-ablation  the same steps under {finetune, m2kd} x {head, prototypes, discriminant, with experts}: what each part is worth'
	@echo 'make check          installs what is missing, builds, and runs all tests; the last line counts them'
	@echo 'make check-long     the tests again under the address, undefined and thread sanitizers, the long ones, and check-web'
	@echo 'make check-web      the dashboard in Chromium against a real daemon; pictures in build/screens'
	@echo 'make bench          the engine beside PyTorch on the same cores: training, inference, memory, teachers, start'
	@echo 'make bench-conv     speed of the convolution kernels on one core'
	@echo 'make bench-serve    predictions a second and their latency, idle and while a job trains, beside FastAPI + PyTorch'
	@echo 'make bench-method CIFAR100=FOLDER    M2KD beside its controls on CIFAR-100 (tests/bench/README.md)'
	@echo 'make bench-ablation CIFAR100=FOLDER  what each part of the method is worth; make bench-tables writes RESULTS.md anew'
	@echo 'make bench-web      how soon the dashboard can be used, and its weight, in Chromium'
	@echo 'make install        binary, systemd unit and configuration under PREFIX (/usr/local), DESTDIR before it'
	@echo 'make clean          removes build/'
	@echo 'SAN=address or SAN=thread builds under that sanitizer; WERROR=1 makes warnings errors, as CI=true does.'

$(BUILD)/core.a: $(CORE_OBJ)
	@rm -f $@
	ar rcs $@ $^

# The server without main.c, so that unit tests can link it.
$(BUILD)/server.a: $(filter-out $(BUILD)/server/main.o,$(SERVER_OBJ)) $(BUILD)/assets_data.o
	@rm -f $@
	ar rcs $@ $^

$(BUILD)/accreted: $(BUILD)/server/main.o $(BUILD)/server.a $(BUILD)/core.a
	$(CC) $(LDFLAGS) -o $@ $^ $(SERVER_LIBS) $(CORE_LIBS)

# The files of web/, migrations/ and schema/ (its JSON) go into the binary: each by .incbin, then a table for server/assets.h, sorted
# by name. A zero follows each, so that a text is also a string. Those of web/ go in by gzip too. Chart.js is
# Debian's and becomes web/chart.min.js.
# The folders themselves, because a file that was removed or renamed makes no other file newer.
CHART := /usr/share/javascript/chart.js/chart.min.js
$(BUILD)/assets_data.c: $(ASSETS) web migrations schema Makefile $(CHART)
	@rm -rf $(BUILD)/assets && mkdir -p $(BUILD)/assets/migrations $(BUILD)/assets/schema $(BUILD)/assets/web
	@cp $(filter migrations/%,$(ASSETS)) $(BUILD)/assets/migrations/
	@cp $(filter schema/%,$(ASSETS)) $(BUILD)/assets/schema/
	@cp $(filter web/%,$(ASSETS)) $(CHART) $(BUILD)/assets/web/
	@gzip -9nk $(BUILD)/assets/web/*
	@cd $(BUILD)/assets && export LC_ALL=C && { echo '#include "server/assets.h"'; \
	names=$$(ls -1d migrations/* schema/* web/* | grep -v '[.]gz$$'); n=0; \
	for f in $$(ls -1d migrations/* schema/* web/*); do \
	    id=$$(echo $$f | tr -c 'a-z0-9\n' _); \
	    printf '__asm__(".section .rodata\\n%s: .incbin \\"%s\\"\\n.byte 0\\n.previous");\n' $$id "$(BUILD)/assets/$$f"; \
	    echo "extern const unsigned char $$id[];"; \
	done; \
	echo 'const struct asset assets[] = {'; \
	for f in $$names; do \
	    id=$$(echo $$f | tr -c 'a-z0-9\n' _); n=$$((n + 1)); \
	    printf '    {"%s", %s, %d, ' $$f $$id $$(wc -c <$$f); \
	    if [ -f $$f.gz ]; then echo "$${id}_gz, $$(wc -c <$$f.gz)},"; else echo 'NULL, 0},'; fi; \
	done; \
	echo '    {0},'; echo '};'; echo "const int asset_count = $$n;"; } >../assets_data.c

$(BUILD)/assets_data.o: $(BUILD)/assets_data.c
	$(CC) $(CPPFLAGS) $(CFLAGS) -c -o $@ $<

$(BUILD)/%.o: %.c
	@mkdir -p $(@D)
	$(CC) $(CPPFLAGS) $(CFLAGS) -MMD -MP -c -o $@ $<

# Numeric code is compiled for speed; its result must not depend on the caller's flags.
$(BUILD)/core/nn/%.o: OPT := -O3 -g

# Unit tests: one program a file; those of core link core alone.
$(BUILD)/unit/core/%: tests/unit/core/%.c $(BUILD)/core.a
	@mkdir -p $(@D)
	$(CC) $(CPPFLAGS) $(CFLAGS) -MMD -MP -o $@ $< $(LDFLAGS) $(BUILD)/core.a -lcmocka $(CORE_LIBS)

$(BUILD)/unit/server/%: tests/unit/server/%.c $(BUILD)/server.a $(BUILD)/core.a
	@mkdir -p $(@D)
	$(CC) $(CPPFLAGS) $(CFLAGS) -MMD -MP -o $@ $< $(LDFLAGS) $(BUILD)/server.a $(BUILD)/core.a \
	    -lcmocka $(SERVER_LIBS) $(CORE_LIBS)

# Fuzz targets with a driver that replays files; tests/fuzz/README.md says how to fuzz with them.
$(BUILD)/fuzz/%: tests/fuzz/%.c tests/fuzz/replay.c $(BUILD)/server.a $(BUILD)/core.a
	@mkdir -p $(@D)
	$(CC) $(CPPFLAGS) $(CFLAGS) -o $@ $^ $(LDFLAGS) $(SERVER_LIBS) $(CORE_LIBS)

$(BUILD)/bench/%: tests/bench/%.c $(BUILD)/core.a
	@mkdir -p $(@D)
	$(CC) $(CPPFLAGS) $(CFLAGS) -MMD -MP -o $@ $< $(LDFLAGS) $(BUILD)/core.a $(CORE_LIBS)

# What a newcomer calls. Each first installs the Debian packages it misses.
NO_BUILD := { echo 'The build failed.'; echo '0 passed, 1 failed'; exit 1; }
AGAIN := @$(MAKE) --no-print-directory --silent -j$(JOBS)
.PHONY: demo demo-ablation check check-long check-web bench bench-conv bench-serve bench-web bench-method bench-ablation bench-tables
demo demo-ablation:
	@tests/install.sh demo
	@echo 'building ...'
	$(AGAIN) all
	@/usr/bin/python3 tests/demo/demo.py --daemon $(BUILD)/accreted $(if $(filter %-ablation,$@),--ablation) $(DEMO)

check:
	@tests/install.sh check
	@echo 'building ...'
	$(AGAIN) all unit fuzz $(BENCH_BIN) || $(NO_BUILD)
	@tests/run.sh check:$(BUILD) unit:$(BUILD) fuzz:$(BUILD) api:$(BUILD)

check-long:
	@tests/install.sh long
	@echo 'building ...'
	$(AGAIN) all || $(NO_BUILD)
	$(AGAIN) SAN=address all unit fuzz || $(NO_BUILD)
	$(AGAIN) SAN=thread unit || $(NO_BUILD)
	@tests/run.sh unit:build/address fuzz:build/address api:build/address threads:build/thread \
	    long:$(BUILD) web:$(BUILD)

check-web:
	@tests/install.sh long
	@echo 'building ...'
	$(AGAIN) all || $(NO_BUILD)
	@tests/run.sh web:$(BUILD)

bench:
	@tests/install.sh bench
	@echo 'building ...'
	$(AGAIN) all $(BUILD)/bench/bench_engine
	@/usr/bin/python3 tests/bench/bench.py --build $(BUILD) --output build/bench.json $(RUN)

bench-conv:
	@tests/install.sh build
	$(AGAIN) $(BUILD)/bench/bench_conv
	@$(BUILD)/bench/bench_conv

bench-serve:
	@tests/install.sh bench
	$(AGAIN) all
	@/usr/bin/python3 tests/bench/bench_serve.py --build $(BUILD) --output build/bench-serve.json

# The method's benchmark: resumable, so interrupt it at will. RUN has further options, such as RUN='--validate --seeds 1'.
bench-method bench-ablation:
	@test -n '$(CIFAR100)' || { echo 'usage: make $@ CIFAR100=FOLDER (tests/bench/README.md says what is in it)'; exit 2; }
	@tests/install.sh demo
	@echo 'building ...'
	$(AGAIN) all
	@nice -n 19 /usr/bin/python3 tests/bench/incremental.py $(if $(filter %-ablation,$@),ablation,short) \
	    --daemon $(BUILD)/accreted --data '$(CIFAR100)' $(RUN)

bench-tables:
	@/usr/bin/python3 tests/bench/tables.py

bench-web:
	@tests/install.sh long
	$(AGAIN) all
	@/usr/bin/python3 tests/bench/bench_web.py --build $(BUILD)

# Files alone: no user (the unit makes one while it runs), no start. An existing configuration stays.
PREFIX  ?= /usr/local
SYSCONF ?= /etc
.PHONY: install
install: $(BUILD)/accreted
	install -D -m 755 $< $(DESTDIR)$(PREFIX)/bin/accreted
	install -d $(DESTDIR)$(PREFIX)/lib/systemd/system $(DESTDIR)$(SYSCONF)/accreted
	sed -e 's,/usr/local/,$(PREFIX)/,g' -e 's,/etc/,$(SYSCONF)/,g' systemd/accreted.service \
	    >$(DESTDIR)$(PREFIX)/lib/systemd/system/accreted.service
	chmod 644 $(DESTDIR)$(PREFIX)/lib/systemd/system/accreted.service
	test -e $(DESTDIR)$(SYSCONF)/accreted/accreted.conf || \
	    install -m 644 systemd/accreted.conf $(DESTDIR)$(SYSCONF)/accreted/accreted.conf

.PHONY: clean
clean:
	rm -rf build

-include $(CORE_OBJ:.o=.d) $(SERVER_OBJ:.o=.d) $(UNIT_BIN:=.d) $(BENCH_BIN:=.d)
