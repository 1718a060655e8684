/*
 * snapshot.c - pruned models to files: rounding, taking apart, writing; see snapshot.h and SNAPSHOT_FORMAT.md.
 */
#include "core/m2kd/snapshot.h"

#include <stdlib.h>
#include <string.h>

#include "core/err.h"
#include "core/m2kd/mask.h"
#include "core/m2kd/snapshot_parts.h"
#include "core/m2kd/snapshot_statistics.h"
#include "core/model/model_file.h"
#include "core/nn/half.h"

enum { SNAPSHOT_SECTIONS = MODEL_FILE_SECTIONS + 7 };

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

int snapshot_round_refined(struct model *m)
{
    return statistics_round_halves(m);
}

int snapshot_round(struct model *m, const uint8_t *mask, int bits)
{
    const struct param_table *t = &m->net->params;
    float *scales = calloc((size_t)most_channels(t), sizeof *scales);
    int err = scales ? statistics_round_coded(m) : ERR_NOMEM;
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
    bool good = true;
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

/* Mask and kept weights, in *end and behind it; buffers[0..1] are the caller's to free. */
static int pack_weights(struct parts *p, const struct param_table *t, const uint8_t *mask,
                        struct container_section **end, void **buffers)
{
    struct arithmetic a;
    arithmetic_encoder(&a);
    int err = coded_section(&a, coding_mask(&a, t, mask, p->bits), SECTION_MASK, (*end)++,
                            &buffers[0]);
    if (err)
        return err;
    if (!p->coded) {
        *(*end)++ = halves(SECTION_KEPT, p->kept_count, p->kept);
        return 0;
    }
    *(*end)++ = halves(SECTION_SCALES, p->scale_count, p->scales);
    arithmetic_encoder(&a);
    return coded_section(&a, coding_weights(&a, t, mask, p->bits, p->codes), SECTION_CODES,
                         (*end)++, &buffers[1]);
}

/* `sections` has room for SNAPSHOT_SECTIONS, the first `count` are filled in. */
static int write_parts(struct parts *p, const struct model *m, const uint8_t *mask,
                       struct container_section *sections, int count, const char *path,
                       uint64_t *out_bytes)
{
    struct container_section *end = sections + count;
    struct packed_statistics statistics;
    void *buffers[3] = {NULL};
    int err = statistics_pack(m, &statistics);
    if (err)
        return err;
    *end++ = statistics.sections[0];
    *end++ = statistics.sections[1];
    err = pack_weights(p, &m->net->params, mask, &end, buffers);
    if (!err)
        err = pack_rest(p, end++, &buffers[2]);
    if (!err)
        err = container_write(path, CONTAINER_SNAPSHOT, sections, (int)(end - sections), out_bytes);
    packed_statistics_release(&statistics);
    for (int i = 0; i < 3; i++)
        free(buffers[i]);
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
        err = write_parts(&p, m, mask, sections, count, path, out_bytes);
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

static bool is_among(uint32_t id, const struct container_section *sections, int count)
{
    for (int i = 0; i < count; i++)
        if (sections[i].id == id)
            return true;
    return false;
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
        if (!is_among(old[i].id, sections, own) && !statistics_section(old[i].id))
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
    struct packed_statistics packed;
    size_t folder = base_folder(path);
    int own = 0;
    if (folder != base_folder(of_path) || strncmp(of_path, path, folder) != 0)
        return ERR_INVALID;
    int err = model_file_describe(m, &spec, sections, &own);
    if (!err)
        err = statistics_pack(m, &packed);
    if (err)
        return err;
    sections[own++] = packed.sections[0];
    sections[own++] = packed.sections[1];
    err = write_refined(sections, own, of_path, path, out_bytes);
    packed_statistics_release(&packed);
    return err;
}
