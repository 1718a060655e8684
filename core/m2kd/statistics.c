/*
 * statistics.c - see statistics.h. Matrices are row by row here; LAPACK, which has them column by column, is told "U" for "L".
 */
#include "core/m2kd/statistics.h"

#include <cblas.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "core/err.h"
#include "core/m2kd/prototypes.h"

/* LAPACK, Fortran calling convention; comes with OpenBLAS. */
void dpotrf_(const char *uplo, const int *n, double *a, const int *lda, int *info);

enum { PIVOT_STEPS = 32 }; /* to an octave */

size_t statistics_factor_count(int width)
{
    return (size_t)width * (size_t)(width - 1) / 2;
}

int statistics_codes_init(struct statistics_codes *s, int classes, int width)
{
    *s = (struct statistics_codes){classes, width, STATISTICS_EXPONENT_MIN, NULL, NULL, NULL};
    s->pivots = calloc((size_t)width, sizeof *s->pivots);
    s->factor = calloc(statistics_factor_count(width) + 1, sizeof *s->factor);
    s->means = calloc((size_t)classes * (size_t)width + 1, sizeof *s->means);
    if (s->pivots && s->factor && s->means)
        return 0;
    statistics_codes_release(s);
    return ERR_NOMEM;
}

void statistics_codes_release(struct statistics_codes *s)
{
    free(s->pivots);
    free(s->factor);
    free(s->means);
    *s = (struct statistics_codes){0};
}

/* 2^(k / 32), of square roots and products alone: the same on every machine. k >= 0. */
static double power(int k)
{
    double root = 2, result = 1;
    for (int bit = PIVOT_STEPS / 2; bit > 0; bit /= 2) {
        root = sqrt(root);
        if (k & bit)
            result *= root;
    }
    return ldexp(result, k / PIVOT_STEPS);
}

static double pivot(const struct statistics_codes *s, int i)
{
    /* An odd exponent's half is 16 steps. */
    int half = (s->exponent - (s->exponent & 1)) / 2;
    return ldexp(power(s->pivots[i] + (s->exponent & 1) * PIVOT_STEPS / 2), half);
}

/* The whole numbers of the factor, zeros on the diagonal and above: square (width, width). */
static void widen_factor(const struct statistics_codes *s, double *square)
{
    const int16_t *code = s->factor;
    size_t width = (size_t)s->width;
    memset(square, 0, width * width * sizeof *square);
    for (size_t i = 0; i < width; i++)
        for (size_t j = 0; j < i; j++)
            square[i * width + j] = *code++;
}

/* ---- decoding ---- */

/* sums (width, width), of which the lower triangle counts: the products of the factor's rows. */
static void decode_covariance(const struct statistics_codes *s, const double *sums,
                              const double *pivots, float *covariance)
{
    const double step = STATISTICS_FACTOR_STEP, ridge = ldexp(1, s->exponent);
    const int16_t *code = s->factor;
    size_t width = (size_t)s->width;
    for (size_t i = 0; i < width; i++) {
        for (size_t j = 0; j < i; j++)
            *covariance++ = (float)(pivots[i] * pivots[j] *
                                    (step * step * sums[i * width + j] + step * *code++));
        double square = ridge * power(2 * s->pivots[i]);
        *covariance++ = (float)(square * (step * step * sums[i * width + i] + 1) - ridge);
    }
}

