/*
 * test_snapshot.c - what is saved is what is loaded, small, and nothing damaged gets in.
 */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <zstd.h>

#include <cmocka.h>

#include "core/err.h"
#include "core/m2kd/mask.h"
#include "core/m2kd/snapshot.h"
#include "core/m2kd/statistics.h"
#include "core/nn/half.h"
#include "core/storage/container.h"
#include "tests/unit/core/path_fixture.h"

static const int steps[2] = {2, 4};

struct fixture {
    struct model *m;
    uint8_t *mask;
    int bits;
};

/* A pruned and rounded network, with every kind of parameter away from its initial value. */
static void make(struct fixture *f, float keep, int bits)
{
    const struct resnet_spec spec = {
        .blocks = 1, .channels = 3, .height = 8, .width = 8, .classes = 4};
    assert_int_equal(model_new(&f->m, &spec, steps, 2, CONV_ISA_BASELINE), 0);
    resnet_initialise(f->m->net, 5, f->m->params);
    for (int e = 0; e < f->m->net->params.entry_count; e++) {
        const struct param_entry *entry = &f->m->net->params.entries[e];
        if (entry->kind == PARAM_CONV_WEIGHT)
            continue;
        for (size_t i = 0; i < entry->count; i++)
            f->m->params[entry->offset + i] += 0.001f * (float)((i * 7 + (size_t)e) % 100);
    }
    for (int i = 0; i < 4 * 64; i++)
        f->m->prototypes[i] = 0.003f * (float)(i % 91);
    for (int i = 0; i < 64 * 65 / 2; i++)
        f->m->covariance[i] = 0.004f * (float)(i % 89);
    for (uint32_t c = 0; c < 4; c++)
        f->m->images[c] = 500 * c;
    f->m->mean[1] = 0.4f;
    f->m->std[2] = 0.3f;
    f->m->score_scale = 9.0f;
    f->m->classifier = CLASSIFIER_PROTOTYPES;
    f->mask = malloc(f->m->net->params.count);
    assert_non_null(f->mask);
    assert_int_equal(mask_by_magnitude(f->m->net, f->m->params, NULL, keep, f->mask), 0);
    f->bits = bits;
    assert_int_equal(snapshot_round(f->m, f->mask, bits), 0);
}

static int save(const struct fixture *f, uint64_t *bytes)
{
    return snapshot_save(f->m, f->mask, f->bits, path, bytes);
}

static void drop(struct fixture *f)
{
    model_release(f->m);
    free(f->mask);
}

static void test_round(void **state)
{
    (void)state;
    struct fixture f;
    make(&f, 0.25f, SNAPSHOT_HALF);
    const struct resnet *net = f.m->net;
    size_t conv = (size_t)net->layers[1].weight, gamma = (size_t)net->layers[1].gamma;
    size_t at = net->params.entries[conv].offset, g = net->params.entries[gamma].offset;
    f.mask[at] = 1;
    f.mask[at + 1] = 0;
    f.mask[at + 2] = 1;
    f.m->params[at] = 1.0f + 0x1p-11f; /* a tie: to even */
    f.m->params[at + 1] = -5.0f;
    f.m->params[at + 2] = -1e6f;
    f.m->params[g] = 1.0f + 0x1p-20f;
    assert_int_equal(snapshot_round(f.m, f.mask, SNAPSHOT_HALF), 0);
    assert_true(f.m->params[at] == 1.0f);
    assert_true(f.m->params[at + 1] == 0.0f && !signbit(f.m->params[at + 1]));
    assert_true(f.m->params[at + 2] == -65504.0f);
    assert_true(f.m->params[g] == 1.0f);
    drop(&f);
}

