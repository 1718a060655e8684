/*
 * test_linear.c - the fully connected layer against a plain loop and against finite differences.
 */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "core/nn/linear.h"

enum { N = 5, IN = 7, OUT = 3 };

static void fill(float *v, int count, uint32_t seed)
{
    for (int i = 0; i < count; i++) {
        seed = seed * 1664525u + 1013904223u;
        v[i] = (float)(seed >> 8) / 8388608.0f - 1.0f;
    }
}

struct problem {
    float x[N * IN], w[OUT * IN], b[OUT], dy[N * OUT];
};

static void make(struct problem *p)
{
    fill(p->x, N * IN, 1);
    fill(p->w, OUT * IN, 2);
    fill(p->b, OUT, 3);
    fill(p->dy, N * OUT, 4);
}

/* sum of dy * y: its gradients are what linear_backward returns. */
static double objective(const struct problem *p)
{
    double sum = 0;
    for (int i = 0; i < N; i++)
        for (int o = 0; o < OUT; o++) {
            double y = p->b[o];
            for (int k = 0; k < IN; k++)
                y += (double)p->x[i * IN + k] * p->w[o * IN + k];
            sum += y * p->dy[i * OUT + o];
        }
    return sum;
}

static void check_gradient(struct problem *p, float *values, int count, const float *gradient,
                           float start)
{
    const float h = 0.0625f; /* the objective is linear in each value: any step will do */
    for (int i = 0; i < count; i++) {
        float at = values[i], above = at + h;
        double before = objective(p);
        values[i] = above;
        double slope = (objective(p) - before) / ((double)above - at);
        values[i] = at;
        assert_true(fabs(slope + start - gradient[i]) < 1e-5);
    }
}

static void test_forward(void **state)
{
    (void)state;
    struct problem p;
    float y[N * OUT];
    make(&p);
    linear_forward(N, IN, OUT, p.x, p.w, p.b, y);
    double sum = 0;
    for (int i = 0; i < N * OUT; i++)
        sum += (double)y[i] * p.dy[i];
    assert_true(fabs(sum - objective(&p)) < 1e-5);

    /* One element by hand, so that a transposed layout cannot hide behind the sum. */
    double want = p.b[2];
    for (int k = 0; k < IN; k++)
        want += (double)p.x[4 * IN + k] * p.w[2 * IN + k];
    assert_true(fabs(y[4 * OUT + 2] - want) < 1e-6);
}

static void test_backward(void **state)
{
    (void)state;
    struct problem p;
    make(&p);
    float dx[N * IN], dw[OUT * IN], db[OUT];
    for (int i = 0; i < N * IN; i++)
        dx[i] = 0.75f; /* all are added to */
    for (int i = 0; i < OUT * IN; i++)
        dw[i] = 0.5f;
    for (int i = 0; i < OUT; i++)
        db[i] = -0.25f;
    linear_backward(N, IN, OUT, p.x, p.w, p.dy, dx, dw, db);
    check_gradient(&p, p.x, N * IN, dx, 0.75f);
    check_gradient(&p, p.w, OUT * IN, dw, 0.5f);
    check_gradient(&p, p.b, OUT, db, -0.25f);
}

static void test_backward_without_dx(void **state)
{
    (void)state;
    struct problem p;
    make(&p);
    float dx[N * IN] = {0}, dw[OUT * IN] = {0}, db[OUT] = {0}, dw2[OUT * IN] = {0}, db2[OUT] = {0};
    linear_backward(N, IN, OUT, p.x, p.w, p.dy, dx, dw, db);
    linear_backward(N, IN, OUT, p.x, p.w, p.dy, NULL, dw2, db2);
    assert_memory_equal(dw, dw2, sizeof dw);
    assert_memory_equal(db, db2, sizeof db);
}

static void test_empty_batch(void **state)
{
    (void)state;
    float w[OUT * IN] = {0}, b[OUT] = {0}, dw[OUT * IN] = {0}, db[OUT] = {0};
    linear_forward(0, IN, OUT, NULL, w, b, NULL);
    linear_backward(0, IN, OUT, NULL, w, NULL, NULL, dw, db);
    for (int i = 0; i < OUT; i++)
        assert_true(db[i] == 0.0f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_forward),
        cmocka_unit_test(test_backward),
        cmocka_unit_test(test_backward_without_dx),
        cmocka_unit_test(test_empty_batch),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
