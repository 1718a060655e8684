/*
 * snapshot.c - pruned models on disk; see snapshot.h and SNAPSHOT_FORMAT.md.
 *
 * All three parameter sections are walks over the parameter table in its order: MASK and KEPT
 * over the convolution weights, REST over everything else.
 */
#include "core/m2kd/snapshot.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <zstd.h>

#include "core/err.h"
#include "core/model/model_file.h"
#include "core/nn/half.h"
#include "core/storage/container.h"

#define SECTION_MASK CONTAINER_ID('M', 'A', 'S', 'K')
#define SECTION_KEPT CONTAINER_ID('K', 'E', 'P', 'T')
#define SECTION_REST CONTAINER_ID('R', 'E', 'S', 'T')

enum { SNAPSHOT_SECTIONS = MODEL_FILE_SECTIONS + 3, MASK_LEVEL = 19 };

/* The parameters taken apart, as the file stores them. */
struct parts {
    size_t conv_count, rest_count, kept_count; /* floats */
    uint8_t *bits;  /* one a convolution weight, least significant first, rest of the last byte 0 */
    uint16_t *kept;
    float *rest;
};

static bool is_conv(const struct param_entry *e)
{
    return e->kind == PARAM_CONV_WEIGHT;
}

static size_t bit_bytes(size_t bits)
{
    return (bits + 7) / 8;
}

void snapshot_round(const struct resnet *net, const uint8_t *mask, float *params)
{
    for (int e = 0; e < net->params.entry_count; e++) {
        const struct param_entry *entry = &net->params.entries[e];
        size_t end = is_conv(entry) ? entry->offset + entry->count : entry->offset;
        for (size_t i = entry->offset; i < end; i++)
            params[i] = mask[i] ? half_to_float(half_from_float(params[i])) : 0.0f;
    }
}

static void parts_release(struct parts *p)
{
    free(p->bits);
    free(p->kept);
    free(p->rest);
}

/* Room for the largest case: every weight kept. */
static int parts_init(struct parts *p, const struct param_table *t)
{
    *p = (struct parts){0};
    for (int e = 0; e < t->entry_count; e++)
        if (is_conv(&t->entries[e]))
            p->conv_count += t->entries[e].count;
    p->rest_count = t->count - p->conv_count;
    p->bits = calloc(bit_bytes(p->conv_count), 1);
    p->kept = calloc(p->conv_count, sizeof *p->kept);
    p->rest = calloc(p->rest_count, sizeof *p->rest);
    if (p->bits && p->kept && p->rest)
        return 0;
    parts_release(p);
    return ERR_NOMEM;
}

/* Takes one convolution apart; `bit` counts on over all of them. False when a value is not what
 * snapshot_round leaves. */
static bool take_conv(struct parts *p, const uint8_t *mask, const float *weights, size_t count,
                      size_t *bit)
{
    for (size_t i = 0; i < count; i++, ++*bit) {
        uint16_t half = mask[i] ? half_from_float(weights[i]) : 0;
        float stored = half_to_float(half);
        if (memcmp(&stored, &weights[i], sizeof stored) != 0)
            return false;
        if (!mask[i])
            continue;
        p->bits[*bit / 8] |= (uint8_t)(1u << *bit % 8);
        p->kept[p->kept_count++] = half;
    }
    return true;
}

static int take_apart(struct parts *p, const struct param_table *t, const uint8_t *mask,
                      const float *params)
{
    size_t bit = 0, at = 0;
    for (int e = 0; e < t->entry_count; e++) {
        const struct param_entry *entry = &t->entries[e];
        const float *values = params + entry->offset;
        if (!is_conv(entry)) {
            memcpy(p->rest + at, values, entry->count * sizeof *values);
            at += entry->count;
        } else if (!take_conv(p, mask + entry->offset, values, entry->count, &bit)) {
            return ERR_INVALID;
        }
    }
    return 0;
}