/* At 4 bits the codes of a channel go from -7 to 7, and 7 is its largest magnitude. */
static void test_round_to_codes(void **state)
{
    (void)state;
    struct fixture f;
    make(&f, 1.0f, SNAPSHOT_HALF);
    const struct param_entry *e = &f.m->net->params.entries[f.m->net->layers[1].weight];
    size_t channels = (size_t)e->dims[3];
    float *w = f.m->params + e->offset;
    for (size_t i = 0; i < e->count; i += channels)
        w[i] = 0.0f, w[i + 1] = 1e-35f;
    w[0] = -7.0f;
    w[channels] = 3.4f;
    w[2 * channels] = 3.6f;
    w[3 * channels] = -0.4f;
    f.mask[e->offset + 4 * channels] = 0; /* what is pruned has no say in the scale */
    w[4 * channels] = 100.0f;
    f.mask[e->offset + 5 * channels] = MASK_OWNED; /* neither has what others own, and that stays as it is */
    w[5 * channels] = 50.123f;
    assert_int_equal(snapshot_round(f.m, f.mask, 4), 0);
    assert_true(w[0] == -7.0f && w[channels] == 3.0f && w[2 * channels] == 4.0f);
    assert_true(w[3 * channels] == 0.0f && !signbit(w[3 * channels]));
    assert_true(w[4 * channels] == 0.0f && w[1] == 0.0f && w[5 * channels] == 50.123f);
    assert_true(w[2] != 0.0f); /* the next channel has a scale of its own */
    drop(&f);
}

static const int all_bits[] = {2, 3, 4, 5, 6, 7, 8, SNAPSHOT_HALF};

static void test_round_trip_bit_for_bit(void **state)
{
    (void)state;
    static const float keeps[] = {0.05f, 0.3f, 1.0f};
    for (size_t k = 0; k < 3 * sizeof all_bits / sizeof *all_bits; k++) {
        struct fixture f;
        struct model *n;
        make(&f, keeps[k % 3], all_bits[k / 3]);
        assert_int_equal(save(&f, NULL), 0);
        assert_int_equal(snapshot_load(&n, path, CONV_ISA_BASELINE), 0);
        assert_memory_equal(&n->net->spec, &f.m->net->spec, sizeof n->net->spec);
        assert_memory_equal(n->params, f.m->params, model_dense_bytes(f.m));
        assert_memory_equal(n->prototypes, f.m->prototypes, 4 * 64 * sizeof(float));
        assert_memory_equal(n->covariance, f.m->covariance, 64 * 65 / 2 * sizeof(float));
        assert_memory_equal(n->images, f.m->images, 4 * sizeof *n->images);
        assert_memory_equal(n->mean, f.m->mean, 3 * sizeof(float));
        assert_memory_equal(n->std, f.m->std, 3 * sizeof(float));
        assert_memory_equal(n->step_end, steps, sizeof steps);
        assert_true(n->step_count == 2 && n->classifier == CLASSIFIER_PROTOTYPES);
        assert_true(n->score_scale == 9.0f);

        /* Rounding again changes nothing. */
        assert_int_equal(snapshot_round(n, f.mask, f.bits), 0);
        assert_memory_equal(n->params, f.m->params, model_dense_bytes(f.m));
        assert_memory_equal(n->prototypes, f.m->prototypes, 4 * 64 * sizeof(float));
        assert_memory_equal(n->covariance, f.m->covariance, 64 * 65 / 2 * sizeof(float));
        model_release(n);
        drop(&f);
    }
}

static double share(float keep, int bits)
{
    struct fixture f;
    uint64_t bytes = 0;
    make(&f, keep, bits);
    assert_int_equal(save(&f, &bytes), 0);
    double of_dense = (double)bytes / (double)model_dense_bytes(f.m);
    drop(&f);
    return of_dense;
}

/* At a keep of 0.25: 2 bytes a kept weight, or less than 6 bits, and under a bit for each of all,
 * out of 4 bytes. Entropy-coded: 6 bits would be 4.7 % and the mask as it stands 3.1 %. */
static void test_share_of_dense(void **state)
{
    (void)state;
    assert_in_range((uint64_t)(1e4 * share(0.25f, SNAPSHOT_HALF)), 1250, 2100);
    assert_in_range((uint64_t)(1e4 * share(0.25f, 6)), 400, 1150);
    assert_true(share(0.25f, 4) < share(0.25f, 6) && share(0.1f, 6) < share(0.25f, 6));
}

