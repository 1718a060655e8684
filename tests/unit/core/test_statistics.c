/*
 * test_statistics.c - means and covariance in few bits: how near they come back, and that they do so bit for bit.
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
#include "core/m2kd/statistics.h"

enum { CLASSES = 5, ROWS = 40, WIDEST = 200, TRIANGLE = WIDEST * (WIDEST + 1) / 2 };

/* Floats before and after, and the codes between. */
struct trip {
    int width;
    size_t means, triangle;
    float prototypes[CLASSES * WIDEST], covariance[TRIANGLE];
    float prototypes_back[CLASSES * WIDEST], covariance_back[TRIANGLE];
    struct statistics_codes codes;
};

static float frand(uint32_t *seed)
{
    *seed = *seed * 1664525u + 1013904223u;
    return (float)(*seed >> 8) / 8388608.0f - 1.0f;
}

static struct trip *trip_new(int width)
{
    struct trip *t = calloc(1, sizeof *t);
    assert_non_null(t);
    t->width = width;
    t->means = (size_t)(CLASSES * width);
    t->triangle = COVARIANCE_FLOATS(width);
    assert_int_equal(statistics_codes_init(&t->codes, CLASSES, width), 0);
    return t;
}

static void trip_free(struct trip *t)
{
    statistics_codes_release(&t->codes);
    free(t);
}

/* Those of unit features of `width` that a few hidden ones explain but for `noise`. */
static void fill(struct trip *t, uint32_t seed, float noise)
{
    static float rows[CLASSES * ROWS * WIDEST];
    static int labels[CLASSES * ROWS];
    enum { HIDDEN = 3 };
    float from[HIDDEN][WIDEST], hidden[HIDDEN];
    for (int h = 0; h < HIDDEN; h++)
        for (int f = 0; f < t->width; f++)
            from[h][f] = frand(&seed);
    for (int n = 0; n < CLASSES * ROWS; n++) {
        labels[n] = n % CLASSES;
        for (int h = 0; h < HIDDEN; h++)
            hidden[h] = frand(&seed) + (float)(labels[n] == h);
        for (int f = 0; f < t->width; f++) {
            float x = 1 + noise * frand(&seed);
            for (int h = 0; h < HIDDEN; h++)
                x += hidden[h] * from[h][f];
            rows[n * t->width + f] = fmaxf(x, 0);
        }
    }
    prototypes_normalise(CLASSES * ROWS, t->width, rows);
    prototypes_mean(CLASSES * ROWS, t->width, rows, labels, 0, CLASSES, t->prototypes);
    assert_int_equal(prototypes_covariance(CLASSES * ROWS, t->width, rows, labels, 0, CLASSES,
                                           t->prototypes, NULL, t->covariance), 0);
}

/* Whether there are codes for them. */
static bool there_and_back(struct trip *t)
{
    bool made;
    assert_int_equal(statistics_encode(&t->codes, t->prototypes, t->covariance, &made), 0);
    if (!made)
        return false;
    assert_int_equal(statistics_decode(&t->codes, t->prototypes_back, t->covariance_back), 0);
    return true;
}

/* What was decoded has codes of its own, from which it comes back to the bit. */
static void check_exact(struct trip *t)
{
    memcpy(t->prototypes, t->prototypes_back, sizeof t->prototypes);
    memcpy(t->covariance, t->covariance_back, sizeof t->covariance);
    bool found;
    assert_int_equal(statistics_find(&t->codes, t->prototypes, t->covariance, &found), 0);
    assert_true(found);
    assert_int_equal(statistics_decode(&t->codes, t->prototypes_back, t->covariance_back), 0);
    assert_memory_equal(t->prototypes, t->prototypes_back, t->means * sizeof(float));
    assert_memory_equal(t->covariance, t->covariance_back, t->triangle * sizeof(float));
}

