/*
 * prototypes.c - class means, the covariance they share, their drift; see prototypes.h.
 */
#include "core/m2kd/prototypes.h"

#include <cblas.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "core/command.h"
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
 * sums need no allocation. Without rows `mean` is left alone. */
static void mean_block(int n, int feature_count, const float *features, const int *labels, int class,
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
}

void prototypes_mean(int n, int feature_count, const float *features, const int *labels, int first,
                     int end, float *prototypes)
{
    for (int c = first; c < end; c++) {
        float *prototype = prototypes + (size_t)c * (size_t)feature_count;
        for (int from = 0; from < feature_count; from += SUM_BLOCK) {
            int to = from + SUM_BLOCK < feature_count ? from + SUM_BLOCK : feature_count;
            mean_block(n, feature_count, features, labels, c, from, to, prototype);
        }
    }
}

static void widen(size_t count, const float *from, double scale, double *to)
{
    for (size_t i = 0; i < count; i++)
        to[i] = scale * from[i];
}

/* gram += O'O and cross += N'O, both (F,F), over the rows, widened to double a block at a time.
 * cross is the transpose of O'N: row major here is the column major that LAPACK expects. */
static int accumulate(int n, int feature_count, const float *old_features,
                      const float *new_features, const atomic_int *command, double *wide,
                      double *gram, double *cross)
{
    size_t width = (size_t)feature_count;
    double *wide_old = wide, *wide_new = wide + FIT_BLOCK * width;
    for (int from = 0; from < n; from += FIT_BLOCK) {
        int rows = n - from < FIT_BLOCK ? n - from : FIT_BLOCK, err = command_poll(command);
        size_t at = (size_t)from * width, count = (size_t)rows * width;
        if (err)
            return err;
        widen(count, old_features + at, 1, wide_old);
        widen(count, new_features + at, 1, wide_new);
        cblas_dgemm(CblasRowMajor, CblasTrans, CblasNoTrans, feature_count, feature_count, rows,
                    1.0, wide_old, feature_count, wide_old, feature_count, 1.0, gram,
                    feature_count);
        cblas_dgemm(CblasRowMajor, CblasTrans, CblasNoTrans, feature_count, feature_count, rows,
                    1.0, wide_new, feature_count, wide_old, feature_count, 1.0, cross,
                    feature_count);
    }
    return 0;
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
                       const float *new_features, double ridge, const atomic_int *command,
                       float *map)
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
    err = accumulate(n, feature_count, old_features, new_features, command, wide, gram, cross);
    if (err)
        goto out;
    for (size_t f = 0; f < width; f++) {
        gram[f * width + f] += ridge;
        cross[f * width + f] += ridge;
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
    memcpy(rows, carried, count * sizeof *rows);
    free(carried);
    return 0;
}

/* ---- the covariance ---- */

/* Both triangles of a square from the packed lower one. */
static void unpack(int feature_count, const float *packed, double *square)
{
    size_t width = (size_t)feature_count;
    for (size_t r = 0, at = 0; r < width; r++)
        for (size_t c = 0; c <= r; c++, at++)
            square[r * width + c] = square[c * width + r] = packed[at];
}

static void pack(int feature_count, const double *square, float *packed)
{
    size_t width = (size_t)feature_count;
    for (size_t r = 0, at = 0; r < width; r++)
        for (size_t c = 0; c <= r; c++, at++)
            packed[at] = (float)square[r * width + c];
}

/* square += X'X over `rows` rows of X. */
static void add_gram(int feature_count, int rows, const double *x, double *square)
{
    cblas_dgemm(CblasRowMajor, CblasTrans, CblasNoTrans, feature_count, feature_count, rows, 1.0, x,
                feature_count, x, feature_count, 1.0, square, feature_count);
}

/* Weight of a row of each class, 1 / (its rows * classes with rows), square-rooted. (end - first) */
static void row_weights(int n, const int *labels, int first, int end, double *weights)
{
    int classes = 0;
    for (int c = first; c < end; c++)
        weights[c - first] = 0;
    for (int i = 0; i < n; i++)
        if (labels[i] >= first && labels[i] < end)
            weights[labels[i] - first]++;
    for (int c = 0; c < end - first; c++)
        classes += weights[c] > 0;
    for (int c = 0; c < end - first; c++)
        weights[c] = weights[c] > 0 ? 1 / sqrt(weights[c] * classes) : 0;
}

int prototypes_covariance(int n, int feature_count, const float *features, const int *labels,
                          int first, int end, const float *prototypes, const atomic_int *command,
                          float *covariance)
{
    size_t width = (size_t)feature_count;
    double *square = calloc(width * width, sizeof *square);
    double *block = malloc(FIT_BLOCK * width * sizeof *block);
    double *weights = malloc(((size_t)(end - first) + 1) * sizeof *weights);
    int rows = 0, err = square && block && weights ? 0 : ERR_NOMEM;
    if (err)
        goto out;
    err = command_poll(command);
    if (err)
        goto out;
    row_weights(n, labels, first, end, weights);
    for (int i = 0; i < n; i++) {
        if (labels[i] < first || labels[i] >= end)
            continue;
        const float *x = features + (size_t)i * width;
        const float *mean = prototypes + (size_t)labels[i] * width;
        for (size_t f = 0; f < width; f++)
            block[(size_t)rows * width + f] =
                weights[labels[i] - first] * ((double)x[f] - (double)mean[f]);
        if (++rows < FIT_BLOCK)
            continue;
        err = command_poll(command);
        if (err)
            goto out;
        add_gram(feature_count, rows, block, square);
        rows = 0;
    }
    if (rows)
        add_gram(feature_count, rows, block, square);
    pack(feature_count, square, covariance);
out:
    free(square);
    free(block);
    free(weights);
    return err;
}

