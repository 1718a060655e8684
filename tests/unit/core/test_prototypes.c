/*
 * test_prototypes.c - class means, the map of the drift, and carrying prototypes over.
 */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "core/err.h"
#include "core/m2kd/prototypes.h"
#include "tests/unit/core/command_fixture.h"

enum { N = 700, F = 6, WIDE = 70 };

static float frand(uint32_t *seed)
{
    *seed = *seed * 1664525u + 1013904223u;
    return (float)(*seed >> 8) / 8388608.0f - 1.0f;
}

static void fill_units(float *rows, int n, int features, uint32_t seed)
{
    for (int i = 0; i < n * features; i++)
        rows[i] = frand(&seed);
    prototypes_normalise(n, features, rows);
}

static void test_normalise(void **state)
{
    (void)state;
    float rows[6] = {3, 4, 0, 0, 1e-30f, 0};
    prototypes_normalise(3, 2, rows);
    const float want[6] = {0.6f, 0.8f, 0, 0, 1, 0};
    for (int i = 0; i < 6; i++)
        assert_true(fabsf(rows[i] - want[i]) < 1e-7f);
}

/* More features than one block of sums, classes in any order, one class without rows. */
static void test_mean(void **state)
{
    (void)state;
    enum { ROWS = 9, FIRST = 2, END = 5 };
    static const int labels[ROWS] = {2, 4, 2, 7, 4, 2, 1, 4, 4};
    float rows[ROWS * WIDE], prototypes[END * WIDE];
    fill_units(rows, ROWS, WIDE, 1);
    for (int i = 0; i < END * WIDE; i++)
        prototypes[i] = 42.0f;
    prototypes_mean(ROWS, WIDE, rows, labels, FIRST, END, prototypes);
    for (int c = 0; c < END; c++) {
        double mean[WIDE] = {0};
        int rows_of_class = 0;
        for (int i = 0; i < ROWS; i++) {
            rows_of_class += labels[i] == c;
            for (int f = 0; f < WIDE && labels[i] == c; f++)
                mean[f] += rows[i * WIDE + f];
        }
        for (int f = 0; f < WIDE; f++) {
            double want = c == 2 || c == 4 ? mean[f] / rows_of_class : 42.0;
            assert_true(fabs(prototypes[c * WIDE + f] - want) < 1e-6);
        }
    }
}

/* The objective's gradient, -2 O'W(N - O M) + 2 ridge (M - I), vanishes at the map. */
static void test_map_is_the_minimum(void **state)
{
    (void)state;
    static float old[N * F], new[N * F];
    float map[F * F];
    const double ridge = 3, weight = 2.5;
    const int last = N / 3;
    fill_units(old, N, F, 2);
    fill_units(new, N, F, 3);
    for (int i = 0; i < N * F; i++)
        new[i] = 0.3f * new[i] + old[i];
    prototypes_normalise(N, F, new);
    assert_int_equal(prototypes_fit_map(N, F, F, old, new, last, weight, ridge, NULL, map), 0);

    double largest = 0;
    for (int a = 0; a < F; a++)
        for (int b = 0; b < F; b++) {
            double g = ridge * (map[a * F + b] - (a == b));
            for (int i = 0; i < N; i++) {
                double residual = new[i * F + b];
                for (int k = 0; k < F; k++)
                    residual -= (double)old[i * F + k] * map[k * F + b];
                g -= (i < N - last ? 1 : weight) * old[i * F + a] * residual;
            }
            largest = fmax(largest, fabs(g));
        }
    assert_true(largest < 1e-6 * N);
    assert_true(fabsf(map[1]) > 1e-3f); /* and it is no trivial point */
}

static void check_identity(const float *map)
{
    for (int a = 0; a < F; a++)
        for (int b = 0; b < F; b++)
            assert_true(fabs(map[a * F + b] - (a == b)) < 1e-6);
}

static void test_identity_when_nothing_to_learn(void **state)
{
    (void)state;
    static float old[N * F];
    float map[F * F];
    fill_units(old, N, F, 4);
    assert_int_equal(prototypes_fit_map(N, F, F, old, old, 0, 1, 0.01, NULL, map), 0);
    check_identity(map);
    assert_int_equal(prototypes_fit_map(0, F, F, NULL, NULL, 0, 1, 0.01, NULL, map), 0);
    check_identity(map);

    /* Data in the first two directions say nothing about the others. */
    for (int i = 0; i < N; i++)
        for (int f = 2; f < F; f++)
            old[i * F + f] = 0;
    static float new[N * F];
    for (int i = 0; i < N; i++) {
        new[i * F] = -old[i * F + 1];
        new[i * F + 1] = old[i * F];
    }
    assert_int_equal(prototypes_fit_map(N, F, F, old, new, 0, 1, 1e-6, NULL, map), 0);
    assert_true(fabsf(map[1] - 1.0f) < 1e-3f && fabsf(map[F] + 1.0f) < 1e-3f);
    for (int a = 2; a < F; a++)
        for (int b = 0; b < F; b++)
            assert_true(fabs(map[a * F + b] - (a == b)) < 1e-6);
}

