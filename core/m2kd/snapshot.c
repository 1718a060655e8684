/*
 * snapshot.c - pruned models on disk; see snapshot.h and SNAPSHOT_FORMAT.md.
 *
 * All parameter sections are walks over the parameter table in its order: MASK, SCAL and CODE or
 * KEPT over the convolution weights, REST over everything else. Every one of them is one array of
 * the parts below, taken from a model or read from a file, and put together in one place.
 */
#include "core/m2kd/snapshot.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <zstd.h>

#include "core/err.h"
#include "core/model/model_file.h"
#include "core/nn/half.h"
#include "core/storage/container.h"

#define SECTION_MASK CONTAINER_ID('M', 'A', 'S', 'K')
#define SECTION_KEPT CONTAINER_ID('K', 'E', 'P', 'T')
#define SECTION_SCALES CONTAINER_ID('S', 'C', 'A', 'L')
#define SECTION_CODES CONTAINER_ID('C', 'O', 'D', 'E')
#define SECTION_REST CONTAINER_ID('R', 'E', 'S', 'T')

enum { SNAPSHOT_SECTIONS = MODEL_FILE_SECTIONS + 5, ZSTD_LEVEL = 19 };

/* A model taken apart, as the file stores it. */
struct parts {
    size_t conv_count, rest_count, prototype_count, scale_count; /* floats of the model */
    size_t kept_count;   /* ones in `bits` */
    uint8_t *bits;       /* one a convolution weight, least significant first, rest of the last byte 0 */
    bool coded;          /* codes and scales, else halves */
    int8_t *codes;       /* (kept_count) */
    uint16_t *scales;    /* (scale_count): one an output channel of each convolution */
    uint16_t *kept;      /* (kept_count) */
    uint16_t *rest, *prototypes;
};

bool snapshot_bits_valid(int bits)
{
    return bits == SNAPSHOT_HALF || (bits >= QUANTISE_MIN_BITS && bits <= QUANTISE_MAX_BITS);
}

static bool is_conv(const struct param_entry *e)
{
    return e->kind == PARAM_CONV_WEIGHT;
}

static size_t bit_bytes(size_t bits)
{
    return (bits + 7) / 8;
}

static float half_round(float x)
{
    return half_to_float(half_from_float(x));
}

/* ---- rounding ---- */

static void round_conv(const struct param_entry *e, const uint8_t *mask, int bits, float *weights,
                       float *scales)
{
    int channels = e->dims[3];
    if (bits != SNAPSHOT_HALF)
        quantise_scales(bits, e->count, channels, weights, mask, scales);
    for (size_t i = 0; i < e->count; i++) {
        float scale = scales[i % (size_t)channels];
        if (!mask[i])
            weights[i] = 0.0f;
        else if (bits == SNAPSHOT_HALF)
            weights[i] = half_round(weights[i]);
        else /* + 0: no negative zero */
            weights[i] = quantise_code(bits, weights[i], scale) * scale + 0.0f;
    }
}

static int most_channels(const struct param_table *t)
{
    int most = 1;
    for (int e = 0; e < t->entry_count; e++)
        if (is_conv(&t->entries[e]) && t->entries[e].dims[3] > most)
            most = t->entries[e].dims[3];
    return most;
}

int snapshot_round(struct model *m, const uint8_t *mask, int bits)
{
    const struct param_table *t = &m->net->params;
    float *scales = calloc((size_t)most_channels(t), sizeof *scales);
    if (!scales)
        return ERR_NOMEM;
    for (int e = 0; e < t->entry_count; e++) {
        const struct param_entry *entry = &t->entries[e];
        float *values = m->params + entry->offset;
        if (is_conv(entry)) {
            round_conv(entry, mask + entry->offset, bits, values, scales);
            continue;
        }
        for (size_t i = 0; i < entry->count; i++)
            values[i] = half_round(values[i]);
    }
    for (size_t i = 0; i < model_file_prototypes(m); i++)
        m->prototypes[i] = half_round(m->prototypes[i]);
    free(scales);
    return 0;
}

/* ---- taking apart ---- */

static void parts_release(struct parts *p)
{
    free(p->bits);
    free(p->codes);
    free(p->scales);
    free(p->kept);
    free(p->rest);
    free(p->prototypes);
}

/* Room for the largest case: every weight kept. */
static int parts_init(struct parts *p, const struct model *m)
{
    const struct param_table *t = &m->net->params;
    *p = (struct parts){.prototype_count = model_file_prototypes(m)};
    for (int e = 0; e < t->entry_count; e++) {
        if (!is_conv(&t->entries[e]))
            continue;
        p->conv_count += t->entries[e].count;
        p->scale_count += (size_t)t->entries[e].dims[3];
    }
    p->rest_count = t->count - p->conv_count;
    p->bits = calloc(bit_bytes(p->conv_count), 1);
    p->codes = calloc(p->conv_count, sizeof *p->codes);
    p->scales = calloc(p->scale_count, sizeof *p->scales);
    p->kept = calloc(p->conv_count, sizeof *p->kept);
    p->rest = calloc(p->rest_count, sizeof *p->rest);
    p->prototypes = calloc(p->prototype_count, sizeof *p->prototypes);
    if (p->bits && p->codes && p->scales && p->kept && p->rest && p->prototypes)
        return 0;
    parts_release(p);
    return ERR_NOMEM;
}

