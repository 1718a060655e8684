/*
 * snapshot_read.c - models from snapshot files; see snapshot.h and SNAPSHOT_FORMAT.md.
 *
 * A file of the shared store says which file it builds on, that one the next, and so on to one that stands alone. They
 * are read from there back: each claims some of the weights that those before it left free.
 */
#include <stdlib.h>
#include <string.h>

#include "core/err.h"
#include "core/m2kd/mask.h"
#include "core/m2kd/snapshot.h"
#include "core/m2kd/snapshot_parts.h"
#include "core/m2kd/snapshot_statistics.h"
#include "core/model/model_file.h"
#include "core/nn/half.h"

enum { PATH_BYTES = 4400 };

static int read_halves(const struct container *c, uint32_t id, size_t count, uint16_t *to)
{
    const void *from;
    int err = container_find_sized(c, id, count * sizeof *to, &from);
    if (!err)
        memcpy(to, from, count * sizeof *to);
    return err;
}

/* The mask, as it is coded or, in earlier files, packed. */
static int read_bits(struct parts *p, const struct container *c, const struct param_table *t,
                     const uint8_t *owned)
{
    struct container_section s;
    struct arithmetic a;
    size_t bytes = bit_bytes(p->bit_count);
    int err;
    if (container_find(c, SECTION_MASK, &s) != 0) {
        err = frame_unpack(c, SECTION_MASK_FRAME, p->bits, bytes);
        if (!err && p->bit_count % 8 != 0 && p->bits[bytes - 1] >> p->bit_count % 8 != 0)
            err = ERR_FORMAT;
        return err;
    }
    err = coded_open(&a, c, SECTION_MASK);
    if (!err)
        err = coding_mask(&a, t, owned, p->bits);
    return err ? err : arithmetic_end(&a);
}

/* The codes, likewise; with the only values a writer makes. */
static int read_codes(struct parts *p, const struct container *c, const struct param_table *t,
                      const uint8_t *owned)
{
    struct container_section s;
    struct arithmetic a;
    int err;
    if (container_find(c, SECTION_CODES, &s) != 0) {
        err = frame_unpack(c, SECTION_CODES_FRAME, p->codes, p->kept_count);
        for (size_t i = 0; !err && i < p->kept_count; i++)
            if (p->codes[i] == INT8_MIN)
                err = ERR_CORRUPT;
        return err;
    }
    err = coded_open(&a, c, SECTION_CODES);
    if (!err)
        err = coding_weights(&a, t, owned, p->bits, p->codes);
    return err ? err : arithmetic_end(&a);
}

static int read_scales(struct parts *p, const struct container *c)
{
    int err = read_halves(c, SECTION_SCALES, p->scale_count, p->scales);
    for (size_t i = 0; !err && i < p->scale_count; i++)
        if (p->scales[i] >> 15)
            err = ERR_CORRUPT;
    return err;
}

/* The mask and the weights it keeps. `owned`: those of files below. */
static int read_weights(struct parts *p, const struct container *c, const struct param_table *t,
                        const uint8_t *owned)
{
    struct container_section s;
    p->coded = container_find(c, SECTION_CODES, &s) == 0 ||
               container_find(c, SECTION_CODES_FRAME, &s) == 0;
    int err = p->coded == (container_find(c, SECTION_KEPT, &s) == 0)
                  ? ERR_FORMAT
                  : read_bits(p, c, t, owned);
    for (size_t i = 0; !err && i < bit_bytes(p->bit_count); i++)
        p->kept_count += (size_t)__builtin_popcount(p->bits[i]);
    if (err)
        return err;
    if (!p->coded)
        return read_halves(c, SECTION_KEPT, p->kept_count, p->kept);
    err = read_scales(p, c);
    return err ? err : read_codes(p, c, t, owned);
}

/* Fills in the weights this file keeps; they are owned from now on. */
static void put_conv(const struct parts *p, const struct param_entry *e, struct place *at,
                     size_t *kept, uint8_t *owned, float *weights)
{
    size_t channels = (size_t)e->dims[3];
    for (size_t i = 0; i < e->count; i++) {
        if (owned[i] == MASK_OWNED)
            continue;
        bool own = p->bits[at->bit / 8] >> at->bit % 8 & 1;
        at->bit++;
        if (!own)
            continue;
        float scale = quantise_unpack_scale(p->scales[at->scale + i % channels]);
        weights[i] = p->coded ? (float)p->codes[*kept] * scale : half_to_float(p->kept[*kept]);
        owned[i] = MASK_OWNED;
        ++*kept;
    }
    at->scale += channels;
}

static void put_weights(const struct parts *p, struct model *m, uint8_t *owned)
{
    const struct param_table *t = &m->net->params;
    struct place at = {0};
    size_t kept = 0;
    for (int e = 0; e < t->entry_count; e++) {
        const struct param_entry *entry = &t->entries[e];
        if (is_conv(entry))
            put_conv(p, entry, &at, &kept, owned + entry->offset, m->params + entry->offset);
    }
}

/* All parameters but convolution weights. */
static void put_rest(const struct parts *p, struct model *m)
{
    const struct param_table *t = &m->net->params;
    size_t at = 0;
    for (int e = 0; e < t->entry_count; e++) {
        const struct param_entry *entry = &t->entries[e];
        for (size_t i = 0; i < entry->count && !is_conv(entry); i++)
            m->params[entry->offset + i] = half_to_float(p->rest[at++]);
    }
}