/* square = M'CM; product is scratch of the same size. */
static void conjugate(int feature_count, const double *map, const double *c, double *product,
                      double *square)
{
    cblas_dgemm(CblasRowMajor, CblasNoTrans, CblasNoTrans, feature_count, feature_count,
                feature_count, 1.0, c, feature_count, map, feature_count, 0.0, product,
                feature_count);
    cblas_dgemm(CblasRowMajor, CblasTrans, CblasNoTrans, feature_count, feature_count,
                feature_count, 1.0, map, feature_count, product, feature_count, 0.0, square,
                feature_count);
}

/* square += R over the rows, a block at a time: with r = (new - old M) / sqrt(n) and s the sum of
 * all r, that is the sum of all r r' less s s' / n. wide: 2 FIT_BLOCK F doubles; sum: F, zeroed. */
static int add_residual(int n, int feature_count, const float *old_features,
                        const float *new_features, const double *map, const atomic_int *command,
                        double *wide, double *sum, double *square)
{
    size_t width = (size_t)feature_count;
    double *old = wide, *residual = wide + FIT_BLOCK * width, scale = 1 / sqrt((double)n);
    for (int from = 0; from < n; from += FIT_BLOCK) {
        int rows = n - from < FIT_BLOCK ? n - from : FIT_BLOCK, err = command_poll(command);
        size_t at = (size_t)from * width, count = (size_t)rows * width;
        if (err)
            return err;
        widen(count, old_features + at, scale, old);
        widen(count, new_features + at, scale, residual);
        cblas_dgemm(CblasRowMajor, CblasNoTrans, CblasNoTrans, rows, feature_count, feature_count,
                    -1.0, old, feature_count, map, feature_count, 1.0, residual, feature_count);
        for (size_t i = 0; i < count; i += width)
            for (size_t f = 0; f < width; f++)
                sum[f] += residual[i + f];
        add_gram(feature_count, rows, residual, square);
    }
    cblas_dger(CblasRowMajor, feature_count, feature_count, -1.0 / n, sum, 1, sum, 1, square,
               feature_count);
    return 0;
}

int prototypes_carry_covariance(int n, int feature_count, const float *old_features,
                                const float *new_features, const float *map,
                                const atomic_int *command, float *covariance)
{
    size_t width = (size_t)feature_count, count = width * width;
    double *square = malloc(4 * count * sizeof *square);
    double *wide = malloc(2 * FIT_BLOCK * width * sizeof *wide);
    double *sum = calloc(width, sizeof *sum);
    int err = square && wide && sum ? 0 : ERR_NOMEM;
    if (err)
        goto out;
    double *m = square + count, *c = square + 2 * count, *product = square + 3 * count;
    widen(count, map, 1, m);
    unpack(feature_count, covariance, c);
    conjugate(feature_count, m, c, product, square);
    if (n > 0)
        err = add_residual(n, feature_count, old_features, new_features, m, command, wide, sum,
                           square);
    if (!err)
        pack(feature_count, square, covariance);
out:
    free(square);
    free(wide);
    free(sum);
    return err;
}

/* ---- classifiers ---- */

void prototypes_cosine(int classes, int feature_count, const float *prototypes, float *rows,
                       float *bias)
{
    memcpy(rows, prototypes, (size_t)classes * (size_t)feature_count * sizeof *rows);
    prototypes_normalise(classes, feature_count, rows);
    memset(bias, 0, (size_t)classes * sizeof *bias);
}

static void shrink_covariance(int feature_count, double shrink, double *square)
{
    size_t width = (size_t)feature_count;
    double trace = 0;
    for (size_t f = 0; f < width; f++)
        trace += square[f * width + f];
    if (trace == 0)
        shrink = 1;
    double ridge = trace == 0 ? 1 : shrink * trace / (double)width;
    for (size_t i = 0; i < width * width; i++)
        square[i] *= 1 - shrink;
    for (size_t f = 0; f < width; f++)
        square[f * width + f] += ridge;
}

int prototypes_discriminant(int classes, int feature_count, const float *prototypes,
                            const float *covariance, double shrink, float *rows, float *bias)
{
    size_t width = (size_t)feature_count, count = (size_t)classes * width;
    double *square = malloc(width * width * sizeof *square);
    double *solved = malloc(count * sizeof *solved);
    int info, err = square && solved ? 0 : ERR_NOMEM;
    if (err)
        goto out;
    unpack(feature_count, covariance, square);
    shrink_covariance(feature_count, shrink, square);
    for (size_t i = 0; i < count; i++)
        solved[i] = prototypes[i];
    dposv_("L", &feature_count, &classes, square, &feature_count, solved, &feature_count, &info);
    for (size_t i = 0; info == 0 && i < count; i++)
        if (!isfinite(solved[i]))
            info = 1;
    if (info != 0) {
        err = ERR_NUMERIC;
        goto out;
    }
    for (size_t c = 0; c < (size_t)classes; c++) {
        double dot = 0;
        for (size_t f = 0; f < width; f++) {
            dot += solved[c * width + f] * prototypes[c * width + f];
            rows[c * width + f] = (float)solved[c * width + f];
        }
        bias[c] = (float)(-dot / 2);
    }
out:
    free(square);
    free(solved);
    return err;
}
