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

void prototypes_raise(size_t count, float power, float *features)
{
    if (power == 1)
        return;
    for (size_t i = 0; i < count; i++)
        features[i] = powf(features[i], power);
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

/* gram (from, from) += weight O'O and cross (to, from) += weight N'O over the rows, widened to double a block at a time.
 * cross is the transpose of O'N: row major here is the column major that LAPACK expects. */
static int accumulate(int n, int from, int to, const float *old_features,
                      const float *new_features, double weight, const atomic_int *command,
                      double *wide, double *gram, double *cross)
{
    double *wide_old = wide, *wide_new = wide + FIT_BLOCK * (size_t)from;
    for (int at = 0; at < n; at += FIT_BLOCK) {
        int rows = n - at < FIT_BLOCK ? n - at : FIT_BLOCK, err = command_poll(command);
        if (err)
            return err;
        widen((size_t)rows * (size_t)from, old_features + (size_t)at * (size_t)from, 1, wide_old);
        widen((size_t)rows * (size_t)to, new_features + (size_t)at * (size_t)to, 1, wide_new);
        cblas_dgemm(CblasRowMajor, CblasTrans, CblasNoTrans, from, from, rows, weight, wide_old,
                    from, wide_old, from, 1.0, gram, from);
        cblas_dgemm(CblasRowMajor, CblasTrans, CblasNoTrans, to, from, rows, weight, wide_new, to,
                    wide_old, from, 1.0, cross, from);
    }
    return 0;
}

/* What the map is without any data: it takes the last `to` features as they are. */
static void stay_put(int from, int to, float *map)
{
    size_t width = (size_t)to, above = (size_t)(from - to) * width;
    memset(map, 0, (size_t)from * width * sizeof *map);
    for (size_t f = 0; f < width; f++)
        map[above + f * width + f] = 1.0f;
}

/* Solves gram * M = cross' and writes M, row major, if all of it is finite. */
static int solve(int from, int to, double *gram, double *cross, float *map)
{
    size_t count = (size_t)from * (size_t)to;
    int info;
    dposv_("L", &from, &to, gram, &from, cross, &from, &info);
    if (info != 0)
        return ERR_NUMERIC;
    for (size_t i = 0; i < count; i++)
        if (!isfinite(cross[i]))
            return ERR_NUMERIC;
    for (size_t r = 0; r < (size_t)from; r++)
        for (size_t c = 0; c < (size_t)to; c++)
            map[r * (size_t)to + c] = (float)cross[c * (size_t)from + r];
    return 0;
}

int prototypes_fit_map(int n, int from, int to, const float *old_features,
                       const float *new_features, int last, double weight, double ridge,
                       const atomic_int *command, float *map)
{
    if (n == 0) {
        stay_put(from, to, map);
        return 0;
    }
    size_t width = (size_t)from, narrow = (size_t)to;
    double *gram = calloc(width * width, sizeof *gram);
    double *cross = calloc(narrow * width, sizeof *cross);
    double *wide = malloc(FIT_BLOCK * (width + narrow) * sizeof *wide);
    int err = ERR_NOMEM;
    if (!gram || !cross || !wide)
        goto out;
    err = accumulate(n - last, from, to, old_features, new_features, 1, command, wide, gram, cross);
    if (!err)
        err = accumulate(last, from, to, old_features + (size_t)(n - last) * width,
                         new_features + (size_t)(n - last) * narrow, weight, command, wide, gram,
                         cross);
    if (err)
        goto out;
    for (size_t f = 0; f < width; f++)
        gram[f * width + f] += ridge;
    for (size_t f = 0; f < narrow; f++)
        cross[f * width + (width - narrow) + f] += ridge;
    err = solve(from, to, gram, cross, map);
out:
    free(gram);
    free(cross);
    free(wide);
    return err;
}

void prototypes_carry(int n, int from, int to, int keep, const float *map, const float *rows,
                      float *out)
{
    size_t width = (size_t)keep + (size_t)to;
    for (size_t i = 0; i < (size_t)n; i++)
        memcpy(out + i * width, rows + i * (size_t)from, (size_t)keep * sizeof *out);
    if (n > 0)
        cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasNoTrans, n, to, from, 1.0f, rows, from, map,
                    to, 0.0f, out + keep, (int)width);
}

/* residual (rows, to) = new - old M. */
static void residuals(int rows, int from, int to, const float *old_features,
                      const float *new_features, const float *map, float *residual)
{
    memcpy(residual, new_features, (size_t)rows * (size_t)to * sizeof *residual);
    cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasNoTrans, rows, to, from, -1.0f, old_features, from,
                map, to, 1.0f, residual, to);
}