static void test_save_refuses_what_would_not_come_back(void **state)
{
    (void)state;
    struct fixture f;
    make(&f, 0.5f, SNAPSHOT_HALF);
    const struct resnet *net = f.m->net;
    size_t at = net->params.entries[net->layers[1].weight].offset;
    size_t bias = net->params.entries[net->head_bias[0]].offset;
    float kept = f.m->params[at];

    f.mask[at] = 1;
    f.m->params[at] = 0.1f; /* no fp16 value */
    assert_int_equal(save(&f, NULL), ERR_INVALID);
    f.mask[at] = 0;
    f.m->params[at] = 0.5f; /* masked out, but not zero */
    assert_int_equal(save(&f, NULL), ERR_INVALID);
    f.m->params[at] = -0.0f;
    assert_int_equal(save(&f, NULL), ERR_INVALID);
    f.mask[at] = 1;
    f.m->params[at] = NAN;
    assert_int_equal(save(&f, NULL), ERR_INVALID);
    f.m->params[at] = kept;
    f.m->params[bias] = INFINITY;
    assert_int_equal(save(&f, NULL), ERR_INVALID);
    f.m->params[bias] = 0.1f; /* no fp16 value */
    assert_int_equal(save(&f, NULL), ERR_INVALID);
    f.m->params[bias] = 0;
    size_t variance = net->params.entries[net->layers[2].var].offset;
    float positive = f.m->params[variance];
    f.m->params[variance] = -0.5f;
    assert_int_equal(save(&f, NULL), ERR_INVALID);
    f.m->params[variance] = positive;
    float prototype = f.m->prototypes[5], covariance = f.m->covariance[5];
    f.m->prototypes[5] += 1e-4f;
    assert_int_equal(save(&f, NULL), ERR_INVALID);
    f.m->prototypes[5] = prototype;
    f.m->covariance[5] += 1e-4f;
    assert_int_equal(save(&f, NULL), ERR_INVALID);
    f.m->covariance[5] = covariance;
    assert_int_equal(save(&f, NULL), 0);
    f.bits = 8; /* what fp16 can hold is not what 8 bits can */
    assert_int_equal(save(&f, NULL), ERR_INVALID);
    f.bits = 9;
    assert_int_equal(save(&f, NULL), ERR_INVALID);
    drop(&f);
}

static void test_damaged_file_is_refused(void **state)
{
    (void)state;
    struct fixture f;
    struct model *n = NULL;
    uint64_t bytes;
    make(&f, 0.3f, SNAPSHOT_HALF);
    assert_int_equal(save(&f, &bytes), 0);
    for (uint64_t at = 40; at < bytes; at += bytes / 50) {
        FILE *file = fopen(path, "r+b");
        assert_non_null(file);
        assert_int_equal(fseek(file, (long)at, SEEK_SET), 0);
        int byte = fgetc(file);
        assert_int_equal(fseek(file, (long)at, SEEK_SET), 0);
        fputc(byte ^ 0x10, file);
        fclose(file);
        assert_int_equal(snapshot_load(&n, path, CONV_ISA_BASELINE), ERR_CORRUPT);
        assert_null(n);
        assert_int_equal(save(&f, NULL), 0);
    }
    assert_int_equal(truncate(path, (off_t)bytes - 1), 0);
    assert_int_equal(snapshot_load(&n, path, CONV_ISA_BASELINE), ERR_CORRUPT);
    assert_int_equal(model_save(f.m, path, NULL), 0);
    assert_int_equal(snapshot_load(&n, path, CONV_ISA_BASELINE), ERR_FORMAT);
    assert_int_equal(snapshot_load(&n, "/tmp/none/none", CONV_ISA_BASELINE), ERR_MISSING);
    assert_null(n);
    drop(&f);
}

/* Saves `f`, replaces or adds section `id` (leaves it out if `data` is NULL), checksums right, and
 * returns what loading it says. */
static int load_forged(const struct fixture *f, uint32_t id, const void *data, size_t bytes)
{
    static const char names[][5] = {"SPEC", "STEP", "COVF", "MEAN", "EXPT", "MASK",
                                     "SCAL", "CODE", "KEPT", "RESF"};
    struct container *c;
    struct container_section out[11];
    int count = 0;
    assert_int_equal(save(f, NULL), 0);
    assert_int_equal(container_read(&c, path, CONTAINER_SNAPSHOT), 0);
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        const char *s = names[i];
        uint32_t this = CONTAINER_ID(s[0], s[1], s[2], s[3]);
        if (this == id && data)
            out[count++] = (struct container_section){id, bytes, data};
        else if (this != id && container_find(c, this, &out[count]) == 0)
            count++;
    }
    assert_int_equal(container_write(path, CONTAINER_SNAPSHOT, out, count, NULL), 0);
    container_free(c);
    struct model *m = NULL;
    int err = snapshot_load(&m, path, CONV_ISA_BASELINE);
    assert_true((err == 0) == (m != NULL));
    model_release(m);
    return err;
}