static int write_parts(const struct model *m, const struct parts *p, const char *path,
                       uint64_t *out_bytes)
{
    struct model_file_spec spec;
    struct container_section sections[SNAPSHOT_SECTIONS];
    int err = model_file_describe(m, &spec, sections);
    if (err)
        return err;
    size_t bytes = bit_bytes(p->conv_count), room = ZSTD_compressBound(bytes);
    void *packed = malloc(room);
    if (!packed)
        return ERR_NOMEM;
    size_t packed_bytes = ZSTD_compress(packed, room, p->bits, bytes, MASK_LEVEL);
    if (ZSTD_isError(packed_bytes)) {
        err = ERR_NOMEM; /* with this much room nothing else can go wrong */
        goto out;
    }
    struct container_section *s = sections + MODEL_FILE_SECTIONS;
    s[0] = (struct container_section){SECTION_MASK, packed_bytes, packed};
    s[1] = (struct container_section){SECTION_KEPT, p->kept_count * sizeof *p->kept, p->kept};
    s[2] = (struct container_section){SECTION_REST, p->rest_count * sizeof *p->rest, p->rest};
    err = container_write(path, CONTAINER_SNAPSHOT, sections, SNAPSHOT_SECTIONS, out_bytes);
out:
    free(packed);
    return err;
}

int snapshot_save(const struct model *m, const uint8_t *mask, const char *path,
                  uint64_t *out_bytes)
{
    struct parts p;
    int err = parts_init(&p, &m->net->params);
    if (err)
        return err;
    err = take_apart(&p, &m->net->params, mask, m->params);
    if (!err)
        err = write_parts(m, &p, path, out_bytes);
    parts_release(&p);
    return err;
}

/* Unpacks the mask into p->bits and counts its ones into p->kept_count. */
static int read_mask(struct parts *p, const struct container *c)
{
    struct container_section s;
    int err = container_find(c, SECTION_MASK, &s);
    if (err)
        return err;
    size_t bytes = bit_bytes(p->conv_count);
    if (ZSTD_getFrameContentSize(s.data, s.size_bytes) != bytes ||
        ZSTD_decompress(p->bits, bytes, s.data, s.size_bytes) != bytes)
        return ERR_FORMAT;
    if (p->conv_count % 8 != 0 && p->bits[bytes - 1] >> p->conv_count % 8 != 0)
        return ERR_FORMAT;
    for (size_t i = 0; i < bytes; i++)
        p->kept_count += (size_t)__builtin_popcount(p->bits[i]);
    return 0;
}

static int read_parts(struct parts *p, const struct container *c)
{
    const void *kept, *rest;
    int err = read_mask(p, c);
    if (!err)
        err = container_find_sized(c, SECTION_KEPT, p->kept_count * sizeof *p->kept, &kept);
    if (!err)
        err = container_find_sized(c, SECTION_REST, p->rest_count * sizeof *p->rest, &rest);
    if (err)
        return err;
    memcpy(p->kept, kept, p->kept_count * sizeof *p->kept);
    memcpy(p->rest, rest, p->rest_count * sizeof *p->rest);
    return 0;
}

/* The inverse of take_apart; `params` is zero where nothing was kept. */
static void put_together(const struct parts *p, const struct param_table *t, float *params)
{
    size_t bit = 0, kept = 0, rest = 0;
    for (int e = 0; e < t->entry_count; e++) {
        const struct param_entry *entry = &t->entries[e];
        float *values = params + entry->offset;
        if (!is_conv(entry)) {
            memcpy(values, p->rest + rest, entry->count * sizeof *values);
            rest += entry->count;
            continue;
        }
        for (size_t i = 0; i < entry->count; i++, bit++)
            if (p->bits[bit / 8] >> bit % 8 & 1)
                values[i] = half_to_float(p->kept[kept++]);
    }
}

static int restore_params(struct model *m, const struct container *c)
{
    struct parts p;
    int err = parts_init(&p, &m->net->params);
    if (err)
        return err;
    err = read_parts(&p, c);
    if (!err) {
        put_together(&p, &m->net->params, m->params);
        err = model_file_finite(m->params, m->net->params.count) ? 0 : ERR_CORRUPT;
    }
    parts_release(&p);
    return err;
}

int snapshot_load(struct model **out, const char *path, enum conv_isa isa)
{
    struct container *c;
    struct model *m = NULL;
    int err = container_read(&c, path, CONTAINER_SNAPSHOT);
    if (err)
        return err;
    err = model_file_restore(&m, c, isa);
    if (!err)
        err = restore_params(m, c);
    container_free(c);
    if (err) {
        model_release(m);
        return err;
    }
    *out = m;
    return 0;
}
