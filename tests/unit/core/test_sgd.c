/*
 * test_sgd.c - learning-rate schedules and the update rule, by hand-computed values.
 */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "core/model/sgd.h"

enum { COUNT = 12, TRAINED = 10 };

/* Convolution 0..4, gamma 4..6, head 6..8, bias 8..10, mean 10..12. */
static struct param_entry entries[] = {
    {.name = "w", .kind = PARAM_CONV_WEIGHT, .offset = 0, .count = 4},
    {.name = "g", .kind = PARAM_BN_GAMMA, .offset = 4, .count = 2},
    {.name = "h", .kind = PARAM_HEAD_WEIGHT, .offset = 6, .count = 2},
    {.name = "b", .kind = PARAM_HEAD_BIAS, .offset = 8, .count = 2},
    {.name = "m", .kind = PARAM_BN_MEAN, .offset = 10, .count = 2},
};
static const struct param_table table = {entries, 5, TRAINED, COUNT};

static const struct sgd_options options = {
    .lr = 0.5f, .momentum = 0.5f, .weight_decay = 0.25f, .schedule = SGD_COSINE};

static void test_cosine(void **state)
{
    (void)state;
    assert_true(sgd_rate(&options, 0, 100) == 0.5f);
    assert_true(fabsf(sgd_rate(&options, 50, 100) - 0.25f) < 1e-7f);
    assert_true(fabsf(sgd_rate(&options, 25, 100) - 0.4267767f) < 1e-6f);
    assert_true(sgd_rate(&options, 99, 100) > 0.0f && sgd_rate(&options, 99, 100) < 2e-4f);
}

static void test_step(void **state)
{
    (void)state;
    struct sgd_options o = options;
    o.schedule = SGD_STEP;
    assert_true(sgd_rate(&o, 48, 70) == 0.5f);
    assert_true(sgd_rate(&o, 49, 70) == 0.1f);
    assert_true(sgd_rate(&o, 62, 70) == 0.1f);
    assert_true(sgd_rate(&o, 63, 70) == 0.02f);
}

struct block {
    float params[COUNT], velocity[TRAINED], gradient[TRAINED];
};

static void make(struct block *b)
{
    for (int i = 0; i < COUNT; i++)
        b->params[i] = 2.0f;
    for (int i = 0; i < TRAINED; i++) {
        b->velocity[i] = 1.0f;
        b->gradient[i] = 0.25f * (float)i;
    }
}

static void test_update_rule(void **state)
{
    (void)state;
    struct block b;
    make(&b);
    sgd_update(&table, &options, 0.5f, 0, TRAINED, b.gradient, NULL, b.velocity, b.params);
    for (int i = 0; i < TRAINED; i++) {
        float decay = i < 4 || (i >= 6 && i < 8) ? 0.25f : 0.0f;
        float v = 0.5f * 1.0f + (0.25f * (float)i + decay * 2.0f);
        assert_true(b.velocity[i] == v);
        assert_true(b.params[i] == 2.0f - 0.5f * v);
    }
    assert_true(b.params[10] == 2.0f && b.params[11] == 2.0f);
}

static void test_mask_leaves_alone(void **state)
{
    (void)state;
    struct block b;
    uint8_t mask[COUNT];
    memset(mask, 1, sizeof mask);
    mask[1] = 0;
    make(&b);
    sgd_update(&table, &options, 0.5f, 0, TRAINED, b.gradient, mask, b.velocity, b.params);
    assert_true(b.params[1] == 2.0f && b.velocity[1] == 1.0f);
    assert_true(b.params[0] != 2.0f && b.params[2] != 2.0f);
}

/* Any split of the block gives the bits of the whole. */
static void test_ranges_compose(void **state)
{
    (void)state;
    for (size_t cut = 0; cut <= TRAINED; cut++) {
        struct block whole, split;
        make(&whole);
        make(&split);
        sgd_update(&table, &options, 0.3f, 0, TRAINED, whole.gradient, NULL, whole.velocity,
                   whole.params);
        sgd_update(&table, &options, 0.3f, 0, cut, split.gradient, NULL, split.velocity,
                   split.params);
        sgd_update(&table, &options, 0.3f, cut, TRAINED, split.gradient, NULL, split.velocity,
                   split.params);
        assert_memory_equal(&whole, &split, sizeof whole);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_cosine),       cmocka_unit_test(test_step),
        cmocka_unit_test(test_update_rule),  cmocka_unit_test(test_mask_leaves_alone),
        cmocka_unit_test(test_ranges_compose),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