static size_t pack(uint8_t *packed, size_t room, const uint8_t *bits, size_t bytes)
{
    size_t n = ZSTD_compress(packed, room, bits, bytes, 3);
    assert_false(ZSTD_isError(n));
    return n;
}

static void test_forged_sections_are_refused(void **state)
{
    (void)state;
    const uint32_t MASK = CONTAINER_ID('M', 'A', 'S', 'K'), KEPT = CONTAINER_ID('K', 'E', 'P', 'T'),
                   RESF = CONTAINER_ID('R', 'E', 'S', 'F');
    static uint8_t bits[20000], packed[40000], planes[40000];
    static uint16_t halves[100000];
    struct fixture f;
    make(&f, 0.3f, SNAPSHOT_HALF);
    size_t conv = 0, kept = 0, rest;
    for (int l = 0; l < f.m->net->layer_count; l++) {
        const struct param_entry *e = &f.m->net->params.entries[f.m->net->layers[l].weight];
        conv += e->count;
        for (size_t i = 0; i < e->count; i++)
            kept += f.mask[e->offset + i];
    }
    rest = f.m->net->params.count - conv;
    size_t bytes = (conv + 7) / 8;
    for (size_t i = 0; i < kept; i++)
        bits[i / 8] |= (uint8_t)(1u << i % 8);

    /* The forger's tools work: the same sizes, other contents. */
    assert_int_equal(load_forged(&f, MASK, packed, pack(packed, sizeof packed, bits, bytes)), 0);
    assert_int_equal(load_forged(&f, KEPT, halves, kept * 2), 0);
    assert_true(rest * 2 < sizeof planes);
    assert_int_equal(load_forged(&f, RESF, packed, pack(packed, sizeof packed, planes, rest * 2)), 0);

    assert_int_equal(load_forged(&f, MASK, NULL, 0), ERR_FORMAT);
    assert_int_equal(load_forged(&f, KEPT, NULL, 0), ERR_FORMAT);
    assert_int_equal(load_forged(&f, RESF, NULL, 0), ERR_FORMAT);
    assert_int_equal(load_forged(&f, MASK, "not zstd", 8), ERR_FORMAT);
    size_t n = pack(packed, sizeof packed, bits, bytes);
    assert_int_equal(load_forged(&f, MASK, packed, n - 1), ERR_FORMAT);
    n = pack(packed, sizeof packed, bits, bytes - 1);
    assert_int_equal(load_forged(&f, MASK, packed, n), ERR_FORMAT);
    n = pack(packed, sizeof packed, bits, bytes + 1);
    assert_int_equal(load_forged(&f, MASK, packed, n), ERR_FORMAT);
    n = pack(packed, sizeof packed, bits, bytes / 2); /* two frames that add up */
    n += pack(packed + n, sizeof packed - n, bits + bytes / 2, bytes - bytes / 2);
    assert_int_equal(load_forged(&f, MASK, packed, n), ERR_FORMAT);
    bits[kept / 8] ^= (uint8_t)(1u << kept % 8); /* one more than KEPT has */
    n = pack(packed, sizeof packed, bits, bytes);
    assert_int_equal(load_forged(&f, MASK, packed, n), ERR_FORMAT);
    assert_int_equal(load_forged(&f, KEPT, halves, kept * 2 - 2), ERR_FORMAT);
    n = pack(packed, sizeof packed, planes, rest * 2 + 2);
    assert_int_equal(load_forged(&f, RESF, packed, n), ERR_FORMAT);
    halves[kept - 1] = 0x7c00; /* infinity */
    assert_int_equal(load_forged(&f, KEPT, halves, kept * 2), ERR_CORRUPT);
    planes[2 * rest - 1] = 0xbc; /* the high byte of -1, of the last variance */
    assert_int_equal(load_forged(&f, RESF, packed, pack(packed, sizeof packed, planes, rest * 2)), ERR_CORRUPT);
    planes[2 * rest - 1] = 0;
    planes[rest] = 0xbc; /* of a gamma */
    assert_int_equal(load_forged(&f, RESF, packed, pack(packed, sizeof packed, planes, rest * 2)), 0);
    planes[rest] = 0x7e; /* not a number */
    assert_int_equal(load_forged(&f, RESF, packed, pack(packed, sizeof packed, planes, rest * 2)), ERR_CORRUPT);
    drop(&f);
}

