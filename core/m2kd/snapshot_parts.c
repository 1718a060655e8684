/*
 * snapshot_parts.c - see snapshot_parts.h.
 */
#include "core/m2kd/snapshot_parts.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "core/err.h"
#include "core/m2kd/mask.h"
#include "core/model/model_file.h"
#include "core/nn/half.h"

void parts_release(struct parts *p)
{
    free(p->bits);
    free(p->codes);
    free(p->scales);
    free(p->kept);
    free(p->rest);
    free(p->prototypes);
    free(p->covariance);
}

int parts_init(struct parts *p, const struct model *m, const uint8_t *mask)
{
    const struct param_table *t = &m->net->params;
    *p = (struct parts){.prototype_count = model_file_prototypes(m)};
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
    p->prototypes = calloc(p->prototype_count, sizeof *p->prototypes);
    p->covariance = malloc(packed_covariance_bytes(m));
    if (p->bits && p->codes && p->scales && p->kept && p->rest && p->prototypes && p->covariance)
        return 0;
    parts_release(p);
    return ERR_NOMEM;
}

size_t base_folder(const char *path)
{
    const char *slash = strrchr(path, '/');
    return slash ? (size_t)(slash - path) + 1 : 0;
}

/* Of the float's exponents; a covariance beyond is cut off. */
enum { EXPONENT_MIN = -100, EXPONENT_MAX = 127 };
/* The largest half below 2, so that no entry of the largest scale becomes infinite. */
#define ENTRY_MAX 0x1.ffcp0f

bool covariance_pack(const struct model *m, struct packed_covariance *to)
{
    size_t count = COVARIANCE_FLOATS(model_width(m));
    float most = 0;
    int exponent;
    bool same = true;
    for (size_t i = 0; i < count; i++)
        most = fmaxf(most, fabsf(m->covariance[i]));
    if (frexpf(most, &exponent) == 0.5f)
        exponent--;
    exponent = exponent < EXPONENT_MIN ? EXPONENT_MIN : exponent;
    exponent = exponent > EXPONENT_MAX ? EXPONENT_MAX : exponent;
    to->scale = most > 0 ? ldexpf(1, exponent) : 1;
    for (size_t i = 0; i < count; i++) {
        float entry = m->covariance[i] / to->scale;
        if (fabsf(entry) > ENTRY_MAX)
            entry = copysignf(ENTRY_MAX, entry);
        to->halves[i] = half_from_float(entry);
        same = same && half_to_float(to->halves[i]) * to->scale == m->covariance[i];
    }
    return same;
}

void covariance_unpack(const struct packed_covariance *from, struct model *m)
{
    for (size_t i = 0; i < COVARIANCE_FLOATS(model_width(m)); i++)
        m->covariance[i] = half_to_float(from->halves[i]) * from->scale;
}