/* Files of before there was SECTION_REST have the halves as they are. */
static int read_rest(struct parts *p, const struct container *c)
{
    struct container_section s;
    if (container_find(c, SECTION_REST, &s) != 0)
        return read_halves(c, SECTION_REST_PLAIN, p->rest_count, p->rest);
    uint8_t *planes = malloc(plane_bytes(p->rest_count));
    if (!planes)
        return ERR_NOMEM;
    int err = frame_unpack(c, SECTION_REST, planes, plane_bytes(p->rest_count));
    for (size_t i = 0; i < p->rest_count && !err; i++)
        p->rest[i] = (uint16_t)plane_get(planes, p->rest_count, i);
    free(planes);
    return err;
}

static int restore_rest(struct model *m, struct parts *p, const struct container *c,
                        bool statistics)
{
    int err = read_rest(p, c);
    if (!err && statistics)
        err = statistics_restore(m, c);
    if (err)
        return err;
    put_rest(p, m);
    return model_file_params_valid(m->net, m->params) ? 0 : ERR_CORRUPT;
}

/* Where a model and the files it is made of stand. */
struct rebuilding {
    struct model *m;
    uint8_t *owned;        /* by the files read so far */
    bool statistics;       /* are asked for */
    char path[PATH_BYTES]; /* of one of them */
    size_t folder;         /* bytes of the path that are the same for all */
};

static int restore_weights(struct rebuilding *r, const struct model *at, const struct container *c);

/* The weights of the file that one of model `at` builds on, and of those below it. Each is of fewer
 * steps than the one above, so there is an end to it. */
static int restore_below(struct rebuilding *r, const struct model *at, const struct base *base)
{
    struct container *c;
    struct model *below = NULL;
    size_t room = sizeof r->path - r->folder;
    if (!model_file_name_valid(base->name))
        return ERR_FORMAT;
    if (strlen(base->name) >= room)
        return ERR_INVALID;
    memcpy(r->path + r->folder, base->name, strlen(base->name) + 1);
    int err = container_read(&c, r->path, CONTAINER_SNAPSHOT);
    if (err)
        return err;
    err = container_identity(c) == base->identity ? model_file_restore(&below, c, at->net->isa)
                                                  : ERR_CORRUPT;
    if (!err)
        err = model_continues(at, below, 1) ? restore_weights(r, below, c) : ERR_FORMAT;
    model_release(below);
    container_free(c);
    return err;
}

/* Convolution weights of the file `c` of model `at`, and of all below it. */
static int restore_weights(struct rebuilding *r, const struct model *at, const struct container *c)
{
    struct container_section s;
    struct base base;
    struct parts p;
    int err = 0;
    if (container_find(c, SECTION_BASE, &s) == 0) {
        if (s.size_bytes != sizeof base)
            return ERR_FORMAT;
        memcpy(&base, s.data, sizeof base);
        err = restore_below(r, at, &base);
    }
    if (!err)
        err = parts_init(&p, r->m, r->owned);
    if (err)
        return err;
    err = read_weights(&p, c, &r->m->net->params, r->owned);
    if (!err)
        put_weights(&p, r->m, r->owned);
    if (!err && at == r->m)
        err = restore_rest(r->m, &p, c, r->statistics);
    parts_release(&p);
    return err;
}

static int rebuild(struct model *m, uint8_t *owned, const struct container *c, const char *path,
                   bool statistics)
{
    struct rebuilding *r = calloc(1, sizeof *r);
    if (!r)
        return ERR_NOMEM;
    r->m = m;
    r->owned = owned;
    r->statistics = statistics;
    r->folder = base_folder(path);
    memset(owned, MASK_KEPT, m->net->params.count);
    int err = r->folder < sizeof r->path ? 0 : ERR_INVALID;
    if (!err) {
        memcpy(r->path, path, r->folder);
        err = restore_weights(r, m, c);
    }
    free(r);
    return err;
}

/* `out_owned` may be NULL. */
static int load(struct model **out, uint8_t **out_owned, const char *path, enum conv_isa isa,
                bool statistics)
{
    struct container *c;
    struct model *m = NULL;
    uint8_t *owned = NULL;
    int err = container_read(&c, path, CONTAINER_SNAPSHOT);
    if (err)
        return err;
    err = model_file_restore(&m, c, isa);
    if (!err && !(owned = malloc(m->net->params.count)))
        err = ERR_NOMEM;
    if (!err)
        err = rebuild(m, owned, c, path, statistics);
    container_free(c);
    if (err)
        model_release(m);
    else
        *out = m;
    if (err || !out_owned)
        free(owned);
    else
        *out_owned = owned;
    return err;
}

int snapshot_load_owned(struct model **out, uint8_t **out_owned, const char *path,
                        enum conv_isa isa)
{
    return load(out, out_owned, path, isa, true);
}

int snapshot_load(struct model **out, const char *path, enum conv_isa isa)
{
    return load(out, NULL, path, isa, true);
}

int snapshot_load_network(struct model **out, const char *path, enum conv_isa isa)
{
    return load(out, NULL, path, isa, false);
}
