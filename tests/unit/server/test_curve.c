/*
 * test_curve.c - thinning a curve out keeps its ends and its spikes.
 */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "server/api/curve.h"

/* Falling from 100, one an epoch. */
static struct learner_epoch *falling(int count)
{
    struct learner_epoch *epochs = calloc((size_t)count, sizeof *epochs);
    assert_non_null(epochs);
    for (int i = 0; i < count; i++)
        epochs[i] = (struct learner_epoch){.epoch = i, .loss_class = count - i, .loss_mmd = NAN};
    return epochs;
}

static void is_in_order(const struct learner_epoch *epochs, int kept, int count)
{
    assert_int_equal(epochs[0].epoch, 0);
    assert_int_equal(epochs[kept - 1].epoch, count - 1);
    for (int i = 1; i < kept; i++)
        assert_true(epochs[i].epoch > epochs[i - 1].epoch);
    for (int i = 0; i < kept; i++)
        assert_true(isnan(epochs[i].loss_mmd)); /* real ones, not means */
}

static void test_short_curves_stay(void **state)
{
    (void)state;
    struct learner_epoch *epochs = falling(10);
    assert_int_equal(curve_thin(epochs, 10, 10), 10);
    assert_int_equal(curve_thin(epochs, 0, 4), 0);
    is_in_order(epochs, 10, 10);
    free(epochs);
}

static void test_every_length(void **state)
{
    (void)state;
    for (int count = 5; count <= 300; count += 7) {
        for (int points = CURVE_POINTS_MIN; points < count; points += 3) {
            struct learner_epoch *epochs = falling(count);
            int kept = curve_thin(epochs, count, points);
            assert_true(kept <= points && kept >= 3);
            is_in_order(epochs, kept, count);
            free(epochs);
        }
    }
}

static void test_spikes_stay(void **state)
{
    (void)state;
    struct learner_epoch *epochs = falling(10000);
    epochs[4321].loss_ad = 1e6;
    epochs[7777].loss_class = -1e6;
    int kept = curve_thin(epochs, 10000, 50), found = 0;
    is_in_order(epochs, kept, 10000);
    assert_int_equal(kept, 50);
    for (int i = 0; i < kept; i++)
        found += epochs[i].epoch == 4321 || epochs[i].epoch == 7777;
    assert_int_equal(found, 2);
    free(epochs);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_short_curves_stay),
        cmocka_unit_test(test_every_length),
        cmocka_unit_test(test_spikes_stay),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