int statistics_decode(const struct statistics_codes *s, float *prototypes, float *covariance)
{
    int n = s->width;
    size_t width = (size_t)n, count = (size_t)s->classes * width;
    double *factor = malloc(width * width * sizeof *factor);
    double *sums = malloc(width * width * sizeof *sums);
    double *means = malloc((count + 1) * sizeof *means);
    double *mapped = malloc((count + 1) * sizeof *mapped);
    double *pivots = malloc(width * sizeof *pivots);
    int err = factor && sums && means && mapped && pivots ? 0 : ERR_NOMEM;
    if (err)
        goto out;
    for (int i = 0; i < n; i++)
        pivots[i] = pivot(s, i);
    for (size_t i = 0; i < count; i++)
        means[i] = s->means[i];
    widen_factor(s, factor);
    cblas_dsyrk(CblasRowMajor, CblasLower, CblasNoTrans, n, n, 1, factor, n, 0, sums, n);
    decode_covariance(s, sums, pivots, covariance);
    cblas_dgemm(CblasRowMajor, CblasNoTrans, CblasTrans, s->classes, n, n, 1, means, n, factor, n,
                0, mapped, n);
    for (size_t i = 0; i < count; i++) /* + 0: no negative zero */
        prototypes[i] = (float)(STATISTICS_MEAN_STEP * pivots[i % width] *
                                (STATISTICS_FACTOR_STEP * mapped[i] + means[i])) +
                        0.0f;
out:
    free(factor);
    free(sums);
    free(means);
    free(mapped);
    free(pivots);
    return err;
}

/* ---- encoding ---- */

static double between(double x, double most)
{
    return fmax(-most, fmin(most, x));
}

/* square (width, width) = the lower triangle of C + 2^exponent I. */
static void add_ridge(int width, const float *covariance, int exponent, double *square)
{
    for (size_t i = 0; i < (size_t)width; i++) {
        for (size_t j = 0; j <= i; j++)
            square[i * (size_t)width + j] = *covariance++;
        square[i * (size_t)width + i] += ldexp(1, exponent);
    }
}

/* From the factor in `square`, whose rows become what the codes say. */
static void encode_factor(struct statistics_codes *s, double *square)
{
    int16_t *code = s->factor;
    size_t width = (size_t)s->width;
    for (size_t i = 0; i < width; i++) {
        double *row = square + i * width;
        double octaves = log2(row[i]) - s->exponent / 2.0;
        s->pivots[i] = (uint8_t)rint(fmax(0, between(PIVOT_STEPS * octaves, UINT8_MAX)));
        row[i] = pivot(s, (int)i);
        for (size_t j = 0; j < i; j++) {
            *code = (int16_t)rint(between(row[j] / (row[i] * STATISTICS_FACTOR_STEP), INT16_MAX));
            row[j] = *code++ * row[i] * STATISTICS_FACTOR_STEP;
        }
    }
}

/* Codes of one mean; of one that is not 0, one of them at least. Whether they can hold it. */
static bool encode_mean(int width, const float *mean, const double *solved, int16_t *codes)
{
    int largest = 0;
    bool any = false, zero = true;
    for (int i = 0; i < width; i++) {
        if (!(fabs(solved[i]) <= STATISTICS_MEAN_MAX * STATISTICS_MEAN_STEP))
            return false;
        codes[i] = (int16_t)rint(solved[i] / STATISTICS_MEAN_STEP);
        any = any || codes[i] != 0;
        zero = zero && mean[i] == 0;
        if (fabs(solved[i]) > fabs(solved[largest]))
            largest = i;
    }
    if (!any && !zero)
        codes[largest] = solved[largest] < 0 ? -1 : 1;
    return true;
}

/* Codes with the ridge 2^s->exponent. *made: there are any. */
static int encode(struct statistics_codes *s, const float *prototypes, const float *covariance,
                  bool *made)
{
    int n = s->width, info;
    size_t width = (size_t)n, count = (size_t)s->classes * width;
    double *square = malloc(width * width * sizeof *square);
    double *solved = malloc((count + 1) * sizeof *solved);
    int err = square && solved ? 0 : ERR_NOMEM;
    *made = false;
    if (err)
        goto out;
    add_ridge(n, covariance, s->exponent, square);
    dpotrf_("U", &n, square, &n, &info);
    if (info != 0)
        goto out;
    encode_factor(s, square);
    for (size_t i = 0; i < count; i++)
        solved[i] = prototypes[i];
    cblas_dtrsm(CblasRowMajor, CblasRight, CblasLower, CblasTrans, CblasNonUnit, s->classes, n, 1,
                square, n, solved, n);
    *made = true;
    for (size_t c = 0; c < (size_t)s->classes && *made; c++)
        *made = encode_mean(n, prototypes + c * width, solved + c * width, s->means + c * width);
out:
    free(square);
    free(solved);
    return err;
}