/* Worked out by hand from the definitions in statistics.h. */
static void test_by_hand(void **state)
{
    (void)state;
    static const float covariance[6] = {0.30f, 0.12f, 0.20f, -0.05f, 0.04f, 0.10f};
    static const float prototypes[6] = {0.5f, 0.25f, 0.125f, 0.9f, -0.1f, 0.3f};
    static const uint8_t pivots[3] = {69, 55, 40};
    static const int16_t factor[3] = {33, -19, 31}, means[6] = {14, 2, 10, 26, -17, 32};
    static const float covariance_back[6] = {0.294839453f, 0.118207552f, 0.198663788f,
                                             -0.049178704f, 0.040524972f, 0.101291032f};
    static const float prototypes_back[6] = {0.487544200f, 0.237059505f, 0.126585523f,
                                             0.905439228f, -0.092413027f, 0.298172780f};
    struct statistics_codes codes;
    float c[6], p[6];
    bool there = true;
    assert_int_equal(statistics_codes_init(&codes, 2, 3), 0);
    assert_int_equal(statistics_find(&codes, prototypes, covariance, &there), 0);
    assert_false(there);
    assert_int_equal(statistics_encode(&codes, prototypes, covariance, &there), 0);
    assert_true(there);
    assert_int_equal(codes.exponent, -6);
    assert_memory_equal(codes.pivots, pivots, sizeof pivots);
    assert_memory_equal(codes.factor, factor, sizeof factor);
    assert_memory_equal(codes.means, means, sizeof means);
    assert_int_equal(statistics_decode(&codes, p, c), 0);
    for (int i = 0; i < 6; i++)
        assert_true(fabsf(c[i] - covariance_back[i]) < 1e-7f && fabsf(p[i] - prototypes_back[i]) < 1e-7f);
    statistics_codes_release(&codes);
}

/* Squared distances between the classes, in the standard deviations that a classifier takes them by: (classes, classes). */
static void distances(int width, const float *prototypes, const float *covariance, double *out)
{
    static float rows[CLASSES * WIDEST];
    float bias[CLASSES];
    assert_int_equal(prototypes_discriminant(CLASSES, width, prototypes, covariance, 0.1, rows, bias), 0);
    for (int a = 0; a < CLASSES; a++)
        for (int b = 0; b < CLASSES; b++) {
            double sum = 0;
            for (int f = 0; f < width; f++) {
                int at = a * width + f, other = b * width + f;
                sum += ((double)rows[at] - rows[other]) * ((double)prototypes[at] - prototypes[other]);
            }
            out[a * CLASSES + b] = sum;
        }
}

/* Few features or many, loose or almost determined by each other: what a classifier makes of them stays. */
static void test_classifiers_stay(void **state)
{
    (void)state;
    static const int widths[] = {2, 64, WIDEST};
    static const float noises[] = {1, 0.1f, 0.001f};
    double before[CLASSES * CLASSES], after[CLASSES * CLASSES];
    for (size_t w = 0; w < 3; w++)
        for (size_t n = 0; n < 3; n++) {
            struct trip *t = trip_new(widths[w]);
            fill(t, 7, noises[n]);
            assert_true(there_and_back(t));
            distances(t->width, t->prototypes, t->covariance, before);
            distances(t->width, t->prototypes_back, t->covariance_back, after);
            for (int i = 0; i < CLASSES * CLASSES; i++)
                if (fabs(after[i] - before[i]) > 0.1 * before[i] + 0.1)
                    fail_msg("width %d, noise %g: %g became %g", t->width, (double)noises[n], before[i], after[i]);
            trip_free(t);
        }
}

