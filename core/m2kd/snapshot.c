/*
 * snapshot.c - pruned models to files: rounding, taking apart, writing; see snapshot.h and SNAPSHOT_FORMAT.md.
 */
#include "core/m2kd/snapshot.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "core/err.h"
#include "core/m2kd/mask.h"
#include "core/m2kd/snapshot_parts.h"
#include "core/model/model_file.h"
#include "core/nn/half.h"

/* One pass is enough, but for what is no covariance: what it becomes may need a smaller ridge, and then that again. */
enum { SNAPSHOT_SECTIONS = MODEL_FILE_SECTIONS + 7, ROUND_PASSES = 4 };

bool snapshot_bits_valid(int bits)
{
    return bits == SNAPSHOT_HALF || (bits >= QUANTISE_MIN_BITS && bits <= QUANTISE_MAX_BITS);
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
        if (mask[i] == MASK_OWNED)
            continue;
        if (mask[i] == MASK_PRUNED)
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

int snapshot_round_statistics(struct model *m)
{
    struct statistics_codes codes;
    bool exact;
    int err = statistics_codes_init(&codes, m->net->spec.classes, model_width(m));
    if (err)
        return err;
    err = statistics_encode(&codes, m->prototypes, m->covariance, &exact);
    for (int pass = 0; pass < ROUND_PASSES && !err && !exact; pass++) {
        err = statistics_decode(&codes, m->prototypes, m->covariance);
        if (!err)
            err = statistics_encode(&codes, m->prototypes, m->covariance, &exact);
    }
    statistics_codes_release(&codes);
    return err || exact ? err : ERR_INVALID;
}

int snapshot_round(struct model *m, const uint8_t *mask, int bits)
{
    const struct param_table *t = &m->net->params;
    float *scales = calloc((size_t)most_channels(t), sizeof *scales);
    int err = scales ? snapshot_round_statistics(m) : ERR_NOMEM;
    for (int e = 0; !err && e < t->entry_count; e++) {
        const struct param_entry *entry = &t->entries[e];
        float *values = m->params + entry->offset;
        if (is_conv(entry)) {
            round_conv(entry, mask + entry->offset, bits, values, scales);
            continue;
        }
        for (size_t i = 0; i < entry->count; i++)
            values[i] = half_round(values[i]);
    }
    free(scales);
    return err;
}

/* ---- taking apart ---- */

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
    for (size_t i = 0; i < e->count; i++) {
        if (mask[i] == MASK_OWNED)
            continue;
        if (mask[i] == MASK_PRUNED && !same_bits(weights[i], 0.0f))
            return false;
        if (mask[i] == MASK_KEPT)
            p->bits[at->bit / 8] |= (uint8_t)(1u << at->bit % 8);
        at->bit++;
        if (mask[i] == MASK_PRUNED)
            continue;
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
    bool good;
    int err = statistics_encode(&p->statistics, m->prototypes, m->covariance, &good);
    for (int e = 0; !err && good && e < t->entry_count; e++) {
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
    return err ? err : good ? 0 : ERR_INVALID;
}

/* ---- writing ---- */

static struct container_section halves(uint32_t id, size_t count, const uint16_t *data)
{
    return (struct container_section){id, count * sizeof *data, data};
}

static int pack_rest(const struct parts *p, struct container_section *out, void **packed)
{
    uint8_t *planes = malloc(plane_bytes(p->rest_count));
    if (!planes)
        return ERR_NOMEM;
    for (size_t i = 0; i < p->rest_count; i++)
        plane_put(planes, p->rest_count, i, p->rest[i]);
    int err = frame_pack(planes, plane_bytes(p->rest_count), SECTION_REST, out, packed);
    free(planes);
    return err;
}

/* `sections` has room for SNAPSHOT_SECTIONS, the first `count` are filled in. */
static int write_parts(const struct parts *p, struct container_section *sections, int count,
                       const char *path, uint64_t *out_bytes)
{
    struct container_section *s = sections + count;
    struct packed_statistics statistics;
    void *mask = NULL, *codes = NULL, *rest = NULL;
    int err = statistics_pack(&p->statistics, &statistics);
    if (err)
        return err;
    *s++ = statistics.sections[0];
    *s++ = statistics.sections[1];
    err = frame_pack(p->bits, bit_bytes(p->bit_count), SECTION_MASK, s++, &mask);
    if (!err && p->coded) {
        *s++ = halves(SECTION_SCALES, p->scale_count, p->scales);
        err = frame_pack(p->codes, p->kept_count, SECTION_CODES, s++, &codes);
    } else {
        *s++ = halves(SECTION_KEPT, p->kept_count, p->kept);
    }
    if (!err)
        err = pack_rest(p, s++, &rest);
    if (!err)
        err = container_write(path, CONTAINER_SNAPSHOT, sections, (int)(s - sections), out_bytes);
    packed_statistics_release(&statistics);
    free(mask);
    free(codes);
    free(rest);
    return err;
}

static int describe_base(const char *base_path, const char *path, struct base *out)
{
    size_t folder = base_folder(base_path);
    struct container *c;
    *out = (struct base){0};
    if (folder != base_folder(path) || strncmp(base_path, path, folder) != 0 ||
        strlen(base_path + folder) >= sizeof out->name)
        return ERR_INVALID;
    memcpy(out->name, base_path + folder, strlen(base_path + folder));
    if (!model_file_name_valid(out->name))
        return ERR_INVALID;
    int err = container_read(&c, base_path, CONTAINER_SNAPSHOT);
    if (err)
        return err;
    out->identity = container_identity(c);
    container_free(c);
    return 0;
}

static int save(const struct model *m, const uint8_t *mask, int bits, const char *path,
                const struct base *base, uint64_t *out_bytes)
{
    struct model_file_spec spec;
    struct container_section sections[SNAPSHOT_SECTIONS];
    struct parts p;
    int count = 0;
    int err = snapshot_bits_valid(bits) ? model_file_describe(m, &spec, sections, &count)
                                        : ERR_INVALID;
    if (!err)
        err = parts_init(&p, m, mask);
    if (err)
        return err;
    if (base)
        sections[count++] = (struct container_section){SECTION_BASE, sizeof *base, base};
    err = take_apart(&p, m, mask, bits);
    if (!err && !base && p.bit_count != p.conv_count)
        err = ERR_INVALID; /* it would lack what others own */
    if (!err)
        err = write_parts(&p, sections, count, path, out_bytes);
    parts_release(&p);
    return err;
}

int snapshot_save(const struct model *m, const uint8_t *mask, int bits, const char *path,
                  uint64_t *out_bytes)
{
    return save(m, mask, bits, path, NULL, out_bytes);
}

int snapshot_save_shared(const struct model *m, const uint8_t *mask, int bits,
                         const char *base_path, const char *path, uint64_t *out_bytes)
{
    struct base base;
    int err = describe_base(base_path, path, &base);
    return err ? err : save(m, mask, bits, path, &base, out_bytes);
}

/* Whether a refined snapshot has section `id` of its own, or none such. */
static bool is_replaced(uint32_t id, const struct container_section *sections, int count)
{
    for (int i = 0; i < count; i++)
        if (sections[i].id == id)
            return true;
    return id == MODEL_FILE_PROTOTYPES || id == SECTION_COVARIANCE_HALVES || id == MODEL_FILE_COVARIANCE;
}

/* Those of `of_path`, but for the `own` that `sections` has, and has room for. */
static int write_refined(struct container_section *sections, int own, const char *of_path,
                         const char *path, uint64_t *out_bytes)
{
    struct container_section old[CONTAINER_MAX_SECTIONS];
    struct container *c;
    int count = own;
    int err = container_read(&c, of_path, CONTAINER_SNAPSHOT);
    if (err)
        return err;
    int old_count = container_sections(c, old);
    for (int i = 0; i < old_count; i++)
        if (!is_replaced(old[i].id, sections, own))
            sections[count++] = old[i];
    err = container_write(path, CONTAINER_SNAPSHOT, sections, count, out_bytes);
    container_free(c);
    return err;
}

int snapshot_save_refined(const struct model *m, const char *of_path, const char *path,
                          uint64_t *out_bytes)
{
    struct model_file_spec spec;
    struct container_section sections[MODEL_FILE_SECTIONS + 2 + CONTAINER_MAX_SECTIONS];
    struct packed_statistics packed = {0};
    struct statistics_codes codes;
    size_t folder = base_folder(path);
    bool exact;
    int own = 0;
    if (folder != base_folder(of_path) || strncmp(of_path, path, folder) != 0)
        return ERR_INVALID;
    int err = model_file_describe(m, &spec, sections, &own);
    if (!err)
        err = statistics_codes_init(&codes, m->net->spec.classes, model_width(m));
    if (err)
        return err;
    err = statistics_encode(&codes, m->prototypes, m->covariance, &exact);
    if (!err)
        err = exact ? statistics_pack(&codes, &packed) : ERR_INVALID;
    if (!err) {
        sections[own++] = packed.sections[0];
        sections[own++] = packed.sections[1];
        err = write_refined(sections, own, of_path, path, out_bytes);
    }
    packed_statistics_release(&packed);
    statistics_codes_release(&codes);
    return err;
}