/* The exponent of the largest power of two that is at most a tenth of the mean variance; below all others where there is no variance. */
static int natural_exponent(int width, const float *covariance)
{
    double trace = 0;
    int exponent;
    for (size_t i = 0; i < (size_t)width; i++)
        trace += covariance[i * (i + 1) / 2 + i];
    if (!(trace > 0))
        return STATISTICS_EXPONENT_MIN - 2;
    frexp(0.1 * trace / width, &exponent);
    return exponent - 1;
}

static bool valid_exponent(int exponent)
{
    return exponent >= STATISTICS_EXPONENT_MIN && exponent <= STATISTICS_EXPONENT_MAX;
}

static bool all_in_range(size_t count, const float *values)
{
    for (size_t i = 0; i < count; i++)
        if (!(fabsf(values[i]) <= STATISTICS_ENTRY_MAX))
            return false;
    return true;
}

static bool in_range(const struct statistics_codes *s, const float *prototypes,
                     const float *covariance)
{
    size_t width = (size_t)s->width;
    return all_in_range((size_t)s->classes * width, prototypes) &&
           all_in_range(COVARIANCE_FLOATS(width), covariance);
}

int statistics_encode(struct statistics_codes *s, const float *prototypes, const float *covariance,
                      bool *made)
{
    *made = false;
    if (!in_range(s, prototypes, covariance))
        return 0;
    s->exponent = natural_exponent(s->width, covariance);
    return valid_exponent(s->exponent) ? encode(s, prototypes, covariance, made) : 0;
}

/* Whether the codes of these floats with the ridge 2^s->exponent decode to them. */
static int encodes_exactly(struct statistics_codes *s, const float *prototypes,
                           const float *covariance, bool *exact)
{
    size_t width = (size_t)s->width, count = (size_t)s->classes * width;
    size_t triangle = COVARIANCE_FLOATS(width);
    int err = encode(s, prototypes, covariance, exact);
    if (err || !*exact)
        return err;
    float *decoded = malloc((count + triangle) * sizeof *decoded);
    if (!decoded)
        return ERR_NOMEM;
    err = statistics_decode(s, decoded, decoded + count);
    *exact = !err && memcmp(decoded, prototypes, count * sizeof *decoded) == 0 &&
             memcmp(decoded + count, covariance, triangle * sizeof *decoded) == 0;
    free(decoded);
    return err;
}

/* The same of the first few features alone, which tells almost all that is not exact from what is, for nothing. */
static int begins_exactly(int exponent, int width, const float *covariance, bool *exact)
{
    enum { FEW = 8 };
    struct statistics_codes few;
    int err = statistics_codes_init(&few, 0, width < FEW ? width : FEW);
    if (err)
        return err;
    few.exponent = exponent;
    err = encodes_exactly(&few, covariance, covariance, exact); /* of no class: no prototypes */
    statistics_codes_release(&few);
    return err;
}

int statistics_find(struct statistics_codes *s, const float *prototypes, const float *covariance,
                    bool *found)
{
    int err = 0;
    *found = false;
    if (!in_range(s, prototypes, covariance))
        return 0;
    /* Decoding leaves the trace, and so the exponent, almost as it was. */
    int natural = natural_exponent(s->width, covariance);
    for (int exponent = natural - 1; exponent <= natural + 1 && !err && !*found; exponent++) {
        s->exponent = exponent;
        if (!valid_exponent(exponent))
            continue;
        err = begins_exactly(s->exponent, s->width, covariance, found);
        if (!err && *found)
            err = encodes_exactly(s, prototypes, covariance, found);
    }
    return err;
}
