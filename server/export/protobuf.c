/*
 * protobuf.c - see protobuf.h. The format: https://protobuf.dev/programming-guides/encoding/
 */
#include "server/export/protobuf.h"

#include <stdlib.h>
#include <string.h>

#include "core/err.h"

enum { WIRE_VARINT = 0, WIRE_LENGTH = 2, VARINT_BYTES = 10, LENGTH_BYTES = 4 };

/* Room for `size_bytes` more at the end, or NULL. */
static uint8_t *extend(struct protobuf *p, size_t size_bytes)
{
    if (p->err)
        return NULL;
    if (size_bytes > p->capacity - p->size) {
        size_t capacity = 2 * p->capacity + size_bytes + 4096;
        uint8_t *data = realloc(p->data, capacity);
        if (!data) {
            p->err = ERR_NOMEM;
            return NULL;
        }
        p->data = data;
        p->capacity = capacity;
    }
    uint8_t *end = p->data + p->size;
    p->size += size_bytes;
    return end;
}

static void append(struct protobuf *p, const void *data, size_t size_bytes)
{
    uint8_t *to = extend(p, size_bytes);
    if (to && size_bytes > 0)
        memcpy(to, data, size_bytes);
}

static void append_varint(struct protobuf *p, uint64_t value)
{
    uint8_t bytes[VARINT_BYTES];
    size_t n = 0;
    for (; value >= 0x80; value >>= 7)
        bytes[n++] = (uint8_t)(value | 0x80);
    bytes[n++] = (uint8_t)value;
    append(p, bytes, n);
}

void protobuf_varint(struct protobuf *p, int field, uint64_t value)
{
    append_varint(p, (uint64_t)field << 3 | WIRE_VARINT);
    append_varint(p, value);
}

void protobuf_bytes(struct protobuf *p, int field, const void *data, size_t size_bytes)
{
    append_varint(p, (uint64_t)field << 3 | WIRE_LENGTH);
    append_varint(p, size_bytes);
    append(p, data, size_bytes);
}

void protobuf_text(struct protobuf *p, int field, const char *text)
{
    protobuf_bytes(p, field, text, strlen(text));
}

size_t protobuf_begin(struct protobuf *p, int field)
{
    append_varint(p, (uint64_t)field << 3 | WIRE_LENGTH);
    extend(p, LENGTH_BYTES);
    return p->size;
}

void protobuf_end(struct protobuf *p, size_t begin)
{
    if (p->err)
        return;
    size_t length = p->size - begin;
    uint8_t *at = p->data + begin - LENGTH_BYTES;
    for (int i = 0; i < LENGTH_BYTES; i++, length >>= 7)
        at[i] = (uint8_t)((length & 0x7f) | (i < LENGTH_BYTES - 1 ? 0x80 : 0));
}