/* A product of plane rotations, so that every direction moves. */
static void rotate(float *row)
{
    for (int p = 0; p < F; p++) {
        int q = (p + 1) % F;
        double angle = 0.3 + 0.2 * p, a = row[p], b = row[q];
        row[p] = (float)(cos(angle) * a - sin(angle) * b);
        row[q] = (float)(sin(angle) * a + cos(angle) * b);
    }
}

static void test_carry_recovers_a_rotation(void **state)
{
    (void)state;
    static float old[N * F], new[N * F];
    float map[F * F], prototypes[3 * F], carried[3 * F], want[3 * F];
    fill_units(old, N, F, 5);
    memcpy(new, old, sizeof old);
    for (int i = 0; i < N; i++)
        rotate(new + i * F);
    fill_units(prototypes, 3, F, 6);
    memcpy(want, prototypes, sizeof want);
    for (int i = 0; i < 3; i++)
        rotate(want + i * F);

    assert_int_equal(prototypes_fit_map(N, F, F, old, new, 0, 1, 1e-7, NULL, map), 0);
    prototypes_carry(3, F, F, 0, map, prototypes, carried);
    for (int i = 0; i < 3 * F; i++)
        assert_true(fabsf(carried[i] - want[i]) < 1e-4f);
    prototypes_carry(0, F, F, 0, map, prototypes, carried);
}

/* Against its definition: by count / (count + prior) of the mean residual of the class's rows; kept features, classes without rows and
 * other labels not at all. */
static void test_correct(void **state)
{
    (void)state;
    enum { TO = 3, KEEP = 2, JOINED = KEEP + TO, CLASSES = 3 };
    const double prior = 10;
    static float old[N * F], new[N * TO];
    int labels[N];
    float map[F * TO], before[CLASSES * JOINED], after[CLASSES * JOINED];
    fill_units(old, N, F, 30);
    fill_units(new, N, TO, 31);
    fill_units(map, F, TO, 32);
    fill_units(before, CLASSES, JOINED, 33);
    for (int i = 0; i < N; i++) /* none of class 1; labels no class has */
        labels[i] = i % 5 == 0 ? 0 : i % 5 == 1 ? 2 : i % 5 == 2 ? -1 : i % 5 == 3 ? CLASSES : 2;
    memcpy(after, before, sizeof after);
    assert_int_equal(prototypes_correct(N, F, TO, KEEP, old, new, labels, map, prior, NULL, CLASSES,
                                        after), 0);
    for (int c = 0; c < CLASSES; c++)
        for (int f = 0; f < JOINED; f++) {
            double sum = 0, count = 0;
            for (int i = 0; i < N && f >= KEEP; i++) {
                if (labels[i] != c)
                    continue;
                count++;
                sum += new[i * TO + f - KEEP];
                for (int k = 0; k < F; k++)
                    sum -= (double)old[i * F + k] * map[k * TO + f - KEEP];
            }
            double moved = count > 0 ? count / (count + prior) * (sum / count) : 0;
            assert_true(fabs(after[c * JOINED + f] - before[c * JOINED + f] - moved) < 1e-6);
            if (moved == 0)
                assert_true(after[c * JOINED + f] == before[c * JOINED + f]);
        }
}

/* Entry (a, b) of a packed covariance. */
static double entry(const float *packed, int a, int b)
{
    int r = a > b ? a : b, c = a > b ? b : a;
    return packed[r * (r + 1) / 2 + c];
}

/* Against the definition written out: unequal classes count the same, a class without rows and labels outside the range
 * not at all. */
