/*
 * prototypes.c - class means and their drift; see prototypes.h.
 */
#include "core/m2kd/prototypes.h"

#include <cblas.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "core/err.h"

/* LAPACK, Fortran calling convention; comes with OpenBLAS. */
void dposv_(const char *uplo, const int *n, const int *nrhs, double *a, const int *lda, double *b,
            const int *ldb, int *info);

enum { SUM_BLOCK = 64, FIT_BLOCK = 256 };

void prototypes_normalise(int n, int feature_count, float *rows)
{
    for (int i = 0; i < n; i++) {
        float *row = rows + (size_t)i * (size_t)feature_count;
        double squares = 0;
        for (int f = 0; f < feature_count; f++)
            squares += (double)row[f] * row[f];
        if (squares == 0)
            continue;
        double scale = 1.0 / sqrt(squares);
        for (int f = 0; f < feature_count; f++)
            row[f] = (float)(row[f] * scale);
    }
}

/* Mean of features [from, to) over the rows of one class, at most SUM_BLOCK of them, so that the
 * sums need no allocation. Returns how many rows there are; with none, `mean` is left alone. */
static int mean_block(int n, int feature_count, const float *features, const int *labels, int class,
                      int from, int to, float *mean)
{
    double sums[SUM_BLOCK] = {0};
    int count = 0;
    for (int i = 0; i < n; i++) {
        if (labels[i] != class)
            continue;
        const float *row = features + (size_t)i * (size_t)feature_count;
        for (int f = from; f < to; f++)
            sums[f - from] += row[f];
        count++;
    }
    for (int f = from; f < to && count > 0; f++)
        mean[f] = (float)(sums[f - from] / count);
    return count;
}

void prototypes_mean(int n, int feature_count, const float *features, const int *labels, int first,
                     int end, float *prototypes)
{
    for (int c = first; c < end; c++) {
        float *prototype = prototypes + (size_t)c * (size_t)feature_count;
        int rows = 0;
        for (int from = 0; from < feature_count; from += SUM_BLOCK) {
            int to = from + SUM_BLOCK < feature_count ? from + SUM_BLOCK : feature_count;
            rows = mean_block(n, feature_count, features, labels, c, from, to, prototype);
        }
        if (rows > 0)
            prototypes_normalise(1, feature_count, prototype);
    }
}

/* gram += O'O and cross += N'O, both (F,F), over the rows, widened to double a block at a time.
 * cross is the transpose of O'N: row major here is the column major that LAPACK expects. */
static void accumulate(int n, int feature_count, const float *old_features,
                       const float *new_features, double *wide, double *gram, double *cross)
{
    size_t width = (size_t)feature_count;
    double *wide_old = wide, *wide_new = wide + FIT_BLOCK * width;
    for (int from = 0; from < n; from += FIT_BLOCK) {
        int rows = n - from < FIT_BLOCK ? n - from : FIT_BLOCK;
        size_t at = (size_t)from * width, count = (size_t)rows * width;
        for (size_t i = 0; i < count; i++) {
            wide_old[i] = old_features[at + i];
            wide_new[i] = new_features[at + i];
        }
        cblas_dgemm(CblasRowMajor, CblasTrans, CblasNoTrans, feature_count, feature_count, rows,
                    1.0, wide_old, feature_count, wide_old, feature_count, 1.0, gram,
                    feature_count);
        cblas_dgemm(CblasRowMajor, CblasTrans, CblasNoTrans, feature_count, feature_count, rows,
                    1.0, wide_new, feature_count, wide_old, feature_count, 1.0, cross,
                    feature_count);
    }
}

static void identity(int feature_count, float *map)
{
    size_t width = (size_t)feature_count;
    memset(map, 0, width * width * sizeof *map);
    for (size_t f = 0; f < width; f++)
        map[f * width + f] = 1.0f;
}

/* Solves gram * M = cross' and writes M, row major, if all of it is finite. */
static int solve(int feature_count, double *gram, double *cross, float *map)
{
    size_t width = (size_t)feature_count;
    int info;
    dposv_("L", &feature_count, &feature_count, gram, &feature_count, cross, &feature_count, &info);
    if (info != 0)
        return ERR_NUMERIC;
    for (size_t i = 0; i < width * width; i++)
        if (!isfinite(cross[i]))
            return ERR_NUMERIC;
    for (size_t r = 0; r < width; r++)
        for (size_t c = 0; c < width; c++)
            map[r * width + c] = (float)cross[c * width + r];
    return 0;
}

int prototypes_fit_map(int n, int feature_count, const float *old_features,
                       const float *new_features, double ridge, float *map)
{
    if (n == 0) {
        identity(feature_count, map);
        return 0;
    }
    size_t width = (size_t)feature_count;
    double *gram = calloc(width * width, sizeof *gram);
    double *cross = calloc(width * width, sizeof *cross);
    double *wide = malloc(2 * FIT_BLOCK * width * sizeof *wide);
    int err = ERR_NOMEM;
    if (!gram || !cross || !wide)
        goto out;
    accumulate(n, feature_count, old_features, new_features, wide, gram, cross);
    for (size_t f = 0; f < width; f++) {
        gram[f * width + f] += ridge * n;
        cross[f * width + f] += ridge * n;
    }
    err = solve(feature_count, gram, cross, map);
out:
    free(gram);
    free(cross);
    free(wide);
    return err;
}

int prototypes_carry(int n, int feature_count, const float *map, float *rows)
{
    size_t count = (size_t)n * (size_t)feature_count;
    if (count == 0)
        return 0;
    float *carried = malloc(count * sizeof *carried);
    if (!carried)
        return ERR_NOMEM;
    cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasNoTrans, n, feature_count, feature_count, 1.0f,
                rows, feature_count, map, feature_count, 0.0f, carried, feature_count);
    prototypes_normalise(n, feature_count, carried);
    memcpy(rows, carried, count * sizeof *rows);
    free(carried);
    return 0;
}
