/*
 * snapshot_parts.c - see snapshot_parts.h.
 */
#include "core/m2kd/snapshot_parts.h"

#include <stdlib.h>
#include <string.h>
#include <zstd.h>

#include "core/err.h"
#include "core/m2kd/mask.h"
#include "core/model/model_file.h"

enum { ZSTD_LEVEL = 19 };

void parts_release(struct parts *p)
{
    free(p->bits);
    free(p->codes);
    free(p->scales);
    free(p->kept);
    free(p->rest);
    statistics_codes_release(&p->statistics);
}

int parts_init(struct parts *p, const struct model *m, const uint8_t *mask)
{
    const struct param_table *t = &m->net->params;
    *p = (struct parts){0};
    for (int e = 0; e < t->entry_count; e++) {
        if (!is_conv(&t->entries[e]))
            continue;
        p->conv_count += t->entries[e].count;
        for (size_t i = 0; i < t->entries[e].count; i++)
            p->bit_count += mask[t->entries[e].offset + i] != MASK_OWNED;
        p->scale_count += (size_t)t->entries[e].dims[3];
    }
    p->rest_count = t->count - p->conv_count;
    p->bits = calloc(bit_bytes(p->bit_count) + 1, 1);
    p->codes = calloc(p->conv_count, sizeof *p->codes);
    p->scales = calloc(p->scale_count, sizeof *p->scales);
    p->kept = calloc(p->conv_count, sizeof *p->kept);
    p->rest = calloc(p->rest_count, sizeof *p->rest);
    if (p->bits && p->codes && p->scales && p->kept && p->rest &&
        statistics_codes_init(&p->statistics, m->net->spec.classes, model_width(m)) == 0)
        return 0;
    parts_release(p);
    return ERR_NOMEM;
}

size_t base_folder(const char *path)
{
    const char *slash = strrchr(path, '/');
    return slash ? (size_t)(slash - path) + 1 : 0;
}

int frame_pack(const void *data, size_t bytes, uint32_t id, struct container_section *out,
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

int frame_unpack(const struct container *c, uint32_t id, void *to, size_t bytes)
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

/* ---- prototypes and covariance ---- */

/* The sign as the lowest bit, so that small codes of either have zeros above. */
static void to_planes(size_t count, const int16_t *codes, uint8_t *planes)
{
    for (size_t i = 0; i < count; i++)
        plane_put(planes, count, i,
                  codes[i] < 0 ? (unsigned)-codes[i] * 2 - 1 : (unsigned)codes[i] * 2);
}

/* ERR_CORRUPT: one is -32768, which no writer makes. */
static int from_planes(size_t count, const uint8_t *planes, int16_t *codes)
{
    for (size_t i = 0; i < count; i++) {
        int folded = (int)plane_get(planes, count, i);
        if (folded == UINT16_MAX)
            return ERR_CORRUPT;
        codes[i] = (int16_t)(folded & 1 ? -(folded / 2) - 1 : folded / 2);
    }
    return 0;
}

static size_t mean_count(const struct statistics_codes *s)
{
    return (size_t)s->classes * (size_t)s->width;
}

/* Bytes of the frame of the factor: exponent, pivots, planes. */
static size_t factor_bytes(const struct statistics_codes *s)
{
    return sizeof(int32_t) + (size_t)s->width + plane_bytes(statistics_factor_count(s->width));
}

void packed_statistics_release(struct packed_statistics *p)
{
    free(p->factor);
    free(p->means);
    *p = (struct packed_statistics){0};
}

int statistics_pack(const struct statistics_codes *s, struct packed_statistics *out)
{
    size_t means = mean_count(s);
    uint8_t *factor_plain = malloc(factor_bytes(s)), *means_plain = malloc(plane_bytes(means));
    int32_t exponent = s->exponent;
    int err = factor_plain && means_plain ? 0 : ERR_NOMEM;
    *out = (struct packed_statistics){0};
    if (!err) {
        uint8_t *pivots = factor_plain + sizeof exponent;
        memcpy(factor_plain, &exponent, sizeof exponent);
        memcpy(pivots, s->pivots, (size_t)s->width);
        to_planes(statistics_factor_count(s->width), s->factor, pivots + s->width);
        to_planes(means, s->means, means_plain);
        err = frame_pack(factor_plain, factor_bytes(s), SECTION_FACTOR, &out->sections[0],
                         &out->factor);
    }
    if (!err)
        err = frame_pack(means_plain, plane_bytes(means), SECTION_MEANS, &out->sections[1],
                         &out->means);
    if (err)
        packed_statistics_release(out);
    free(factor_plain);
    free(means_plain);
    return err;
}

int statistics_unpack(const struct container *c, struct statistics_codes *s)
{
    size_t means = mean_count(s);
    uint8_t *factor_plain = malloc(factor_bytes(s)), *means_plain = malloc(plane_bytes(means));
    int32_t exponent;
    int err = factor_plain && means_plain ? 0 : ERR_NOMEM;
    if (!err)
        err = frame_unpack(c, SECTION_FACTOR, factor_plain, factor_bytes(s));
    if (!err)
        err = frame_unpack(c, SECTION_MEANS, means_plain, plane_bytes(means));
    if (!err) {
        const uint8_t *pivots = factor_plain + sizeof exponent;
        memcpy(&exponent, factor_plain, sizeof exponent);
        memcpy(s->pivots, pivots, (size_t)s->width);
        s->exponent = exponent;
        err = exponent < STATISTICS_EXPONENT_MIN || exponent > STATISTICS_EXPONENT_MAX
                  ? ERR_CORRUPT
                  : from_planes(statistics_factor_count(s->width), pivots + s->width, s->factor);
    }
    if (!err)
        err = from_planes(means, means_plain, s->means);
    free(factor_plain);
    free(means_plain);
    return err;
}
