/*
 * test_pool.c - max pooling: against the definition, ties, and its transpose by finite differences.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "core/nn/pool.h"
#include "golden.h"

enum { MAX_SIDE = 9, MAX_C = 19, MAX_FLOATS = MAX_SIDE * MAX_SIDE * MAX_C };

static const int shapes[][3] = {{1, 1, 1}, {2, 2, 3}, {4, 7, 5}, {9, 8, 16}, {5, 9, 19}};
enum { SHAPES = sizeof shapes / sizeof shapes[0] };

static int output_floats(const int *s)
{
    return (s[0] + 1) / 2 * ((s[1] + 1) / 2) * s[2];
}

/* The maximum of a window, the plain way. */
static float window_max(const int *s, const float *x, int i, int j, int c)
{
    float best = -INFINITY;
    for (int y = 2 * i - 1; y <= 2 * i + 1; y++)
        for (int z = 2 * j - 1; z <= 2 * j + 1; z++)
            if (y >= 0 && y < s[0] && z >= 0 && z < s[1])
                best = fmaxf(best, x[(y * s[1] + z) * s[2] + c]);
    return best;
}

static void test_max_is_the_windows_maximum(void **state)
{
    (void)state;
    float x[MAX_FLOATS], out[MAX_FLOATS], plain[MAX_FLOATS], picked[MAX_FLOATS];
    uint8_t arg[MAX_FLOATS];
    for (int n = 0; n < SHAPES; n++) {
        const int *s = shapes[n];
        golden_noise(s[0] * s[1] * s[2], (uint32_t)n, x);
        for (int i = 0; i < s[0] * s[1] * s[2]; i++)
            x[i] -= 3; /* a border of zeros would win */
        pool_max(s[0], s[1], s[2], x, out, arg);
        pool_max(s[0], s[1], s[2], x, plain, NULL);
        pool_max_pick(s[0], s[1], s[2], x, arg, picked);
        for (int o = 0; o < output_floats(s); o++) {
            int c = o % s[2], j = o / s[2] % ((s[1] + 1) / 2), i = o / s[2] / ((s[1] + 1) / 2);
            assert_true(out[o] == window_max(s, x, i, j, c));
            assert_true(plain[o] == out[o] && picked[o] == out[o]);
        }
    }
}

static void test_first_of_equals_wins(void **state)
{
    (void)state;
    float x[5 * 5] = {0}, out[9];
    uint8_t arg[9];
    const uint8_t expected[9] = {4, 3, 3, 1, 0, 0, 1, 0, 0}; /* the window's first inside the image */
    pool_max(5, 5, 1, x, out, arg);
    assert_memory_equal(arg, expected, sizeof expected);
}

static double weighted(const int *s, const float *x, const float *weights)
{
    float out[MAX_FLOATS];
    double total = 0;
    pool_max(s[0], s[1], s[2], x, out, NULL);
    for (int o = 0; o < output_floats(s); o++)
        total += (double)out[o] * weights[o];
    return total;
}

static void test_backward_by_finite_differences(void **state)
{
    (void)state;
    const float step = 1e-5f; /* values are farther apart than that: no winner changes */
    float x[MAX_FLOATS], dout[MAX_FLOATS], out[MAX_FLOATS], dx[MAX_FLOATS];
    uint8_t arg[MAX_FLOATS];
    for (int n = 0; n < SHAPES; n++) {
        const int *s = shapes[n];
        int count = s[0] * s[1] * s[2];
        for (int i = 0; i < count; i++)
            x[i] = (float)((i * 7919 + 31) % 3001) / 3001; /* all different */
        golden_noise(output_floats(s), 9, dout);
        for (int i = 0; i < count; i++)
            dx[i] = 0.5f; /* the gradient is added */
        pool_max(s[0], s[1], s[2], x, out, arg);
        pool_max_backward(s[0], s[1], s[2], dout, arg, dx);
        for (int i = 0; i < count; i += 3) {
            float kept = x[i], up = kept + step, down = kept - step;
            x[i] = up;
            double rise = weighted(s, x, dout);
            x[i] = down;
            rise -= weighted(s, x, dout);
            x[i] = kept;
            double slope = rise / ((double)up - down);
            assert_true(fabs(slope - (dx[i] - 0.5)) < 1e-3);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_max_is_the_windows_maximum),
        cmocka_unit_test(test_first_of_equals_wins),
        cmocka_unit_test(test_backward_by_finite_differences),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