static void test_covariance(void **state)
{
    (void)state;
    enum { FIRST = 1, END = 4 };
    static float rows[N * F];
    static int labels[N];
    float means[END * F] = {0}, covariance[COVARIANCE_FLOATS(F)];
    int counts[END] = {0};
    double want[F][F] = {{0}};
    fill_units(rows, N, F, 9);
    for (int i = 0; i < N; i++)
        labels[i] = i % 10 == 0 ? 0 : i % 7 == 0 ? 1 : 3; /* none of class 2 */
    prototypes_mean(N, F, rows, labels, FIRST, END, means);
    for (int i = 0; i < N; i++)
        counts[labels[i]]++;
    for (int i = 0; i < N; i++)
        for (int a = 0; a < F && labels[i] >= FIRST; a++)
            for (int b = 0; b < F; b++)
                want[a][b] += (rows[i * F + a] - means[labels[i] * F + a]) *
                              (rows[i * F + b] - means[labels[i] * F + b]) / counts[labels[i]] / 2.0;
    assert_int_equal(prototypes_covariance(N, F, rows, labels, FIRST, END, means, NULL, covariance), 0);
    for (int a = 0; a < F; a++)
        for (int b = 0; b < F; b++)
            assert_true(fabs(entry(covariance, a, b) - want[a][b]) < 1e-6);
    assert_int_equal(prototypes_covariance(N, F, rows, labels, 2, 3, means, NULL, covariance), 0);
    for (size_t i = 0; i < COVARIANCE_FLOATS(F); i++)
        assert_true(covariance[i] == 0);
}

/* What the map leaves unexplained is not lost: carried, the covariance of the old data is that of the new. */
static void test_carried_covariance_is_the_new_one(void **state)
{
    (void)state;
    static float old[N * F], new[N * F];
    static int labels[N]; /* all 0 */
    float map[F * F], mean[F], before[COVARIANCE_FLOATS(F)], carried[COVARIANCE_FLOATS(F)],
          want[COVARIANCE_FLOATS(F)];
    fill_units(old, N, F, 10);
    memcpy(new, old, sizeof old);
    uint32_t seed = 11;
    for (int i = 0; i < N; i++) {
        rotate(new + i * F);
        for (int f = 0; f < F; f++)
            new[i * F + f] += 0.5f * frand(&seed);
    }
    assert_int_equal(prototypes_fit_map(N, F, F, old, new, 0, 1, 1e-9, NULL, map), 0);
    prototypes_mean(N, F, old, labels, 0, 1, mean);
    assert_int_equal(prototypes_covariance(N, F, old, labels, 0, 1, mean, NULL, before), 0);
    assert_int_equal(prototypes_carry_covariance(N, F, F, 0, old, new, map, 1, NULL, before,
                                                 carried), 0);
    prototypes_mean(N, F, new, labels, 0, 1, mean);
    assert_int_equal(prototypes_covariance(N, F, new, labels, 0, 1, mean, NULL, want), 0);
    for (size_t i = 0; i < COVARIANCE_FLOATS(F); i++)
        assert_true(fabs(carried[i] - want[i]) < 2e-3);
    /* The map alone would lose the noise, of variance 1/12 in each direction. */
    for (int f = 0; f < F; f++)
        assert_true(entry(carried, f, f) > 1 / 12.0);
}

/* Against the definition written out, M'CM + R, for a map that leaves a mean behind and more rows than go at a time. */
static void test_carried_covariance(void **state)
{
    (void)state;
    static float old[N * F], new[N * F];
    static double residual[N][F];
    float map[F * F], covariance[COVARIANCE_FLOATS(F)], carried[COVARIANCE_FLOATS(F)];
    double mean[F] = {0};
    fill_units(old, N, F, 12);
    fill_units(new, N, F, 13);
    fill_units(map, F, F, 14);
    for (int r = 0, at = 0; r < F; r++)
        for (int c = 0; c <= r; c++, at++)
            covariance[at] = r == c ? 2.0f : 0.1f * (float)(r - c);
    for (int i = 0; i < N; i++)
        for (int f = 0; f < F; f++) {
            new[i * F + f] += 3;
            residual[i][f] = new[i * F + f];
            for (int k = 0; k < F; k++)
                residual[i][f] -= (double)old[i * F + k] * map[k * F + f];
            mean[f] += residual[i][f] / N;
        }
    assert_int_equal(prototypes_carry_covariance(N, F, F, 0, old, new, map, 1, NULL, covariance,
                                                 carried), 0);
    for (int a = 0; a < F; a++)
        for (int b = 0; b < F; b++) {
            double want = 0;
            for (int i = 0; i < N; i++)
                want += (residual[i][a] - mean[a]) * (residual[i][b] - mean[b]) / N;
            for (int r = 0; r < F; r++)
                for (int c = 0; c < F; c++)
                    want += map[r * F + a] * entry(covariance, r, c) * map[c * F + b];
            assert_true(fabs(entry(carried, a, b) - want) < 1e-6);
        }
}

/* A new network beside what is kept: the map from all old features to its own, the means and the covariance in the features that are
 * kept and the new ones, against their definitions; and without data the last features stay as they are. */
