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
    if (p->bits && p->codes && p->scales && p->kept && p->rest)
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

int coded_section(struct arithmetic *a, int err, uint32_t id, struct container_section *out,
                  void **bytes)
{
    size_t size_bytes;
    if (err)
        free(a->bytes);
    else
        err = arithmetic_finish(a, bytes, &size_bytes);
    if (!err)
        *out = (struct container_section){id, size_bytes, *bytes};
    return err;
}

int coded_open(struct arithmetic *a, const struct container *c, uint32_t id)
{
    struct container_section s;
    int err = container_find(c, id, &s);
    if (!err)
        arithmetic_decoder(a, s.data, s.size_bytes);
    return err;
}
