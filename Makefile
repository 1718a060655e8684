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
           libxxhash libsodium
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
ASSETS      := $(sort $(wildcard web/* migrations/*.sql))
UNIT_SRC    := $(wildcard tests/unit/*/test_*.c)

CORE_OBJ    := $(CORE_SRC:%.c=$(BUILD)/%.o)
SERVER_OBJ  := $(SERVER_SRC:%.c=$(BUILD)/%.o)
UNIT_BIN    := $(UNIT_SRC:tests/unit/%.c=$(BUILD)/unit/%)

.PHONY: all
all: $(BUILD)/accreted

$(BUILD)/core.a: $(CORE_OBJ)
	@rm -f $@
	ar rcs $@ $^

# The server without main.c, so that unit tests can link it.
$(BUILD)/server.a: $(filter-out $(BUILD)/server/main.o,$(SERVER_OBJ)) $(BUILD)/assets_data.o
	@rm -f $@
	ar rcs $@ $^

$(BUILD)/accreted: $(BUILD)/server/main.o $(BUILD)/server.a $(BUILD)/core.a
	$(CC) $(LDFLAGS) -o $@ $^ $(SERVER_LIBS) $(CORE_LIBS)

# The files of web/ and migrations/ go into the binary: each by .incbin, then a table for server/assets.h, sorted
# by name. A zero follows each, so that a text is also a string.
$(BUILD)/assets_data.c: $(ASSETS) Makefile
	@mkdir -p $(@D)
	@{ echo '#include "server/assets.h"'; \
	n=0; for f in $(ASSETS); do \
	    printf '__asm__(".section .rodata\\nasset_%d: .incbin \\"%s\\"\\n.byte 0\\n.previous");\n' $$n "$$f"; \
	    echo "extern const unsigned char asset_$$n[];"; n=$$((n + 1)); \
	done; \
	echo 'const struct asset assets[] = {'; \
	n=0; for f in $(ASSETS); do \
	    echo "    {\"$$f\", asset_$$n, $$(wc -c <"$$f")},"; n=$$((n + 1)); \
	done; \
	echo '    {0},'; echo '};'; echo "const int asset_count = $$n;"; } >$@

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

-include $(CORE_OBJ:.o=.d) $(SERVER_OBJ:.o=.d) $(UNIT_BIN:=.d)