static void test_forged_statistics_are_refused(void **state)
{
    (void)state;
    enum { W = 64, FACTOR = W * (W - 1) / 2, MEANS = 4 * W, PIVOTS = 4, PLANES = PIVOTS + W };
    const uint32_t COVF = CONTAINER_ID('C', 'O', 'V', 'F'), MEAN = CONTAINER_ID('M', 'E', 'A', 'N');
    static uint8_t factor[PLANES + 2 * FACTOR + 1], means[2 * MEANS + 1], packed[10000];
    static const int32_t exponents[] = {STATISTICS_EXPONENT_MIN - 1, STATISTICS_EXPONENT_MAX + 1, INT32_MIN, INT32_MAX};
    const size_t factor_bytes = sizeof factor - 1, means_bytes = sizeof means - 1;
    struct fixture f;
    make(&f, 0.3f, 6);
    assert_int_equal(load_forged(&f, COVF, packed, pack(packed, sizeof packed, factor, factor_bytes)), 0);
    assert_int_equal(load_forged(&f, MEAN, packed, pack(packed, sizeof packed, means, means_bytes)), 0);

    assert_int_equal(load_forged(&f, COVF, NULL, 0), ERR_FORMAT);
    assert_int_equal(load_forged(&f, MEAN, NULL, 0), ERR_FORMAT);
    for (int more = -1; more <= 1; more += 2) {
        size_t n = pack(packed, sizeof packed, factor, factor_bytes + (size_t)more);
        assert_int_equal(load_forged(&f, COVF, packed, n), ERR_FORMAT);
        n = pack(packed, sizeof packed, means, means_bytes + (size_t)more);
        assert_int_equal(load_forged(&f, MEAN, packed, n), ERR_FORMAT);
    }
    for (size_t i = 0; i < sizeof exponents / sizeof *exponents; i++) {
        memcpy(factor, &exponents[i], sizeof *exponents);
        assert_int_equal(load_forged(&f, COVF, packed, pack(packed, sizeof packed, factor, factor_bytes)), ERR_CORRUPT);
    }
    memset(factor, 0, sizeof factor);
    memset(factor + PIVOTS, 255, W); /* variances beyond any */
    const int32_t exponent = STATISTICS_EXPONENT_MAX;
    memcpy(factor, &exponent, sizeof exponent);
    assert_int_equal(load_forged(&f, COVF, packed, pack(packed, sizeof packed, factor, factor_bytes)), ERR_CORRUPT);
    memset(factor, 0, sizeof factor);
    factor[PLANES + FACTOR - 1] = factor[PLANES + 2 * FACTOR - 1] = 255; /* -32768, which no writer makes */
    assert_int_equal(load_forged(&f, COVF, packed, pack(packed, sizeof packed, factor, factor_bytes)), ERR_CORRUPT);
    means[MEANS - 1] = means[2 * MEANS - 1] = 255;
    assert_int_equal(load_forged(&f, MEAN, packed, pack(packed, sizeof packed, means, means_bytes)), ERR_CORRUPT);
    drop(&f);
}

static void test_forged_experts_are_refused(void **state)
{
    (void)state;
    enum { NAMES = MODEL_MAX_WIDTH / 64 };
    const uint32_t EXPT = CONTAINER_ID('E', 'X', 'P', 'T');
    static model_expert_name names[NAMES];
    struct fixture f;
    make(&f, 0.3f, 6);
    snprintf(names[0], sizeof names[0], "../1");
    assert_int_equal(load_forged(&f, EXPT, names, sizeof *names), ERR_FORMAT);
    for (int i = 0; i < NAMES; i++)
        snprintf(names[i], sizeof names[i], "%d", i);
    assert_int_equal(load_forged(&f, EXPT, names, sizeof *names), ERR_FORMAT); /* the rest is not as wide */
    assert_int_equal(load_forged(&f, EXPT, names, sizeof *names - 1), ERR_FORMAT);
    assert_int_equal(load_forged(&f, EXPT, names, 0), ERR_FORMAT);
    assert_int_equal(load_forged(&f, EXPT, names, sizeof names), ERR_FORMAT);
    drop(&f);
}