/* Whatever the scale of the variances, down to where means are too many of them; what is decoded makes a classifier. */
static void test_again_bit_for_bit(void **state)
{
    (void)state;
    static const int widths[] = {1, 2, 64, WIDEST};
    static const float scales[] = {1, 0.5f, 0.3f, 0.2f, 1e-12f, 0};
    static float rows[CLASSES * WIDEST];
    float bias[CLASSES];
    for (uint32_t seed = 0; seed < 24; seed++)
        for (size_t w = 0; w < 4; w++) {
            struct trip *t = trip_new(widths[w]);
            float scale = scales[seed % 6];
            fill(t, seed, seed % 2 ? 1 : 0.01f);
            for (size_t i = 0; i < t->triangle; i++)
                t->covariance[i] *= scale;
            bool made = there_and_back(t);
            if (t->width > 1) /* of one unit feature there is no variance */
                assert_int_equal(made, scale > 1e-5f);
            if (made) {
                check_exact(t);
                assert_int_equal(prototypes_discriminant(CLASSES, t->width, t->prototypes, t->covariance, 0.1, rows, bias), 0);
            }
            trip_free(t);
        }
}

/* Files may hold any floats: most of these have no codes, and those that have, for good. */
static void test_what_is_no_covariance(void **state)
{
    (void)state;
    static const float scales[] = {1e-30f, 1e-5f, 1e-2f, 1, 500};
    static float rows[CLASSES * WIDEST];
    float bias[CLASSES];
    int made = 0;
    for (uint32_t seed = 0; seed < 100; seed++) {
        struct trip *t = trip_new(64);
        uint32_t at = seed;
        for (size_t i = 0; i < t->means; i++)
            t->prototypes[i] = scales[seed / 5 % 5] * frand(&at);
        for (size_t i = 0; i < t->triangle; i++)
            t->covariance[i] = scales[seed % 5] * frand(&at) * (seed < 50 ? 1 : 0.01f);
        for (int i = 0; i < 64 && seed >= 50; i++) /* near a covariance, on either side */
            t->covariance[i * (i + 1) / 2 + i] = scales[seed % 5] * 0.12f;
        if (there_and_back(t)) {
            made++;
            check_exact(t);
            assert_int_equal(prototypes_discriminant(CLASSES, 64, t->prototypes, t->covariance, 0.1, rows, bias), 0);
        }
        trip_free(t);
    }
    assert_in_range(made, 5, 50);
}

/* All zeros mean a retired class: a mean that is zero stays so, and no other becomes so. */
static void test_zero_and_almost(void **state)
{
    (void)state;
    static const float zeros[64];
    struct trip *t = trip_new(64);
    fill(t, 3, 1);
    for (int i = 0; i < 64; i++) {
        t->prototypes[64 + i] = 0;
        t->prototypes[128 + i] = -1e-20f * (float)(i == 9);
    }
    assert_true(there_and_back(t));
    assert_memory_equal(t->prototypes_back + 64, zeros, sizeof zeros);
    assert_true(t->prototypes_back[128 + 9] < 0);
    check_exact(t);
    trip_free(t);
}

/* Which is not an error: such floats have no codes. */
static void no_codes(struct trip *t)
{
    bool there = true;
    assert_int_equal(statistics_encode(&t->codes, t->prototypes, t->covariance, &there), 0);
    assert_false(there);
    there = true;
    assert_int_equal(statistics_find(&t->codes, t->prototypes, t->covariance, &there), 0);
    assert_false(there);
}

static void test_without_codes(void **state)
{
    (void)state;
    static const float bad[] = {NAN, INFINITY, -INFINITY, 1025, -1025};
    struct trip *t = trip_new(2);
    fill(t, 1, 1);
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        float kept = t->prototypes[3];
        t->prototypes[3] = bad[i];
        no_codes(t);
        t->prototypes[3] = kept;
        kept = t->covariance[2];
        t->covariance[2] = bad[i];
        no_codes(t);
        t->covariance[2] = kept;
    }
    trip_free(t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_by_hand),
        cmocka_unit_test(test_classifiers_stay),
        cmocka_unit_test(test_again_bit_for_bit),
        cmocka_unit_test(test_what_is_no_covariance),
        cmocka_unit_test(test_zero_and_almost),
        cmocka_unit_test(test_without_codes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
