/*
 * test_loss.c - the losses against a plain double formula, and their gradients against finite
 * differences.
 */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "core/nn/loss.h"

enum { N = 4, LD = 7, LO = 2, HI = 6, LD_TEACHER = 9 };

enum form { SIGMOID_LABELS, SIGMOID_TEACHER, SOFTMAX_LABELS, SOFTMAX_TEACHER, FORMS };

static const int labels[N] = {2, 5, 3, 3};
static const float temperature = 2.5f, scale = 0.75f;

/* Values in +-size from a fixed linear congruence. */
static void fill(float *v, int count, float size, uint32_t seed)
{
    for (int i = 0; i < count; i++) {
        seed = seed * 1664525u + 1013904223u;
        v[i] = size * ((float)(seed >> 8) / 8388608.0f - 1.0f);
    }
}

static double call(enum form form, const float *z, const float *teacher, float *dz)
{
    switch (form) {
    case SIGMOID_LABELS:
        return loss_sigmoid_labels(N, LD, LO, HI, z, labels, scale, dz);
    case SIGMOID_TEACHER:
        return loss_sigmoid_teacher(N, LD, LO, HI, z, LD_TEACHER, teacher, scale, dz);
    case SOFTMAX_LABELS:
        return loss_softmax_labels(N, LD, LO, HI, z, labels, scale, dz);
    case SOFTMAX_TEACHER:
        return loss_softmax_teacher(N, LD, LO, HI, z, LD_TEACHER, teacher, temperature, scale, dz);
    case FORMS:
        break;
    }
    fail();
    return 0;
}

/* softmax(v / t)_c over the columns, as it is written in a textbook (long double's range covers
 * the extreme logits). */
static long double plain_softmax(const double *v, int c, long double t)
{
    long double sum = 0;
    for (int k = LO; k < HI; k++)
        sum += expl(v[k] / t);
    return expl(v[c] / t) / sum;
}

static long double plain_row(enum form form, const double *z, const double *teacher, int label)
{
    long double sum = 0, t = form == SOFTMAX_TEACHER ? temperature : 1;
    for (int c = LO; c < HI; c++) {
        long double s = 1 / (1 + expl(-(long double)z[c])), not_s = 1 / (1 + expl(z[c]));
        long double y = label == c, not_y = 1 - y;
        if (form == SIGMOID_TEACHER) {
            y = 1 / (1 + expl(-(long double)teacher[c]));
            not_y = 1 / (1 + expl(teacher[c]));
        }
        if (form == SOFTMAX_TEACHER)
            y = plain_softmax(teacher, c, t);
        if (form == SIGMOID_LABELS || form == SIGMOID_TEACHER)
            sum -= y * logl(s) + not_y * logl(not_s);
        else
            sum -= y * logl(plain_softmax(z, c, t));
    }
    return sum * t * t;
}

static double plain(enum form form, const double *z, const float *teacher)
{
    long double sum = 0;
    for (int i = 0; i < N; i++) {
        double row[LD_TEACHER];
        for (int c = 0; c < LD_TEACHER; c++)
            row[c] = teacher[i * LD_TEACHER + c];
        sum += plain_row(form, z + i * LD, row, labels[i]);
    }
    return (double)(sum * scale);
}

static void check_value(double got, double want)
{
    assert_true(fabs(got - want) <= 1e-12 * (1 + fabs(want)));
}

static void test_values_match_plain_formula(void **state)
{
    (void)state;
    float z[N * LD], teacher[N * LD_TEACHER], dz[N * LD] = {0};
    for (int form = 0; form < FORMS; form++) {
        fill(z, N * LD, 4, 1u + (uint32_t)form);
        fill(teacher, N * LD_TEACHER, 4, 99);
        double wide[N * LD];
        for (int i = 0; i < N * LD; i++)
            wide[i] = z[i];
        check_value(call((enum form)form, z, teacher, dz), plain((enum form)form, wide, teacher));
    }
}

static void test_gradients_match_finite_differences(void **state)
{
    (void)state;
    const double h = 1e-5;
    float z[N * LD], teacher[N * LD_TEACHER];
    for (int form = 0; form < FORMS; form++) {
        fill(z, N * LD, 3, 7u + (uint32_t)form);
        fill(teacher, N * LD_TEACHER, 3, 5);
        float dz[N * LD] = {0};
        call((enum form)form, z, teacher, dz);
        for (int i = 0; i < N * LD; i++) {
            double wide[N * LD];
            for (int k = 0; k < N * LD; k++)
                wide[k] = z[k];
            wide[i] += h;
            double up = plain((enum form)form, wide, teacher);
            wide[i] -= 2 * h;
            double down = plain((enum form)form, wide, teacher);
            assert_true(fabs((up - down) / (2 * h) - dz[i]) < 1e-6);
        }
    }
}

/* The gradient is of the very function the code computes, not of the formula alone. */
static void test_gradients_match_own_value(void **state)
{
    (void)state;
    const float h = 0.0009765625f; /* a power of two: z +- h is exact enough */
    float z[N * LD], teacher[N * LD_TEACHER];
    for (int form = 0; form < FORMS; form++) {
        fill(z, N * LD, 2, 3u + (uint32_t)form);
        fill(teacher, N * LD_TEACHER, 2, 8);
        float dz[N * LD] = {0}, scratch[N * LD] = {0};
        call((enum form)form, z, teacher, dz);
        for (int i = 0; i < N * LD; i++) {
            float at = z[i], above = at + h, below = at - h;
            z[i] = above;
            double up = call((enum form)form, z, teacher, scratch);
            z[i] = below;
            double down = call((enum form)form, z, teacher, scratch);
            z[i] = at;
            assert_true(fabs((up - down) / ((double)above - below) - dz[i]) < 1e-5);
        }
    }
}

