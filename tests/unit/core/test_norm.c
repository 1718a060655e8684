/*
 * test_norm.c - batch norm with ReLU, pooling and the shortcut: each backward pass against finite
 * differences of its forward pass, computed in double by straightforward loops.
 */
#include <math.h>
#include <setjmp.h>
#include <stdbool.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "core/nn/norm.h"
#include "core/nn/pool.h"
#include "core/nn/rng.h"

enum { IMAGES = 3, H = 3, W = 5, C = 19, PIXELS = H * W, SIZE = PIXELS * C, ALL = IMAGES * SIZE };

static void fill(float *v, int n, uint64_t stream)
{
    struct rng r;
    rng_init(&r, 11, stream);
    for (int i = 0; i < n; i++)
        v[i] = rng_normal(&r);
}

/* sum(weight * relu(bn(y) + identity)) in double: the function whose gradient is tested. */
static double reference(const float *y, const float *gamma, const float *beta,
                        const float *identity, const float *weight)
{
    double total = 0;
    for (int c = 0; c < C; c++) {
        double mean = 0, var = 0;
        for (int i = c; i < ALL; i += C)
            mean += y[i] / (double)(IMAGES * PIXELS);
        for (int i = c; i < ALL; i += C)
            var += (y[i] - mean) * (y[i] - mean) / (IMAGES * PIXELS);
        for (int i = c; i < ALL; i += C) {
            double s = (y[i] - mean) / sqrt(var + NORM_EPSILON) * gamma[c] + beta[c] + identity[i];
            total += s > 0 ? s * weight[i] : 0;
        }
    }
    return total;
}

/* The same through norm.h: value, and gradients of y, gamma, beta. Where `recompute`, the ReLU's
 * output is not kept (identity must be 0). */
static double through_norm(const float *y, const float *gamma, const float *beta,
                           const float *identity, const float *weight, bool recompute, float *dy,
                           float *dgamma, float *dbeta)
{
    static float a[ALL], dz[ALL], pad[(H + 2) * (W + 2) * C];
    double sum[C] = {0}, squares[C] = {0}, sum_dz[C] = {0}, sum_dzy[C] = {0}, value = 0;
    float mean[C], var[C], inv[C], scale[C], shift[C], ka[C], kb[C], kc[C];
    for (int i = 0; i < IMAGES; i++)
        norm_sums(PIXELS, C, y + i * SIZE, sum, squares);
    norm_statistics(C, IMAGES * PIXELS, sum, squares, mean, var, inv);
    norm_affine(C, gamma, beta, mean, inv, scale, shift);
    for (int i = 0; i < IMAGES; i++) {
        int at = i * SIZE;
        norm_add_relu(PIXELS, C, y + at, scale, shift, identity + at, a + at);
        if (recompute)
            norm_relu_backward_recompute(PIXELS, C, weight + at, y + at, scale, shift, mean,
                                         dz + at, sum_dz, sum_dzy);
        else
            norm_relu_backward(PIXELS, C, weight + at, a + at, y + at, mean, dz + at, sum_dz,
                               sum_dzy);
    }
    norm_backward_affine(C, IMAGES * PIXELS, sum_dz, sum_dzy, gamma, mean, inv, ka, kb, kc, dgamma,
                         dbeta);
    for (int i = 0; i < IMAGES; i++) {
        norm_backward_pad(H, W, C, 1, dz + i * SIZE, y + i * SIZE, ka, kb, kc, pad);
        for (int r = 0; r < H; r++)
            memcpy(dy + i * SIZE + r * W * C, pad + ((r + 1) * (W + 2) + 1) * C,
                   W * C * sizeof *dy);
    }
    for (int i = 0; i < ALL; i++)
        value += (double)a[i] * weight[i];
    return value;
}

static void check_slope(double got, float *x, double h, double (*f)(void *), void *ctx)
{
    float keep = *x;
    *x = (float)(keep + h);
    double up = f(ctx), hi = *x;
    *x = (float)(keep - h);
    double down = f(ctx), lo = *x;
    *x = keep;
    double expected = (up - down) / (hi - lo);
    if (fabs(got - expected) > 2e-3 * (1 + fabs(expected)))
        fail_msg("gradient %g, finite difference %g", got, expected);
}

struct inputs {
    float y[ALL], gamma[C], beta[C], identity[ALL], weight[ALL];
};

static double reference_of(void *ctx)
{
    struct inputs *in = ctx;
    return reference(in->y, in->gamma, in->beta, in->identity, in->weight);
}

