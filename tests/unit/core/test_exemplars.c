/*
 * test_exemplars.c - which images are kept.
 */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <cmocka.h>

#include "core/err.h"
#include "core/m2kd/exemplars.h"
#include "core/m2kd/prototypes.h"
#include "core/nn/rng.h"
#include "tests/unit/core/command_fixture.h"

enum { N = 90, F = 5, CLASS = 2, IN_CLASS = N / 3 };

static void fill(float *features, int *labels)
{
    struct rng r;
    rng_init(&r, 3, 3);
    for (int i = 0; i < N; i++) {
        labels[i] = i % 3;
        for (int f = 0; f < F; f++)
            features[i * F + f] = rng_normal(&r) + (float)labels[i];
    }
    prototypes_normalise(N, F, features);
}

/* By hand: the mean of 0, 1, 2, 9 is 3; first comes 2, then (2 + x) / 2 is nearest for 1 or 9 -> 9 gives 5.5, 1 gives 1.5, so
 * 1; then (3 + x) / 3 is 4 with 9 and 1 with 0. */
static void test_herding_by_hand(void **state)
{
    (void)state;
    const float features[5] = {0, 1, 77, 2, 9};
    const int labels[5] = {1, 1, 0, 1, 1}, want[4] = {3, 1, 4, 0};
    int picked[5], count;
    assert_int_equal(exemplars_pick(EXEMPLARS_HERDING, 5, 1, features, labels, 1, 9, 0, NULL, picked, &count), 0);
    assert_int_equal(count, 4);
    for (int i = 0; i < 4; i++)
        assert_int_equal(picked[i], want[i]);
}

static double distance_to_mean(const float *features, const int *picked, int count, const int *all)
{
    double squares = 0;
    for (int f = 0; f < F; f++) {
        double mean = 0, part = 0;
        for (int i = 0; i < N; i++)
            mean += all[i] == CLASS ? features[i * F + f] / (double)IN_CLASS : 0;
        for (int i = 0; i < count; i++)
            part += features[picked[i] * F + f] / (double)count;
        squares += (mean - part) * (mean - part);
    }
    return sqrt(squares);
}

/* The first k of many are the same as when k are asked for, all of the class, none twice, and nearer to the mean than
 * random ones are by and large. */
static void test_order(void **state)
{
    (void)state;
    static float features[N * F];
    int labels[N], few[8], many[N], random[8], count;
    fill(features, labels);
    assert_int_equal(exemplars_pick(EXEMPLARS_HERDING, N, F, features, labels, CLASS, 8, 1, NULL, few, &count), 0);
    assert_int_equal(count, 8);
    assert_int_equal(exemplars_pick(EXEMPLARS_HERDING, N, F, features, labels, CLASS, N, 1, NULL, many, &count), 0);
    assert_int_equal(count, IN_CLASS);
    for (int i = 0; i < count; i++) {
        assert_int_equal(labels[many[i]], CLASS);
        for (int k = 0; k < i; k++)
            assert_int_not_equal(many[i], many[k]);
        if (i < 8)
            assert_int_equal(few[i], many[i]);
    }
    double by_chance = 0;
    for (uint64_t seed = 0; seed < 50; seed++) {
        assert_int_equal(exemplars_pick(EXEMPLARS_RANDOM, N, F, features, labels, CLASS, 8, seed, NULL, random, &count), 0);
        by_chance += distance_to_mean(features, random, 8, labels) / 50;
    }
    assert_true(distance_to_mean(features, few, 8, labels) < 0.6 * by_chance);
}

static void test_random_depends_on_the_seed(void **state)
{
    (void)state;
    static float features[N * F];
    int labels[N], a[8], b[8], count, same = 0;
    fill(features, labels);
    assert_int_equal(exemplars_pick(EXEMPLARS_RANDOM, N, F, features, labels, CLASS, 8, 1, NULL, a, &count), 0);
    assert_int_equal(exemplars_pick(EXEMPLARS_RANDOM, N, F, features, labels, CLASS, 8, 1, NULL, b, &count), 0);
    assert_memory_equal(a, b, sizeof a);
    assert_int_equal(exemplars_pick(EXEMPLARS_RANDOM, N, F, features, labels, CLASS, 8, 2, NULL, b, &count), 0);
    for (int i = 0; i < 8; i++) {
        assert_int_equal(labels[b[i]], CLASS);
        same += a[i] == b[i];
    }
    assert_true(same < 8);
    assert_int_equal(exemplars_pick(EXEMPLARS_RANDOM, N, F, features, labels, 7, 8, 2, NULL, b, &count), 0);
    assert_int_equal(count, 0);
}

/* A command given while many are picked from many ends that. */
static void test_herding_commanded(void **state)
{
    (void)state;
    enum { MANY = 8000, LONG = 64 };
    float *features = malloc((size_t)MANY * LONG * sizeof *features);
    int *labels = calloc(MANY, sizeof *labels), *picked = malloc(MANY * sizeof *picked), count = 42;
    struct rng r;
    assert_true(features && labels && picked);
    rng_init(&r, 4, 4);
    for (int i = 0; i < MANY * LONG; i++)
        features[i] = rng_normal(&r);
    assert_int_equal(exemplars_pick(EXEMPLARS_HERDING, MANY, LONG, features, labels, 0, MANY, 0,
                                    command_in_a_moment(), picked, &count), ERR_CANCELLED);
    assert_int_equal(count, 42);
    free(features);
    free(labels);
    free(picked);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_herding_by_hand),
        cmocka_unit_test(test_order),
        cmocka_unit_test(test_random_depends_on_the_seed),
        cmocka_unit_test(test_herding_commanded),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
