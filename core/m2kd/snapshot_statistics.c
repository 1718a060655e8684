/*
 * snapshot_statistics.c - see snapshot_statistics.h and SNAPSHOT_FORMAT.md.
 */
#include "core/m2kd/snapshot_statistics.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "core/err.h"
#include "core/m2kd/prototypes.h"
#include "core/m2kd/snapshot_parts.h"
#include "core/m2kd/statistics.h"
#include "core/model/model_file.h"
#include "core/nn/half.h"

/* The COVH section, as it stands in the file: entries are halves times the scale, the power of two that the largest one needs. */
struct covariance_halves {
    float scale;
    uint16_t halves[];
};

/* Of the float's exponents; a covariance beyond is cut off. */
enum { EXPONENT_MIN = -100, EXPONENT_MAX = 127 };
/* The largest half below 2, so that no entry of the largest scale becomes infinite. */
#define ENTRY_MAX 0x1.ffcp0f

static size_t covariance_count(const struct model *m)
{
    return COVARIANCE_FLOATS(model_width(m));
}

static size_t halves_bytes(const struct model *m)
{
    return sizeof(struct covariance_halves) + covariance_count(m) * sizeof(uint16_t);
}

/* ---- halves ---- */

/* Whether it is what comes back. */
static bool covariance_to_halves(const struct model *m, struct covariance_halves *to)
{
    float most = 0;
    int exponent;
    bool same = true;
    for (size_t i = 0; i < covariance_count(m); i++)
        most = fmaxf(most, fabsf(m->covariance[i]));
    if (frexpf(most, &exponent) == 0.5f)
        exponent--;
    exponent = exponent < EXPONENT_MIN ? EXPONENT_MIN : exponent;
    exponent = exponent > EXPONENT_MAX ? EXPONENT_MAX : exponent;
    to->scale = most > 0 ? ldexpf(1, exponent) : 1;
    for (size_t i = 0; i < covariance_count(m); i++) {
        float entry = m->covariance[i] / to->scale;
        if (fabsf(entry) > ENTRY_MAX)
            entry = copysignf(ENTRY_MAX, entry);
        to->halves[i] = half_from_float(entry);
        same = same && half_to_float(to->halves[i]) * to->scale == m->covariance[i];
    }
    return same;
}

static void covariance_from_halves(const struct covariance_halves *from, struct model *m)
{
    for (size_t i = 0; i < covariance_count(m); i++)
        m->covariance[i] = half_to_float(from->halves[i]) * from->scale;
}

int statistics_round_halves(struct model *m)
{
    struct covariance_halves *covariance = malloc(halves_bytes(m));
    if (!covariance)
        return ERR_NOMEM;
    for (size_t i = 0; i < model_file_prototypes(m); i++)
        m->prototypes[i] = half_to_float(half_from_float(m->prototypes[i]));
    covariance_to_halves(m, covariance);
    covariance_from_halves(covariance, m);
    free(covariance);
    return 0;
}

static int pack_halves(const struct model *m, struct packed_statistics *out)
{
    size_t count = model_file_prototypes(m);
    uint16_t *prototypes = out->prototypes = malloc(count * sizeof *prototypes);
    struct covariance_halves *covariance = out->covariance = malloc(halves_bytes(m));
    if (!prototypes || !covariance)
        return ERR_NOMEM;
    bool same = covariance_to_halves(m, covariance);
    for (size_t i = 0; i < count; i++) {
        prototypes[i] = half_from_float(m->prototypes[i]);
        same = same && half_to_float(prototypes[i]) == m->prototypes[i];
    }
    out->sections[0] =
        (struct container_section){SECTION_COVARIANCE_HALVES, halves_bytes(m), covariance};
    out->sections[1] = (struct container_section){MODEL_FILE_PROTOTYPES,
                                                  count * sizeof *prototypes, prototypes};
    return same ? 0 : ERR_INVALID;
}

static int restore_covariance_halves(struct model *m, const struct container *c)
{
    const void *section;
    int exponent;
    struct covariance_halves *covariance;
    int err = container_find_sized(c, SECTION_COVARIANCE_HALVES, halves_bytes(m), &section);
    if (err)
        return err;
    covariance = malloc(halves_bytes(m));
    if (!covariance)
        return ERR_NOMEM;
    memcpy(covariance, section, halves_bytes(m));
    if (!isnormal(covariance->scale) || frexpf(covariance->scale, &exponent) != 0.5f)
        err = ERR_CORRUPT;
    else
        covariance_from_halves(covariance, m);
    free(covariance);
    return err;
}

static int restore_halves(struct model *m, const struct container *c)
{
    size_t count = model_file_prototypes(m);
    struct container_section s;
    const void *section;
    int err = container_find_sized(c, MODEL_FILE_PROTOTYPES, count * sizeof(uint16_t), &section);
    if (err)
        return err;
    for (size_t i = 0; i < count; i++) {
        uint16_t half;
        memcpy(&half, (const uint8_t *)section + i * sizeof half, sizeof half);
        m->prototypes[i] = half_to_float(half);
    }
    /* Files of before there was that section have it as model files do. */
    return container_find(c, SECTION_COVARIANCE_HALVES, &s) == 0
               ? restore_covariance_halves(m, c)
               : model_file_floats(c, MODEL_FILE_COVARIANCE, covariance_count(m), m->covariance);
}

