/*
 * cifar.c - see cifar.h.
 */
#include "server/decode/cifar.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/err.h"
#include "server/decode/unpack.h"

enum {
    PLANE = CIFAR_SIDE * CIFAR_SIDE,
    RECORD_10 = 1 + CIFAR_PIXEL_BYTES,
    RECORD_100 = 2 + CIFAR_PIXEL_BYTES,
    LABELS_10 = 10,
    COARSE_100 = 20,
    FINE_100 = 100,
    TAR_BLOCK = 512,
};

struct cifar {
    struct unpack *stream;
    enum cifar_format format;
    int64_t next; /* record */
    uint8_t record[RECORD_100];
    uint8_t pixels[CIFAR_PIXEL_BYTES];
    char why[128];
};

/* ---- what is it ---- */

/* A tar header's checksum, an octal number in bytes 148 to 155, is the sum of the block's bytes
 * with that field as spaces. */
static bool tar_begins(const uint8_t block[TAR_BLOCK])
{
    char digits[9] = "";
    long sum = 8 * ' ';
    memcpy(digits, block + 148, 8);
    for (int i = 0; i < TAR_BLOCK; i++)
        sum += i < 148 || i >= 156 ? block[i] : 0;
    size_t spaces = strspn(digits, " ");
    return digits[spaces] >= '0' && digits[spaces] <= '7' && strtol(digits, NULL, 8) == sum;
}

static int unpacked_size(struct span body, bool *is_tar, uint64_t *size)
{
    uint8_t block[1 << 14];
    struct unpack *u;
    size_t got;
    const char *why;
    if (unpack_sniff(body.data, body.size_bytes) == UNPACK_PLAIN) {
        *is_tar = body.size_bytes >= TAR_BLOCK && tar_begins(body.data);
        *size = body.size_bytes;
        return 0;
    }
    int err = unpack_new(&u, body);
    if (err != 0)
        return err;
    *size = 0;
    *is_tar = false;
    while ((err = unpack_read(u, block, sizeof block, &got, &why)) == 0 && got > 0) {
        if (*size == 0 && got >= TAR_BLOCK && (*is_tar = tar_begins(block)))
            break;
        *size += got;
    }
    unpack_free(u);
    return err;
}

int cifar_detect(struct span body, enum cifar_format *out, bool *ambiguous)
{
    uint64_t size = 0;
    bool is_tar = false;
    *out = CIFAR_NONE;
    *ambiguous = false;
    int err = unpacked_size(body, &is_tar, &size);
    if (err == ERR_NOMEM)
        return err;
    if (err != 0 || is_tar || size == 0)
        return 0;
    bool ten = size % RECORD_10 == 0, hundred = size % RECORD_100 == 0;
    if (ten)
        *out = CIFAR_10;
    else if (hundred)
        *out = CIFAR_100;
    *ambiguous = ten && hundred;
    return 0;
}

/* ---- records ---- */

int cifar_new(struct cifar **out, enum cifar_format format, struct span body)
{
    struct cifar *c = calloc(1, sizeof *c);
    int err = c ? unpack_new(&c->stream, body) : ERR_NOMEM;
    if (err != 0) {
        free(c);
        return err;
    }
    c->format = format;
    *out = c;
    return 0;
}

void cifar_free(struct cifar *c)
{
    if (!c)
        return;
    unpack_free(c->stream);
    free(c);
}

static int damaged(struct cifar *c, const char *what, int value)
{
    snprintf(c->why, sizeof c->why, "record %" PRId64 " %s %d", c->next, what, value);
    return ERR_FORMAT;
}

/* The record that was read, judged: its label. */
static int read_label(struct cifar *c, int *label)
{
    if (c->format == CIFAR_10) {
        *label = c->record[0];
        return *label < LABELS_10 ? 0 : damaged(c, "has no label from 0 to 9 but", *label);
    }
    if (c->record[0] >= COARSE_100)
        return damaged(c, "has no coarse label from 0 to 19 but", c->record[0]);
    *label = c->record[1];
    return *label < FINE_100 ? 0 : damaged(c, "has no fine label from 0 to 99 but", *label);
}

int cifar_next(struct cifar *c, const uint8_t **pixels, int *label, const char **why)
{
    size_t size = c->format == CIFAR_10 ? RECORD_10 : RECORD_100, got;
    int err = unpack_read(c->stream, c->record, size, &got, why);
    if (err != 0 || got == 0)
        return err;
    *why = c->why;
    if (got < size)
        return damaged(c, "is cut short: it has bytes", (int)got);
    err = read_label(c, label);
    if (err != 0)
        return err;
    const uint8_t *planes = c->record + size - CIFAR_PIXEL_BYTES;
    for (int i = 0; i < PLANE; i++)
        for (int plane = 0; plane < CIFAR_CHANNELS; plane++)
            c->pixels[i * CIFAR_CHANNELS + plane] = planes[plane * PLANE + i];
    c->next++;
    *pixels = c->pixels;
    return 1;
}

int cifar_values(enum cifar_format format, struct span body, bool present[256])
{
    struct cifar *c;
    const uint8_t *pixels;
    const char *why;
    int label, got;
    memset(present, 0, 256 * sizeof *present);
    int err = cifar_new(&c, format, body);
    if (err != 0)
        return err;
    while ((got = cifar_next(c, &pixels, &label, &why)) > 0)
        present[label] = true;
    cifar_free(c);
    return got == ERR_NOMEM ? got : 0;
}