enum { EARLIER_ENTRIES = 64 * 65 / 2, EARLIER_MEANS = 4 * 64 };

/* The snapshot of `f` as it was before there were COVF, MEAN and RESF: with PROT, `covariance` and REST. */
static void write_earlier(const struct fixture *f, const uint16_t *prototypes,
                          struct container_section covariance)
{
    static uint8_t planes[40000], rest[40000];
    struct container_section out[CONTAINER_MAX_SECTIONS];
    struct container *c;
    assert_int_equal(save(f, NULL), 0);
    assert_int_equal(container_read(&c, path, CONTAINER_SNAPSHOT), 0);
    int count = container_sections(c, out);
    for (int i = 0; i < count; i++) {
        if (out[i].id == CONTAINER_ID('M', 'E', 'A', 'N'))
            out[i] = (struct container_section){CONTAINER_ID('P', 'R', 'O', 'T'),
                                                EARLIER_MEANS * sizeof *prototypes, prototypes};
        else if (out[i].id == CONTAINER_ID('C', 'O', 'V', 'F'))
            out[i] = covariance;
        else if (out[i].id == CONTAINER_ID('R', 'E', 'S', 'F')) {
            size_t bytes = ZSTD_decompress(planes, sizeof planes, out[i].data, out[i].size_bytes);
            assert_false(ZSTD_isError(bytes));
            for (size_t k = 0; k < bytes / 2; k++) {
                rest[2 * k] = planes[k];
                rest[2 * k + 1] = planes[bytes / 2 + k];
            }
            out[i] = (struct container_section){CONTAINER_ID('R', 'E', 'S', 'T'), bytes, rest};
        }
    }
    assert_int_equal(container_write(path, CONTAINER_SNAPSHOT, out, count, NULL), 0);
    container_free(c);
}

static int load_status(void)
{
    struct model *m = NULL;
    int err = snapshot_load(&m, path, CONV_ISA_BASELINE);
    model_release(m);
    return err;
}

/* Files of before can be read, and what is written of them is of today. */
static void test_earlier_statistics(void **state)
{
    (void)state;
    static struct {
        float scale;
        uint16_t halves[EARLIER_ENTRIES];
    } halves;
    static float floats[EARLIER_ENTRIES];
    static uint16_t prototypes[EARLIER_MEANS];
    static const float scales[] = {0, -1, 0.3f, NAN, INFINITY, 1e-40f, 0x1p127f};
    struct fixture f;
    make(&f, 0.3f, 6);
    halves.scale = 0.25f;
    for (int i = 0; i < EARLIER_MEANS; i++)
        prototypes[i] = half_from_float((float)i / 1024);
    for (int i = 0; i < EARLIER_ENTRIES; i++) {
        halves.halves[i] = half_from_float((float)(i % 90) / 128);
        floats[i] = (float)(i % 90) / 512;
    }
    struct container_section in[] = {
        {CONTAINER_ID('C', 'O', 'V', 'H'), sizeof halves, &halves},
        {CONTAINER_ID('C', 'O', 'V', 'A'), sizeof floats, floats},
    };
    for (int i = 0; i < 2; i++) {
        struct model *m, *again;
        char refined[80];
        write_earlier(&f, prototypes, in[i]);
        assert_int_equal(snapshot_load(&m, path, CONV_ISA_BASELINE), 0);
        assert_memory_equal(m->covariance, floats, sizeof floats);
        assert_memory_equal(m->params, f.m->params, model_dense_bytes(m));
        for (int k = 0; k < EARLIER_MEANS; k++)
            assert_true(m->prototypes[k] == (float)k / 1024);
        assert_int_equal(snapshot_round_statistics(m), 0);
        snprintf(refined, sizeof refined, "%s-refined", path);
        assert_int_equal(snapshot_save_refined(m, path, refined, NULL), 0);
        assert_int_equal(snapshot_load(&again, refined, CONV_ISA_BASELINE), 0);
        assert_memory_equal(again->covariance, m->covariance, sizeof floats);
        assert_memory_equal(again->prototypes, m->prototypes, EARLIER_MEANS * sizeof(float));
        assert_memory_equal(again->params, m->params, model_dense_bytes(m));
        struct container_section s;
        struct container *c;
        assert_int_equal(container_read(&c, refined, CONTAINER_SNAPSHOT), 0);
        assert_int_equal(container_find(c, in[i].id, &s), ERR_FORMAT);
        assert_int_equal(container_find(c, CONTAINER_ID('P', 'R', 'O', 'T'), &s), ERR_FORMAT);
        container_free(c);
        unlink(refined);
        model_release(m);
        model_release(again);
    }
    in[0].size_bytes -= 2;
    write_earlier(&f, prototypes, in[0]);
    assert_int_equal(load_status(), ERR_FORMAT);
    in[0].size_bytes += 2;
    for (size_t i = 0; i < sizeof scales / sizeof *scales; i++) {
        halves.scale = scales[i];
        write_earlier(&f, prototypes, in[0]);
        assert_int_equal(load_status(), ERR_CORRUPT);
    }
    prototypes[7] = 0x7c00; /* infinity */
    write_earlier(&f, prototypes, in[1]);
    assert_int_equal(load_status(), ERR_CORRUPT);
    drop(&f);
}