static double plain_cosine(const double *f, const double *t, int width)
{
    double ff = 0, tt = 0, ft = 0;
    for (int k = 0; k < width; k++) {
        ff += f[k] * f[k];
        tt += t[k] * t[k];
        ft += f[k] * t[k];
    }
    return 1 - ft / sqrt(ff * tt);
}

static void test_cosine(void **state)
{
    (void)state;
    enum { ROWS = 3, WIDTH = 7 };
    const double h = 1e-5;
    float f[ROWS * WIDTH], t[ROWS * WIDTH], df[ROWS * WIDTH];
    double wide[ROWS * WIDTH], target[ROWS * WIDTH], sum = 0;
    fill(f, ROWS * WIDTH, 3, 11);
    fill(t, ROWS * WIDTH, 3, 12);
    for (int i = 0; i < ROWS * WIDTH; i++) {
        wide[i] = f[i];
        target[i] = t[i];
        df[i] = 1; /* it adds */
    }
    for (int i = 0; i < ROWS; i++)
        sum += plain_cosine(wide + i * WIDTH, target + i * WIDTH, WIDTH);
    check_value(loss_cosine(ROWS, WIDTH, f, t, 0.25f, df), 0.25 * sum);
    for (int i = 0; i < ROWS * WIDTH; i++) {
        double *row = wide + i / WIDTH * WIDTH, at = wide[i];
        const double *target_row = target + i / WIDTH * WIDTH;
        wide[i] = at + h;
        double up = plain_cosine(row, target_row, WIDTH);
        wide[i] = at - h;
        double down = plain_cosine(row, target_row, WIDTH);
        wide[i] = at;
        assert_true(fabs(1 + 0.25 * (up - down) / (2 * h) - df[i]) < 1e-6);
    }
}

static void test_cosine_of_nothing(void **state)
{
    (void)state;
    float zero[2] = {0}, one[2] = {1, 2}, df[2] = {0};
    assert_true(loss_cosine(1, 2, zero, one, 1, df) == 0 && df[0] == 0 && df[1] == 0);
    assert_true(loss_cosine(1, 2, one, zero, 1, df) == 0 && df[0] == 0 && df[1] == 0);
    float same[2] = {2, 4};
    assert_true(fabs(loss_cosine(1, 2, one, same, 1, df)) < 1e-12 && fabsf(df[0]) < 1e-7f);
}

static void test_adds_to_its_columns_only(void **state)
{
    (void)state;
    float z[N * LD], teacher[N * LD_TEACHER];
    fill(z, N * LD, 3, 11);
    fill(teacher, N * LD_TEACHER, 3, 12);
    for (int form = 0; form < FORMS; form++) {
        float once[N * LD] = {0}, twice[N * LD];
        for (int i = 0; i < N * LD; i++)
            twice[i] = 100.0f;
        call((enum form)form, z, teacher, once);
        call((enum form)form, z, teacher, twice);
        for (int i = 0; i < N * LD; i++) {
            bool inside = i % LD >= LO && i % LD < HI;
            assert_true(inside == (once[i] != 0.0f));
            assert_true(fabsf(twice[i] - 100.0f - once[i]) < 2e-5f);
        }
    }
}

/* Logits of +-80 (and far beyond): finite, and equal to the plain formula where that one can
 * still be computed. */
static void test_extreme_logits(void **state)
{
    (void)state;
    static const float corners[] = {80, -80, 0, 79.5f};
    float z[N * LD], teacher[N * LD_TEACHER];
    for (int form = 0; form < FORMS; form++) {
        for (int i = 0; i < N * LD; i++)
            z[i] = corners[(i + i / LD) % 4];
        for (int i = 0; i < N * LD_TEACHER; i++)
            teacher[i] = corners[(i * 3 + i / 5) % 4];
        double wide[N * LD];
        for (int i = 0; i < N * LD; i++)
            wide[i] = z[i];
        float dz[N * LD] = {0};
        check_value(call((enum form)form, z, teacher, dz), plain((enum form)form, wide, teacher));

        for (int i = 0; i < N * LD; i++)
            z[i] *= 1e30f;
        memset(dz, 0, sizeof dz);
        assert_true(isfinite(call((enum form)form, z, teacher, dz)));
        for (int i = 0; i < N * LD; i++)
            assert_true(isfinite(dz[i]));
    }
}

/* A label outside the columns means "none of these" to the sigmoid form. */
static void test_sigmoid_label_outside(void **state)
{
    (void)state;
    const float z[4] = {0, 0, 0, 0};
    const int outside[1] = {0};
    float dz[4] = {0};
    double loss = loss_sigmoid_labels(1, 4, 1, 3, z, outside, 1.0f, dz);
    assert_true(fabs(loss - 2 * log(2)) < 1e-15);
    assert_true(dz[0] == 0.0f && dz[1] == 0.5f && dz[2] == 0.5f && dz[3] == 0.0f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_values_match_plain_formula),
        cmocka_unit_test(test_gradients_match_finite_differences),
        cmocka_unit_test(test_gradients_match_own_value),
        cmocka_unit_test(test_cosine),
        cmocka_unit_test(test_cosine_of_nothing),
        cmocka_unit_test(test_adds_to_its_columns_only),
        cmocka_unit_test(test_extreme_logits),
        cmocka_unit_test(test_sigmoid_label_outside),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
