/*
 * test_calibrate.c - the scale of the scores.
 */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <cmocka.h>

#include "core/err.h"
#include "core/learner/calibrate.h"
#include "core/model/frozen.h"
#include "core/nn/rng.h"
#include "tests/unit/core/command_fixture.h"

static void test_calibration_finds_the_scale(void **state)
{
    (void)state;
    enum { N = 4000, K = 3 };
    static float scores[N * K];
    static int labels[N];
    struct rng r;
    rng_init(&r, 5, 5);
    for (int i = 0; i < N; i++) { /* labels drawn from softmax(7 * scores) */
        double p[K], total = 0, u = rng_uniform(&r);
        for (int c = 0; c < K; c++) {
            scores[i * K + c] = rng_uniform(&r);
            total += p[c] = exp(7 * scores[i * K + c]);
        }
        labels[i] = 0;
        for (int c = 0; c < K - 1 && u > p[c] / total; c++, labels[i]++)
            u -= p[c] / total;
    }
    float scale;
    assert_int_equal(calibrate_scale(N, K, scores, labels, NULL, &scale), 0);
    assert_true(scale > 6.3f && scale < 7.7f);
}

/* Images that are all told apart leave one in n + 2 in doubt: with every other class `margin` below, that is at a scale of
 * log((n + 1) (classes - 1)) / margin, whatever is retired. */
static void test_all_told_apart(void **state)
{
    (void)state;
    enum { N = 1000, K = 5 };
    static float scores[N * K];
    static int labels[N];
    for (int live = 2; live <= K; live++) {
        const float margin = live == K ? 2000 : 2; /* as scores are of features that lie close together */
        float scale;
        for (int i = 0; i < N; i++) {
            labels[i] = i % live;
            for (int c = 0; c < K; c++)
                scores[i * K + c] = c >= live ? FROZEN_RETIRED_SCORE
                                              : c == labels[i] ? 3 : 3 - margin;
        }
        double want = log((N + 1) * (live - 1.0)) / margin;
        assert_int_equal(calibrate_scale(N, K, scores, labels, NULL, &scale), 0);
        assert_true(fabs(scale - want) < 2e-3 * want);
    }
}

/* Where one class alone is left, any scale will do. */
static void test_no_other_class(void **state)
{
    (void)state;
    const float scores[4] = {2, FROZEN_RETIRED_SCORE, -1, FROZEN_RETIRED_SCORE};
    const int labels[2] = {0, 0};
    float scale;
    assert_int_equal(calibrate_scale(2, 2, scores, labels, NULL, &scale), 0);
    assert_true(scale >= CALIBRATE_MIN && scale <= CALIBRATE_MAX);
}

/* A command given while many rows of many classes are gone through ends that. */
static void test_commanded(void **state)
{
    (void)state;
    enum { N = 20000, K = 100 };
    float *scores = malloc((size_t)N * K * sizeof *scores), scale = 42;
    int *labels = calloc(N, sizeof *labels);
    struct rng r;
    assert_true(scores && labels);
    rng_init(&r, 6, 6);
    for (int i = 0; i < N * K; i++)
        scores[i] = rng_uniform(&r);
    assert_int_equal(calibrate_scale(N, K, scores, labels, command_in_a_moment(), &scale),
                     ERR_CANCELLED);
    assert_true(scale == 42);
    free(scores);
    free(labels);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_calibration_finds_the_scale),
        cmocka_unit_test(test_all_told_apart),
        cmocka_unit_test(test_no_other_class),
        cmocka_unit_test(test_commanded),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