static void test_forged_codes_are_refused(void **state)
{
    (void)state;
    const uint32_t SCAL = CONTAINER_ID('S', 'C', 'A', 'L'), CODE = CONTAINER_ID('C', 'O', 'D', 'E'),
                   KEPT = CONTAINER_ID('K', 'E', 'P', 'T');
    static uint8_t codes[100000], packed[200000];
    static uint16_t scales[1000], halves[100000];
    struct fixture f;
    size_t kept = 0, channels = 0;
    make(&f, 0.3f, 6);
    for (int l = 0; l < f.m->net->layer_count; l++) {
        const struct param_entry *e = &f.m->net->params.entries[f.m->net->layers[l].weight];
        channels += (size_t)e->dims[3];
        for (size_t i = 0; i < e->count; i++)
            kept += f.mask[e->offset + i];
    }
    size_t n = pack(packed, sizeof packed, codes, kept);
    assert_int_equal(load_forged(&f, CODE, packed, n), 0);
    assert_int_equal(load_forged(&f, SCAL, scales, channels * 2), 0);

    assert_int_equal(load_forged(&f, CODE, NULL, 0), ERR_FORMAT);
    assert_int_equal(load_forged(&f, SCAL, NULL, 0), ERR_FORMAT);
    assert_int_equal(load_forged(&f, KEPT, halves, kept * 2), ERR_FORMAT); /* both forms */
    assert_int_equal(load_forged(&f, SCAL, scales, channels * 2 - 2), ERR_FORMAT);
    assert_int_equal(load_forged(&f, CODE, packed, n - 1), ERR_FORMAT);
    n = pack(packed, sizeof packed, codes, kept + 1);
    assert_int_equal(load_forged(&f, CODE, packed, n), ERR_FORMAT);
    codes[kept - 1] = 0x80; /* -128: no writer makes it */
    n = pack(packed, sizeof packed, codes, kept);
    assert_int_equal(load_forged(&f, CODE, packed, n), ERR_CORRUPT);
    scales[channels - 1] = 0xbf80; /* -1 */
    assert_int_equal(load_forged(&f, SCAL, scales, channels * 2), ERR_CORRUPT);
    scales[channels - 1] = 0x7f80; /* infinity */
    assert_int_equal(load_forged(&f, SCAL, scales, channels * 2), ERR_CORRUPT);
    drop(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_round),
        cmocka_unit_test(test_round_to_codes),
        cmocka_unit_test(test_round_trip_bit_for_bit),
        cmocka_unit_test(test_share_of_dense),
        cmocka_unit_test(test_save_refuses_what_would_not_come_back),
        cmocka_unit_test(test_damaged_file_is_refused),
        cmocka_unit_test(test_forged_sections_are_refused),
        cmocka_unit_test(test_forged_statistics_are_refused),
        cmocka_unit_test(test_forged_experts_are_refused),
        cmocka_unit_test(test_earlier_statistics),
        cmocka_unit_test(test_forged_codes_are_refused),
    };
    return cmocka_run_group_tests(tests, make_path, remove_path);
}