/* Where the walk over all convolutions stands. */
struct place {
    size_t bit, scale, rest;
};

static bool same_bits(float a, float b)
{
    return memcmp(&a, &b, sizeof a) == 0;
}

/* Takes one kept weight: false when it is not what snapshot_round leaves. */
static bool take_weight(struct parts *p, int bits, float weight, float scale)
{
    if (bits == SNAPSHOT_HALF) {
        p->kept[p->kept_count] = half_from_float(weight);
        return same_bits(half_to_float(p->kept[p->kept_count++]), weight);
    }
    float code = quantise_code(bits, weight, scale);
    p->codes[p->kept_count++] = (int8_t)code;
    return same_bits(code * scale + 0.0f, weight);
}

static bool take_conv(struct parts *p, const struct param_entry *e, const uint8_t *mask, int bits,
                      const float *weights, struct place *at, float *scales)
{
    int channels = e->dims[3];
    if (p->coded) {
        quantise_scales(bits, e->count, channels, weights, mask, scales);
        for (int c = 0; c < channels; c++)
            p->scales[at->scale++] = quantise_pack_scale(scales[c]);
    }
    for (size_t i = 0; i < e->count; i++, at->bit++) {
        if (!mask[i] && !same_bits(weights[i], 0.0f))
            return false;
        if (!mask[i])
            continue;
        p->bits[at->bit / 8] |= (uint8_t)(1u << at->bit % 8);
        if (!take_weight(p, bits, weights[i], scales[i % (size_t)channels]))
            return false;
    }
    return true;
}

static bool take_halves(size_t count, const float *values, uint16_t *to)
{
    for (size_t i = 0; i < count; i++) {
        to[i] = half_from_float(values[i]);
        if (!same_bits(half_to_float(to[i]), values[i]))
            return false;
    }
    return true;
}

/* All floats of `m` are finite. */
static int take_apart(struct parts *p, const struct model *m, const uint8_t *mask, int bits)
{
    const struct param_table *t = &m->net->params;
    float *scales = calloc((size_t)most_channels(t), sizeof *scales);
    struct place at = {0};
    if (!scales)
        return ERR_NOMEM;
    p->coded = bits != SNAPSHOT_HALF;
    bool good = take_halves(p->prototype_count, m->prototypes, p->prototypes);
    for (int e = 0; good && e < t->entry_count; e++) {
        const struct param_entry *entry = &t->entries[e];
        const float *values = m->params + entry->offset;
        if (is_conv(entry)) {
            good = take_conv(p, entry, mask + entry->offset, bits, values, &at, scales);
        } else {
            good = take_halves(entry->count, values, p->rest + at.rest);
            at.rest += entry->count;
        }
    }
    free(scales);
    return good ? 0 : ERR_INVALID;
}

/* ---- writing ---- */

/* One zstd frame; *packed is the caller's to free. */
static int pack(const void *data, size_t bytes, uint32_t id, struct container_section *out,
                void **packed)
{
    size_t room = ZSTD_compressBound(bytes);
    *packed = malloc(room);
    if (!*packed)
        return ERR_NOMEM;
    size_t size = ZSTD_compress(*packed, room, data, bytes, ZSTD_LEVEL);
    if (ZSTD_isError(size))
        return ERR_NOMEM; /* with this much room nothing else can go wrong */
    *out = (struct container_section){id, size, *packed};
    return 0;
}

static struct container_section halves(uint32_t id, size_t count, const uint16_t *data)
{
    return (struct container_section){id, count * sizeof *data, data};
}

static int write_parts(const struct parts *p, const struct model_file_spec *spec,
                       struct container_section *sections, const char *path, uint64_t *out_bytes)
{
    struct container_section *s = sections + MODEL_FILE_SECTIONS;
    void *mask = NULL, *codes = NULL;
    (void)spec; /* the first sections borrow from it */
    *s++ = halves(MODEL_FILE_PROTOTYPES, p->prototype_count, p->prototypes);
    int err = pack(p->bits, bit_bytes(p->conv_count), SECTION_MASK, s++, &mask);
    if (!err && p->coded) {
        *s++ = halves(SECTION_SCALES, p->scale_count, p->scales);
        err = pack(p->codes, p->kept_count, SECTION_CODES, s++, &codes);
    } else {
        *s++ = halves(SECTION_KEPT, p->kept_count, p->kept);
    }
    *s++ = halves(SECTION_REST, p->rest_count, p->rest);
    if (!err)
        err = container_write(path, CONTAINER_SNAPSHOT, sections, (int)(s - sections), out_bytes);
    free(mask);
    free(codes);
    return err;
}

