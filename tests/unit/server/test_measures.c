/*
 * test_measures.c - the measures against values worked out by hand.
 */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "core/err.h"
#include "server/api/measures.h"

static void is_near(double value, double expected)
{
    if (!(fabs(value - expected) < 1e-12))
        fail_msg("%.15f is not %.15f", value, expected);
}

/* Three steps of unequal size: 10, 20 and 40 test images. */
static void test_three_steps(void **state)
{
    (void)state;
    const int64_t total[9] = {10, 0, 0, 10, 20, 0, 10, 20, 40};
    const int64_t correct[9] = {9, 7, 7, /* above the diagonal: to be ignored */
                                6, 16, 0, 8, 10, 36};
    struct measures m;
    assert_int_equal(measures_compute(&m, 3, total, correct), 0);
    is_near(m.matrix[0], 0.9);
    is_near(m.matrix[3], 0.6);
    is_near(m.matrix[4], 0.8);
    is_near(m.matrix[6], 0.8);
    is_near(m.matrix[7], 0.5);
    is_near(m.matrix[8], 0.9);
    assert_true(isnan(m.matrix[1]) && isnan(m.matrix[2]) && isnan(m.matrix[5]));
    is_near(m.accuracy[0], 9 / 10.0);
    is_near(m.accuracy[1], 22 / 30.0); /* by images, not by steps */
    is_near(m.accuracy[2], 54 / 70.0);
    is_near(m.average_incremental, (9 / 10.0 + 22 / 30.0 + 54 / 70.0) / 3);
    is_near(m.last, 54 / 70.0);
    is_near(m.forgetting[0], 0.1); /* 0.9 at first, 0.8 at last: 0.6 between does not count */
    is_near(m.forgetting[1], 0.3);
    is_near(m.forgetting_mean, 0.2);
    is_near(m.backward_transfer, (-0.1 - 0.3) / 2);
    measures_release(&m);
}

static void test_backward_gain(void **state)
{
    (void)state;
    const int64_t total[4] = {10, 0, 10, 10}, correct[4] = {5, 0, 8, 7};
    struct measures m;
    assert_int_equal(measures_compute(&m, 2, total, correct), 0);
    is_near(m.forgetting[0], -0.3);
    is_near(m.backward_transfer, 0.3);
    measures_release(&m);
}

/* Step 2 has no test images: its accuracies and every mean over them are unknown. */
static void test_unmeasured_step(void **state)
{
    (void)state;
    const int64_t total[9] = {10, 0, 0, 10, 0, 0, 10, 0, 10};
    const int64_t correct[9] = {10, 0, 0, 9, 0, 0, 8, 0, 7};
    struct measures m;
    assert_int_equal(measures_compute(&m, 3, total, correct), 0);
    assert_true(isnan(m.matrix[4]) && isnan(m.matrix[7]));
    is_near(m.matrix[8], 0.7);
    is_near(m.accuracy[2], 0.75); /* over the images there are */
    is_near(m.average_incremental, (1 + 0.9 + 0.75) / 3);
    is_near(m.forgetting[0], 0.2);
    assert_true(isnan(m.forgetting[1]));
    assert_true(isnan(m.forgetting_mean));
    assert_true(isnan(m.backward_transfer));
    measures_release(&m);
}

/* Test images that came after their step: earlier accuracies stay unknown. */
static void test_late_test_images(void **state)
{
    (void)state;
    const int64_t total[4] = {0, 0, 10, 10}, correct[4] = {0, 0, 5, 9};
    struct measures m;
    assert_int_equal(measures_compute(&m, 2, total, correct), 0);
    assert_true(isnan(m.accuracy[0]));
    is_near(m.last, 0.7);
    assert_true(isnan(m.average_incremental));
    assert_true(isnan(m.forgetting[0]));
    measures_release(&m);
}

static void test_few_steps(void **state)
{
    (void)state;
    const int64_t total[1] = {4}, correct[1] = {3};
    struct measures m;
    assert_int_equal(measures_compute(&m, 0, NULL, NULL), 0);
    assert_true(isnan(m.last) && isnan(m.average_incremental) && isnan(m.forgetting_mean));
    measures_release(&m);
    assert_int_equal(measures_compute(&m, 1, total, correct), 0);
    is_near(m.last, 0.75);
    is_near(m.average_incremental, 0.75);
    assert_true(isnan(m.forgetting_mean) && isnan(m.backward_transfer));
    measures_release(&m);
    assert_int_equal(measures_compute(&m, -1, NULL, NULL), ERR_INVALID);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_three_steps),    cmocka_unit_test(test_backward_gain),
        cmocka_unit_test(test_unmeasured_step), cmocka_unit_test(test_late_test_images),
        cmocka_unit_test(test_few_steps),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