static void check_norm(bool recompute)
{
    static struct inputs in;
    static float dy[ALL];
    float dgamma[C], dbeta[C];
    fill(in.y, ALL, 1);
    fill(in.gamma, C, 2);
    fill(in.beta, C, 3);
    fill(in.weight, ALL, 4);
    memset(in.identity, 0, sizeof in.identity);
    if (!recompute)
        fill(in.identity, ALL, 5);
    double value = through_norm(in.y, in.gamma, in.beta, in.identity, in.weight, recompute, dy,
                                dgamma, dbeta);
    double expected = reference_of(&in);
    assert_true(fabs(value - expected) < 1e-4 * (1 + fabs(expected)));
    for (int i = 0; i < ALL; i += 7)
        check_slope(dy[i], &in.y[i], 1e-4, reference_of, &in);
    for (int c = 0; c < C; c++) {
        check_slope(dgamma[c], &in.gamma[c], 1e-4, reference_of, &in);
        check_slope(dbeta[c], &in.beta[c], 1e-4, reference_of, &in);
    }
}

static void test_norm_with_residual(void **state)
{
    (void)state;
    check_norm(false);
}

static void test_norm_recomputed(void **state)
{
    (void)state;
    check_norm(true);
}

static void test_large_mean_keeps_variance(void **state)
{
    (void)state;
    static float y[ALL];
    double sum[C] = {0}, squares[C] = {0};
    float mean[C], var[C], inv[C];
    fill(y, ALL, 6);
    for (int i = 0; i < ALL; i++)
        y[i] += 30; /* thirty deviations away from zero */
    for (int i = 0; i < IMAGES; i++)
        norm_sums(PIXELS, C, y + i * SIZE, sum, squares);
    norm_statistics(C, IMAGES * PIXELS, sum, squares, mean, var, inv);
    for (int c = 0; c < C; c++) {
        double m = 0, v = 0;
        for (int i = c; i < ALL; i += C)
            m += y[i] / (double)(IMAGES * PIXELS);
        for (int i = c; i < ALL; i += C)
            v += (y[i] - m) * (y[i] - m) / (IMAGES * PIXELS);
        assert_true(fabs(var[c] - v) < 2e-3 * v);
    }
}

static void test_pads_write_the_interior_only(void **state)
{
    (void)state;
    static float x[SIZE], pad[(H + 2) * (W + 2) * C];
    float one[C], zero[C] = {0};
    fill(x, SIZE, 7);
    for (int c = 0; c < C; c++)
        one[c] = 1;
    for (int relu = 0; relu < 2; relu++) {
        memset(pad, 0, sizeof pad);
        if (relu)
            norm_relu_pad(H, W, C, 1, x, one, zero, pad);
        else
            norm_copy_pad(H, W, C, 1, x, pad);
        for (int i = 0; i < H + 2; i++)
            for (int j = 0; j < W + 2; j++)
                for (int c = 0; c < C; c++) {
                    bool inside = i > 0 && i <= H && j > 0 && j <= W;
                    float v = inside ? x[((i - 1) * W + j - 1) * C + c] : 0;
                    float expected = relu && v < 0 ? 0 : v;
                    assert_true(pad[(i * (W + 2) + j) * C + c] == expected);
                }
    }
}

/* <forward(x), d> == <x, backward(d)>: a linear map and its transpose. */
static void test_pooling_is_transposed(void **state)
{
    (void)state;
    float x[SIZE], d[C], out[C], dx[SIZE] = {0};
    double left = 0, right = 0;
    fill(x, SIZE, 8);
    fill(d, C, 9);
    pool_average(PIXELS, C, x, out);
    pool_average_backward(PIXELS, C, d, dx);
    for (int c = 0; c < C; c++)
        left += (double)out[c] * d[c];
    for (int i = 0; i < SIZE; i++)
        right += (double)x[i] * dx[i];
    assert_true(fabs(left - right) < 1e-5);
    assert_true(fabs(out[3] - (x[3] + x[C + 3]) / PIXELS) > 0); /* not the first two pixels only */
}

static void test_shortcut_is_transposed(void **state)
{
    (void)state;
    enum { OUT = 27, OH = (H + 1) / 2, OW = (W + 1) / 2, OSIZE = OH * OW * OUT };
    float x[SIZE], d[OSIZE], out[OSIZE], dx[SIZE] = {0};
    double left = 0, right = 0;
    fill(x, SIZE, 10);
    fill(d, OSIZE, 11);
    pool_shortcut(H, W, C, OUT, x, out);
    pool_shortcut_backward(H, W, C, OUT, d, dx);
    for (int i = 0; i < OSIZE; i++)
        left += (double)out[i] * d[i];
    for (int i = 0; i < SIZE; i++)
        right += (double)x[i] * dx[i];
    assert_true(fabs(left - right) < 1e-4);
    /* pixel (1,1) of the output is pixel (2,2) of the input, channels moved by (27-19)/2 */
    assert_true(out[(1 * OW + 1) * OUT + 4] == x[(2 * W + 2) * C]);
    assert_true(out[(1 * OW + 1) * OUT + 3] == 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_norm_with_residual),
        cmocka_unit_test(test_norm_recomputed),
        cmocka_unit_test(test_large_mean_keeps_variance),
        cmocka_unit_test(test_pads_write_the_interior_only),
        cmocka_unit_test(test_pooling_is_transposed),
        cmocka_unit_test(test_shortcut_is_transposed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