int snapshot_save(const struct model *m, const uint8_t *mask, int bits, const char *path,
                  uint64_t *out_bytes)
{
    struct model_file_spec spec;
    struct container_section sections[SNAPSHOT_SECTIONS];
    struct parts p;
    int err = snapshot_bits_valid(bits) ? model_file_describe(m, &spec, sections) : ERR_INVALID;
    if (!err)
        err = parts_init(&p, m);
    if (err)
        return err;
    err = take_apart(&p, m, mask, bits);
    if (!err)
        err = write_parts(&p, &spec, sections, path, out_bytes);
    parts_release(&p);
    return err;
}

/* ---- reading ---- */

/* Unpacks a frame that must hold exactly `bytes`. */
static int unpack(const struct container *c, uint32_t id, void *to, size_t bytes)
{
    struct container_section s;
    int err = container_find(c, id, &s);
    if (err)
        return err;
    if (ZSTD_getFrameContentSize(s.data, s.size_bytes) != bytes ||
        ZSTD_decompress(to, bytes, s.data, s.size_bytes) != bytes)
        return ERR_FORMAT;
    return 0;
}

static int read_halves(const struct container *c, uint32_t id, size_t count, uint16_t *to)
{
    const void *from;
    int err = container_find_sized(c, id, count * sizeof *to, &from);
    if (!err)
        memcpy(to, from, count * sizeof *to);
    return err;
}

/* Unpacks the mask into p->bits and counts its ones into p->kept_count. */
static int read_mask(struct parts *p, const struct container *c)
{
    size_t bytes = bit_bytes(p->conv_count);
    int err = unpack(c, SECTION_MASK, p->bits, bytes);
    if (err)
        return err;
    if (p->conv_count % 8 != 0 && p->bits[bytes - 1] >> p->conv_count % 8 != 0)
        return ERR_FORMAT;
    for (size_t i = 0; i < bytes; i++)
        p->kept_count += (size_t)__builtin_popcount(p->bits[i]);
    return 0;
}

/* Codes and scales, with the only values a writer makes. */
static int read_codes(struct parts *p, const struct container *c)
{
    int err = read_halves(c, SECTION_SCALES, p->scale_count, p->scales);
    if (!err)
        err = unpack(c, SECTION_CODES, p->codes, p->kept_count);
    for (size_t i = 0; !err && i < p->kept_count; i++)
        if (p->codes[i] == INT8_MIN)
            err = ERR_CORRUPT;
    for (size_t i = 0; !err && i < p->scale_count; i++)
        if (p->scales[i] >> 15)
            err = ERR_CORRUPT;
    return err;
}

static int read_parts(struct parts *p, const struct container *c)
{
    struct container_section s;
    int err = read_mask(p, c);
    p->coded = container_find(c, SECTION_CODES, &s) == 0;
    if (!err && p->coded && container_find(c, SECTION_KEPT, &s) == 0)
        err = ERR_FORMAT;
    if (!err)
        err = p->coded ? read_codes(p, c)
                       : read_halves(c, SECTION_KEPT, p->kept_count, p->kept);
    if (!err)
        err = read_halves(c, SECTION_REST, p->rest_count, p->rest);
    if (!err)
        err = read_halves(c, MODEL_FILE_PROTOTYPES, p->prototype_count, p->prototypes);
    return err;
}

static void put_conv(const struct parts *p, const struct param_entry *e, struct place *at,
                     size_t *kept, float *weights)
{
    size_t channels = (size_t)e->dims[3];
    for (size_t i = 0; i < e->count; i++, at->bit++) {
        if (!(p->bits[at->bit / 8] >> at->bit % 8 & 1))
            continue;
        float scale = quantise_unpack_scale(p->scales[at->scale + i % channels]);
        weights[i] = p->coded ? (float)p->codes[*kept] * scale : half_to_float(p->kept[*kept]);
        ++*kept;
    }
    at->scale += channels;
}

/* The inverse of take_apart; `m` is zero where nothing was kept. */
static void put_together(const struct parts *p, struct model *m)
{
    const struct param_table *t = &m->net->params;
    struct place at = {0};
    size_t kept = 0;
    for (int e = 0; e < t->entry_count; e++) {
        const struct param_entry *entry = &t->entries[e];
        float *values = m->params + entry->offset;
        if (is_conv(entry)) {
            put_conv(p, entry, &at, &kept, values);
            continue;
        }
        for (size_t i = 0; i < entry->count; i++)
            values[i] = half_to_float(p->rest[at.rest++]);
    }
    for (size_t i = 0; i < p->prototype_count; i++)
        m->prototypes[i] = half_to_float(p->prototypes[i]);
}

static int restore(struct model *m, const struct container *c)
{
    struct parts p;
    int err = parts_init(&p, m);
    if (err)
        return err;
    err = read_parts(&p, c);
    if (!err) {
        put_together(&p, m);
        if (!model_file_finite(m->params, m->net->params.count) ||
            !model_file_finite(m->prototypes, p.prototype_count))
            err = ERR_CORRUPT;
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
        err = restore(m, c);
    container_free(c);
    if (err) {
        model_release(m);
        return err;
    }
    *out = m;
    return 0;
}