/* ---- coded ---- */

static int codes_init(struct statistics_codes *s, const struct model *m)
{
    return statistics_codes_init(s, m->net->spec.classes, model_width(m));
}

int statistics_round_coded(struct model *m)
{
    size_t prototypes = model_file_prototypes(m), covariance = covariance_count(m);
    struct statistics_codes s;
    bool found = false;
    int err = codes_init(&s, m);
    if (err)
        return err;
    float *rounded = malloc((prototypes + covariance) * sizeof *rounded);
    err = rounded ? statistics_find(&s, m->prototypes, m->covariance, &found) : ERR_NOMEM;
    if (!err && !found) {
        err = statistics_encode(&s, m->prototypes, m->covariance, &found);
        if (!err && found)
            err = statistics_decode(&s, rounded, rounded + prototypes);
        if (!err && found) /* what is saved must have codes itself */
            err = statistics_find(&s, rounded, rounded + prototypes, &found);
        if (!err && found) {
            memcpy(m->prototypes, rounded, prototypes * sizeof *rounded);
            memcpy(m->covariance, rounded + prototypes, covariance * sizeof *rounded);
        } else if (!err) {
            err = statistics_round_halves(m);
        }
    }
    free(rounded);
    statistics_codes_release(&s);
    return err;
}

static int pack_means(struct statistics_codes *s, struct container_section *out, void **bytes)
{
    struct arithmetic a;
    arithmetic_encoder(&a);
    return coded_section(&a, coding_means(&a, s), SECTION_MEANS, out, bytes);
}

static int unpack_means(const struct container *c, struct statistics_codes *s)
{
    struct arithmetic a;
    int err = coded_open(&a, c, SECTION_MEANS);
    if (!err)
        err = coding_means(&a, s);
    return err ? err : arithmetic_end(&a);
}

static int pack_coded(struct statistics_codes *s, struct packed_statistics *out)
{
    struct arithmetic a;
    arithmetic_encoder(&a);
    int err = coded_section(&a, coding_covariance(&a, s), SECTION_COVARIANCE, &out->sections[0],
                            &out->covariance);
    return err ? err : pack_means(s, &out->sections[1], &out->prototypes);
}

static int restore_coded(struct model *m, const struct container *c)
{
    struct statistics_codes s;
    struct arithmetic a;
    int err = codes_init(&s, m);
    if (err)
        return err;
    err = coded_open(&a, c, SECTION_COVARIANCE);
    if (!err)
        err = coding_covariance(&a, &s);
    if (!err)
        err = arithmetic_end(&a);
    if (!err)
        err = unpack_means(c, &s);
    if (!err)
        err = statistics_decode(&s, m->prototypes, m->covariance);
    statistics_codes_release(&s);
    return err;
}

/* ---- either ---- */

void packed_statistics_release(struct packed_statistics *p)
{
    free(p->covariance);
    free(p->prototypes);
    *p = (struct packed_statistics){0};
}

int statistics_pack(const struct model *m, struct packed_statistics *out)
{
    struct statistics_codes s;
    bool found;
    *out = (struct packed_statistics){0};
    int err = codes_init(&s, m);
    if (err)
        return err;
    err = statistics_find(&s, m->prototypes, m->covariance, &found);
    if (!err)
        err = found ? pack_coded(&s, out) : pack_halves(m, out);
    if (err)
        packed_statistics_release(out);
    statistics_codes_release(&s);
    return err;
}

bool statistics_section(uint32_t id)
{
    return id == SECTION_COVARIANCE || id == SECTION_MEANS || id == SECTION_COVARIANCE_HALVES ||
           id == MODEL_FILE_PROTOTYPES || id == MODEL_FILE_COVARIANCE;
}

int statistics_restore(struct model *m, const struct container *c)
{
    struct container_section s;
    int err = container_find(c, SECTION_COVARIANCE, &s) == 0 ? restore_coded(m, c)
                                                              : restore_halves(m, c);
    if (err)
        return err;
    return model_file_finite(m->prototypes, model_file_prototypes(m)) &&
                   model_file_finite(m->covariance, covariance_count(m))
               ? 0
               : ERR_CORRUPT;
}

int statistics_forget(const struct container *c, const int *classes, int count,
                      struct container_section *means, void **bytes, bool *changed)
{
    struct statistics_codes s;
    struct model *m;
    int err = model_file_restore(&m, c, CONV_ISA_BASELINE);
    if (err)
        return err;
    err = codes_init(&s, m);
    model_release(m);
    if (err)
        return err;
    err = unpack_means(c, &s);
    *changed = false;
    for (int i = 0; i < count && !err; i++) {
        int16_t *row = s.means + (size_t)classes[i] * (size_t)s.width;
        for (int f = 0; f < s.width; f++) {
            *changed = *changed || row[f] != 0;
            row[f] = 0;
        }
    }
    if (!err)
        err = pack_means(&s, means, bytes);
    statistics_codes_release(&s);
    return err;
}