int prototypes_correct(int n, int from, int to, int keep, const float *old_features,
                       const float *new_features, const int *labels, const float *map, double prior,
                       const atomic_int *command, int classes, float *prototypes)
{
    size_t narrow = (size_t)to, width = (size_t)keep + narrow;
    double *sums = calloc((size_t)classes * narrow + 1, sizeof *sums);
    int *counts = calloc((size_t)classes + 1, sizeof *counts);
    float *residual = malloc(FIT_BLOCK * narrow * sizeof *residual);
    int err = sums && counts && residual ? 0 : ERR_NOMEM;
    for (int at = 0; at < n && !err; at += FIT_BLOCK) {
        int rows = n - at < FIT_BLOCK ? n - at : FIT_BLOCK;
        err = command_poll(command);
        if (err)
            break;
        residuals(rows, from, to, old_features + (size_t)at * (size_t)from,
                  new_features + (size_t)at * narrow, map, residual);
        for (int i = 0; i < rows; i++) {
            int c = labels[at + i];
            if (c < 0 || c >= classes)
                continue;
            counts[c]++;
            for (size_t f = 0; f < narrow; f++)
                sums[(size_t)c * narrow + f] += residual[(size_t)i * narrow + f];
        }
    }
    for (size_t c = 0; c < (size_t)classes && !err; c++)
        for (size_t f = 0; f < narrow && counts[c] > 0; f++)
            prototypes[c * width + (size_t)keep + f] +=
                (float)(sums[c * narrow + f] / (counts[c] + prior));
    free(sums);
    free(counts);
    free(residual);
    return err;
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

/* square (to, to) = M'CM; product (from, to) = CM. */
static void conjugate(int from, int to, const double *map, const double *c, double *product,
                      double *square)
{
    cblas_dgemm(CblasRowMajor, CblasNoTrans, CblasNoTrans, from, to, from, 1.0, c, from, map, to,
                0.0, product, to);
    cblas_dgemm(CblasRowMajor, CblasTrans, CblasNoTrans, to, to, from, 1.0, map, to, product, to,
                0.0, square, to);
}

/* square (to, to) += share R over the rows, a block at a time: with r = (new - old M) sqrt(share / n) and s the sum of
 * all r, that is the sum of all r r' less s s' / n. wide: FIT_BLOCK (from + to) doubles; sum (to), zeroed. */
static int add_residual(int n, int from, int to, const float *old_features,
                        const float *new_features, const double *map, double share,
                        const atomic_int *command, double *wide, double *sum, double *square)
{
    double *old = wide, *residual = wide + FIT_BLOCK * (size_t)from, scale = sqrt(share / n);
    for (int at = 0; at < n; at += FIT_BLOCK) {
        int rows = n - at < FIT_BLOCK ? n - at : FIT_BLOCK, err = command_poll(command);
        size_t width = (size_t)to, count = (size_t)rows * width;
        if (err)
            return err;
        widen((size_t)rows * (size_t)from, old_features + (size_t)at * (size_t)from, scale, old);
        widen(count, new_features + (size_t)at * width, scale, residual);
        cblas_dgemm(CblasRowMajor, CblasNoTrans, CblasNoTrans, rows, to, from, -1.0, old, from, map,
                    to, 1.0, residual, to);
        for (size_t i = 0; i < count; i += width)
            for (size_t f = 0; f < width; f++)
                sum[f] += residual[i + f];
        add_gram(to, rows, residual, square);
    }
    cblas_dger(CblasRowMajor, to, to, -1.0 / n, sum, 1, sum, 1, square, to);
    return 0;
}

/* The lower triangle of [C over the kept | . ; (CM)' over the kept | square]. */
static void pack_joined(int to, int keep, const float *covariance, const double *product,
                        const double *square, float *out)
{
    size_t kept = (size_t)keep, width = (size_t)to, at = COVARIANCE_FLOATS(kept);
    memcpy(out, covariance, at * sizeof *out);
    for (size_t r = 0; r < width; r++) {
        for (size_t c = 0; c < kept; c++)
            out[at++] = (float)product[c * width + r];
        for (size_t c = 0; c <= r; c++)
            out[at++] = (float)square[r * width + c];
    }
}

int prototypes_carry_covariance(int n, int from, int to, int keep, const float *old_features,
                                const float *new_features, const float *map, double share,
                                const atomic_int *command, const float *covariance, float *out)
{
    size_t width = (size_t)from, narrow = (size_t)to;
    double *c = malloc(width * width * sizeof *c);
    double *m = malloc(width * narrow * sizeof *m);
    double *product = malloc(width * narrow * sizeof *product);
    double *square = malloc(narrow * narrow * sizeof *square);
    double *wide = malloc(FIT_BLOCK * (width + narrow) * sizeof *wide);
    double *sum = calloc(narrow, sizeof *sum);
    int err = c && m && product && square && wide && sum ? 0 : ERR_NOMEM;
    if (err)
        goto out;
    widen(width * narrow, map, 1, m);
    unpack(from, covariance, c);
    conjugate(from, to, m, c, product, square);
    if (n > 0)
        err = add_residual(n, from, to, old_features, new_features, m, share, command, wide, sum,
                           square);
    if (!err)
        pack_joined(to, keep, covariance, product, square, out);
out:
    free(c);
    free(m);
    free(product);
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