static void test_carry_beside_what_is_kept(void **state)
{
    (void)state;
    enum { TO = 2, KEEP = 4, JOINED = KEEP + TO };
    static float old[N * F], new[N * TO];
    float map[F * TO], covariance[COVARIANCE_FLOATS(F)], joined[COVARIANCE_FLOATS(JOINED)];
    float rows[3 * F], carried[3 * JOINED];
    const double ridge = 2;
    fill_units(old, N, F, 20);
    fill_units(new, N, TO, 21);
    assert_int_equal(prototypes_fit_map(N, F, TO, old, new, 0, 1, ridge, NULL, map), 0);
    for (int a = 0; a < F; a++)
        for (int b = 0; b < TO; b++) {
            double g = ridge * (map[a * TO + b] - (a == F - TO + b));
            for (int i = 0; i < N; i++) {
                double residual = new[i * TO + b];
                for (int k = 0; k < F; k++)
                    residual -= (double)old[i * F + k] * map[k * TO + b];
                g -= old[i * F + a] * residual;
            }
            assert_true(fabs(g) < 1e-6 * N);
        }

    fill_units(rows, 3, F, 22);
    prototypes_carry(3, F, TO, KEEP, map, rows, carried);
    for (int i = 0; i < 3; i++)
        for (int f = 0; f < JOINED; f++) {
            double want = f < KEEP ? rows[i * F + f] : 0;
            for (int k = 0; k < F && f >= KEEP; k++)
                want += (double)rows[i * F + k] * map[k * TO + f - KEEP];
            assert_true(fabs(carried[i * JOINED + f] - want) < 1e-6);
        }

    for (int r = 0, at = 0; r < F; r++)
        for (int c = 0; c <= r; c++, at++)
            covariance[at] = r == c ? 2.0f : 0.1f * (float)(r - c);
    assert_int_equal(prototypes_carry_covariance(N, F, TO, KEEP, old, new, map, 0.25, NULL,
                                                 covariance, joined), 0);
    for (int a = 0; a < JOINED; a++)
        for (int b = 0; b <= a; b++) {
            double want = a < KEEP ? entry(covariance, a, b) : 0;
            for (int k = 0; k < F && a >= KEEP; k++)
                for (int j = 0; j < F; j++)
                    want += map[k * TO + a - KEEP] * entry(covariance, k, j) *
                            (b < KEEP ? j == b : (double)map[j * TO + b - KEEP]);
            double mean_a = 0, mean_b = 0, product = 0;
            for (int i = 0; i < N && b >= KEEP; i++) {
                double x = new[i * TO + a - KEEP], y = new[i * TO + b - KEEP];
                for (int k = 0; k < F; k++) {
                    x -= (double)old[i * F + k] * map[k * TO + a - KEEP];
                    y -= (double)old[i * F + k] * map[k * TO + b - KEEP];
                }
                product += x * y / N;
                mean_a += x / N;
                mean_b += y / N;
            }
            assert_true(fabs(entry(joined, a, b) - want -
                             0.25 * (product - mean_a * mean_b)) < 1e-6);
        }

    assert_int_equal(prototypes_fit_map(0, F, TO, NULL, NULL, 0, 1, ridge, NULL, map), 0);
    for (int a = 0; a < F; a++)
        for (int b = 0; b < TO; b++)
            assert_true(map[a * TO + b] == (a == F - TO + b));
}

static int fit(int n, int width, const float *rows, const int *labels, const float *square,
               const atomic_int *command, float *out)
{
    (void)labels;
    (void)square;
    return prototypes_fit_map(n, width, width, rows, rows + width, 0, 1, 1, command, out);
}

static int spread(int n, int width, const float *rows, const int *labels, const float *square,
                  const atomic_int *command, float *out)
{
    return prototypes_covariance(n, width, rows, labels, 0, 1, square, command, out);
}

static int carry(int n, int width, const float *rows, const int *labels, const float *square,
                 const atomic_int *command, float *out)
{
    (void)labels;
    return prototypes_carry_covariance(n, width, width, 0, rows, rows + width, square, 1, command,
                                       square, out);
}

static int correct(int n, int width, const float *rows, const int *labels, const float *square,
                   const atomic_int *command, float *out)
{
    return prototypes_correct(n, width, width, 0, rows, rows + width, labels, square, 1, command, 1,
                              out);
}

