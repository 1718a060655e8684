/*
 * test_half.c - binary16 conversion: all halves, all midpoints between them, and the edges.
 */
#include <float.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "core/nn/half.h"

enum { LARGEST = 0x7bff };

/* The value of a finite half by its definition. */
static double value(unsigned h)
{
    int exponent = (int)(h >> 10 & 0x1f), fraction = (int)(h & 0x3ff);
    double v = exponent ? ldexp(1024 + fraction, exponent - 25) : ldexp(fraction, -24);
    return h & 0x8000 ? -v : v;
}

static void test_every_half_survives(void **state)
{
    (void)state;
    for (unsigned h = 0; h <= LARGEST; h++)
        for (unsigned sign = 0; sign <= 0x8000; sign += 0x8000) {
            float f = half_to_float((uint16_t)(h | sign));
            assert_true((double)f == value(h | sign));
            assert_int_equal(half_from_float(f), h | sign);
        }
}

/* Between neighbours: below the midpoint down, above it up, on it to the even one. */
static void test_rounds_to_nearest_even(void **state)
{
    (void)state;
    for (unsigned h = 0; h < LARGEST; h++) {
        float middle = (float)((value(h) + value(h + 1)) / 2);
        unsigned even = h % 2 == 0 ? h : h + 1;
        assert_int_equal(half_from_float(middle), even);
        assert_int_equal(half_from_float(-middle), even | 0x8000);
        assert_int_equal(half_from_float(nextafterf(middle, 0)), h);
        assert_int_equal(half_from_float(nextafterf(middle, INFINITY)), h + 1);
    }
}

static void test_saturates(void **state)
{
    (void)state;
    static const float large[] = {65504.0f, 65519.0f, 65520.0f, 65536.0f, 1e10f, FLT_MAX, INFINITY};
    for (size_t i = 0; i < sizeof large / sizeof large[0]; i++) {
        assert_int_equal(half_from_float(large[i]), LARGEST);
        assert_int_equal(half_from_float(-large[i]), LARGEST | 0x8000);
    }
    assert_true(isnan(half_to_float(half_from_float(NAN))));
    assert_true(isnan(half_to_float(0xfc01)));
    assert_true(half_to_float(0x7c00) == INFINITY && half_to_float(0xfc00) == -INFINITY);
}

static void test_tiny(void **state)
{
    (void)state;
    assert_int_equal(half_from_float(0x1p-25f), 0); /* half of the least: ties to even, 0 */
    assert_int_equal(half_from_float(0x1.8p-25f), 1);
    assert_int_equal(half_from_float(FLT_TRUE_MIN), 0);
    assert_int_equal(half_from_float(-FLT_TRUE_MIN), 0x8000);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_half_survives),
        cmocka_unit_test(test_rounds_to_nearest_even),
        cmocka_unit_test(test_saturates),
        cmocka_unit_test(test_tiny),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
