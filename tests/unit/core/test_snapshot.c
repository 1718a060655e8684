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

#include <cmocka.h>

#include "core/err.h"
#include "core/storage/container.h"
#include "tests/unit/core/snapshot_fixture.h"

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

static bool has(const char *name, const char *file)
{
    struct container_section s;
    struct container *c;
    assert_int_equal(container_read(&c, file, CONTAINER_SNAPSHOT), 0);
    bool there = container_find(c, CONTAINER_ID(name[0], name[1], name[2], name[3]), &s) == 0;
    container_free(c);
    return there;
}

/* A snapshot that takes in more images has statistics that can move a little, time and again: not by a code's step or not at all. */
static void test_refined(void **state)
{
    (void)state;
    struct fixture f;
    struct model *m = NULL;
    char from[80], to[80];
    make(&f, 0.3f, 6);
    float want = f.m->prototypes[5];
    assert_int_equal(save(&f, NULL), 0);
    assert_true(has("COVF", path) && has("MEAN", path) && !has("PROT", path));
    snprintf(from, sizeof from, "%s", path);
    for (int i = 0; i < 100; i++) {
        assert_int_equal(snapshot_load(&m, from, CONV_ISA_BASELINE), 0);
        want += 1e-4f;
        m->prototypes[5] += 1e-4f;
        m->covariance[9] += 1e-4f;
        assert_int_equal(snapshot_round_refined(m), 0);
        snprintf(to, sizeof to, "%s-%d", path, i);
        assert_int_equal(snapshot_save_refined(m, from, to, NULL), 0);
        if (i > 0)
            unlink(from);
        memcpy(from, to, sizeof from);
        model_release(m);
    }
    assert_false(has("COVF", from) || has("MEAN", from));
    assert_int_equal(snapshot_load(&m, from, CONV_ISA_BASELINE), 0);
    assert_float_equal(m->prototypes[5], want, 2e-3); /* by 0.01 */
    assert_float_equal(m->covariance[9], f.m->covariance[9] + 0.01f, 2e-3);
    assert_memory_equal(m->params, f.m->params, model_dense_bytes(m));
    unlink(from);
    model_release(m);
    drop(&f);
}

/* What has no codes is written in halves. */
static void test_statistics_without_codes(void **state)
{
    (void)state;
    struct fixture f;
    struct model *m;
    make(&f, 0.3f, 6);
    f.m->prototypes[5] = 2000.5f;
    assert_int_equal(snapshot_round(f.m, f.mask, 6), 0);
    assert_int_equal(save(&f, NULL), 0);
    assert_true(has("COVH", path) && has("PROT", path) && !has("COVF", path));
    assert_int_equal(snapshot_load(&m, path, CONV_ISA_BASELINE), 0);
    assert_memory_equal(m->prototypes, f.m->prototypes, 4 * 64 * sizeof(float));
    assert_memory_equal(m->covariance, f.m->covariance, 64 * 65 / 2 * sizeof(float));
    assert_float_equal(m->prototypes[5], 2000.5, 1);
    model_release(m);
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
        cmocka_unit_test(test_refined),
        cmocka_unit_test(test_statistics_without_codes),
    };
    return cmocka_run_group_tests(tests, make_path, remove_path);
}