/* A command given while it is at work ends what goes through all rows, and nothing is written. */
static void test_commanded(void **state)
{
    (void)state;
    enum { ROWS = 30000, LONG = 512 };
    int (*const works[])(int, int, const float *, const int *, const float *, const atomic_int *,
                         float *) = {fit, spread, carry, correct};
    float *rows = malloc((size_t)(ROWS + 1) * LONG * sizeof *rows);
    float *square = calloc((size_t)LONG * LONG, sizeof *square);
    float *out = calloc((size_t)LONG * LONG, sizeof *out);
    int *labels = calloc(ROWS, sizeof *labels);
    assert_true(rows && square && out && labels);
    fill_units(rows, ROWS + 1, LONG, 15);
    for (size_t k = 0; k < sizeof works / sizeof *works; k++) {
        assert_int_equal(works[k](ROWS, LONG, rows, labels, square, command_in_a_moment(), out),
                         ERR_CANCELLED);
        for (size_t i = 0; i < (size_t)LONG * LONG; i++)
            assert_true(out[i] == 0);
    }
    free(rows);
    free(square);
    free(out);
    free(labels);
}

static void test_cosine(void **state)
{
    (void)state;
    const float prototypes[4] = {3, 4, 0, -2};
    float rows[4], bias[2] = {9, 9};
    const float want[4] = {0.6f, 0.8f, 0, -1};
    prototypes_cosine(2, 2, prototypes, rows, bias);
    for (int i = 0; i < 4; i++)
        assert_true(fabsf(rows[i] - want[i]) < 1e-7f);
    assert_true(bias[0] == 0 && bias[1] == 0);
}

/* By hand: C = [4 1; 1 2], shrink 1/2 => S = [3.5 0.5; 0.5 2.5], S^-1 = [2.5 -0.5; -0.5 3.5] / 8.5. */
static void test_discriminant(void **state)
{
    (void)state;
    const float covariance[3] = {4, 1, 2}, prototypes[4] = {1, 0, 2, -1};
    const double want[4] = {2.5 / 8.5, -0.5 / 8.5, 5.5 / 8.5, -4.5 / 8.5};
    float rows[4], bias[2];
    assert_int_equal(prototypes_discriminant(2, 2, prototypes, covariance, 0.5, rows, bias), 0);
    for (int i = 0; i < 4; i++)
        assert_true(fabs(rows[i] - want[i]) < 1e-6);
    assert_true(fabs(bias[0] + 1.25 / 8.5) < 1e-6);
    assert_true(fabs(bias[1] + 7.75 / 8.5) < 1e-6);

    /* One image a class: no covariance to speak of, the nearest mean. */
    assert_int_equal(prototypes_discriminant(2, 2, prototypes, (float[3]){0}, 0.1, rows, bias), 0);
    assert_memory_equal(rows, prototypes, sizeof rows);
    assert_true(bias[0] == -0.5f && bias[1] == -2.5f);

    /* A file may say anything: what is no covariance is refused. */
    assert_int_equal(prototypes_discriminant(2, 2, prototypes, (float[3]){-4, 1, -2}, 0.1, rows, bias),
                     ERR_NUMERIC);
}

static void test_unsolvable(void **state)
{
    (void)state;
    float old[2 * F] = {1}, new[2 * F] = {1}, map[F * F] = {42.0f};
    assert_int_equal(prototypes_fit_map(2, F, F, old, new, 0, 1, 0.0, NULL, map), ERR_NUMERIC);
    old[3] = NAN;
    assert_int_equal(prototypes_fit_map(2, F, F, old, new, 0, 1, 0.1, NULL, map), ERR_NUMERIC);
    old[3] = 0;
    new[3] = INFINITY;
    assert_int_equal(prototypes_fit_map(2, F, F, old, new, 0, 1, 0.1, NULL, map), ERR_NUMERIC);
    assert_true(map[0] == 42.0f);
}

void openblas_set_num_threads(int threads); /* cblas.h of other BLAS libraries does not know it */

int main(void)
{
    openblas_set_num_threads(1); /* as the daemon does */
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_normalise),
        cmocka_unit_test(test_mean),
        cmocka_unit_test(test_map_is_the_minimum),
        cmocka_unit_test(test_identity_when_nothing_to_learn),
        cmocka_unit_test(test_carry_recovers_a_rotation),
        cmocka_unit_test(test_correct),
        cmocka_unit_test(test_covariance),
        cmocka_unit_test(test_carried_covariance_is_the_new_one),
        cmocka_unit_test(test_carried_covariance),
        cmocka_unit_test(test_carry_beside_what_is_kept),
        cmocka_unit_test(test_commanded),
        cmocka_unit_test(test_cosine),
        cmocka_unit_test(test_discriminant),
        cmocka_unit_test(test_unsolvable),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
