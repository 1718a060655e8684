/*
 * test_gate.c - the publication gate: its mean, its confidence bound, and what is not measured.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <math.h>

#include "server/jobs/gate.h"

static void judged(double limit, const struct gate_step *steps, int count, enum gate_verdict v)
{
    struct gate g = gate_judge(limit, steps, count);
    if (g.verdict != v)
        fail_msg("%s, not %s: drop %g, at least %g", gate_verdict_name(g.verdict),
                 gate_verdict_name(v), g.drop, g.drop_at_least);
}

static void test_mean_of_the_steps(void **state)
{
    (void)state;
    /* 0.9 -> 0.6 and 0.8 -> 0.7, of very different numbers of images: each step counts the same */
    const struct gate_step steps[] = {{10000, 9000, 10000, 6000, false},
                                      {1000, 800, 1000, 700, false}};
    struct gate g = gate_judge(0.1, steps, 2);
    assert_true(fabs(g.drop - 0.2) < 1e-12);
    assert_int_equal(g.verdict, GATE_HELD_BACK);
    judged(0.25, steps, 2, GATE_PASSED);
    judged(0.15, steps, 2, GATE_HELD_BACK);
    judged(0.199, steps, 2, GATE_PASSED); /* above it, but not surely */
    judged(NAN, steps, 2, GATE_OFF);
    judged(0.1, steps, 0, GATE_FIRST_STEP);
    judged(NAN, steps, 0, GATE_FIRST_STEP);
    const struct gate_step better[] = {{100, 50, 100, 90, false}};
    judged(0, better, 1, GATE_PASSED);
}

/* Agresti and Caffo's adjusted interval, by hand: 9 of 10, then 5 of 10. */
static void test_bound(void **state)
{
    (void)state;
    const struct gate_step steps[] = {{10, 9, 10, 5, false}};
    struct gate g = gate_judge(0.3, steps, 1);
    double before = 10.0 / 12, after = 6.0 / 12;
    double deviation = sqrt(before * (1 - before) / 12 + after * (1 - after) / 12);
    assert_true(fabs(g.drop - 0.4) < 1e-12);
    assert_true(fabs(g.drop_at_least - (before - after - 1.6449 * deviation)) < 1e-12);
    assert_int_equal(g.verdict, GATE_PASSED); /* ten images prove little */
    const struct gate_step many[] = {{1000, 900, 1000, 500, false}};
    judged(0.3, many, 1, GATE_HELD_BACK);
    const struct gate_step one[] = {{1, 1, 1, 0, false}};
    judged(0.3, one, 1, GATE_PASSED);
}

static void test_not_measured(void **state)
{
    (void)state;
    const struct gate_step steps[] = {{100, 90, 100, 85, false},
                                      {0, 0, 100, 50, false},
                                      {100, 50, 0, 0, false}};
    struct gate g = gate_judge(0.3, steps, 3);
    assert_int_equal(g.verdict, GATE_NOT_MEASURED);
    assert_true(fabs(g.drop - 0.05) < 1e-12); /* of the one that was */
    judged(0.3, steps, 1, GATE_PASSED);
    judged(0.3, steps + 1, 2, GATE_NOT_MEASURED);
    assert_true(isnan(gate_judge(0.3, steps + 1, 2).drop));
    /* A step whose classes are all retired has nothing to be measured. */
    const struct gate_step gone[] = {{100, 90, 100, 85, false}, {0, 0, 0, 0, true}};
    judged(0.3, gone, 2, GATE_PASSED);
    /* What was measured suffices to hold it back. */
    const struct gate_step lost[] = {{1000, 900, 1000, 100, false}, {0, 0, 0, 0, false}};
    judged(0.3, lost, 2, GATE_HELD_BACK);
}

static void test_json(void **state)
{
    (void)state;
    const struct gate_step steps[] = {{10, 9, 10, 5, false}, {0, 0, 4, 1, false}};
    struct gate g = gate_judge(0.25, steps, 2);
    json_t *json = gate_json(&g, steps, 2);
    const char *verdict;
    double limit, drop, bound, before, after;
    json_t *second, *nothing;
    assert_int_equal(json_unpack(json, "{s:s, s:F, s:F, s:F, s:[{s:F, s:F}, o]}", "verdict",
                                 &verdict, "limit", &limit, "drop", &drop, "drop_at_least", &bound,
                                 "steps", "before", &before, "after", &after, &second),
                     0);
    assert_string_equal(verdict, "not_measured");
    assert_true(limit == 0.25 && drop == 0.4 && before == 0.9 && after == 0.5 && bound < drop);
    nothing = json_object_get(second, "before");
    assert_true(json_is_null(nothing));
    assert_int_equal(json_integer_value(json_object_get(second, "test_images")), 4);
    json_decref(json);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_mean_of_the_steps),
        cmocka_unit_test(test_bound),
        cmocka_unit_test(test_not_measured),
        cmocka_unit_test(test_json),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
