#include "core/nn/norm.h"

#include <math.h>
#include <stddef.h>

#include "core/nn/clones.h"

/*
 * Sums over one image are taken in float over blocks of at most SUM_PIXELS pixels, then added up
 * in double: fast, and as exact as the data.
 */
enum { SUM_PIXELS = 256 };

void norm_statistics(int c, double count, const double *sum, const double *sum_squares,
                     float *mean, float *var, float *inv)
{
    for (int i = 0; i < c; i++) {
        double m = sum[i] / count;
        double v = sum_squares[i] / count - m * m;
        if (v < 0)
            v = 0; /* rounding */
        mean[i] = (float)m;
        var[i] = (float)v;
        inv[i] = (float)(1.0 / sqrt(v + NORM_EPSILON));
    }
}

void norm_affine(int c, const float *gamma, const float *beta, const float *mean, const float *inv,
                 float *scale, float *shift)
{
    for (int i = 0; i < c; i++) {
        scale[i] = gamma[i] * inv[i];
        shift[i] = beta[i] - mean[i] * scale[i];
    }
}

void norm_backward_affine(int c, double count, const double *sum_dz, const double *sum_dz_y,
                          const float *gamma, const float *mean, const float *inv, float *a,
                          float *b, float *k, float *dgamma, float *dbeta)
{
    for (int i = 0; i < c; i++) {
        double scale = (double)gamma[i] * inv[i];
        double slope = -scale * inv[i] * inv[i] * sum_dz_y[i] / count;
        a[i] = (float)scale;
        b[i] = (float)slope;
        k[i] = (float)(-scale * sum_dz[i] / count - slope * mean[i]);
        if (dgamma)
            dgamma[i] = (float)(sum_dz_y[i] * inv[i]);
        if (dbeta)
            dbeta[i] = (float)sum_dz[i];
    }
}

NN_CLONES
static void add_sums(int pixels, int c, const float *restrict y, float *restrict s,
                     float *restrict q)
{
    for (int p = 0; p < pixels; p++, y += c)
        for (int i = 0; i < c; i++) {
            s[i] += y[i];
            q[i] += y[i] * y[i];
        }
}

static void flush_sums(int c, float *s, float *q, double *sum, double *sum_squares)
{
    for (int i = 0; i < c; i++) {
        sum[i] += s[i];
        sum_squares[i] += q[i];
        s[i] = q[i] = 0;
    }
}

void norm_sums(int pixels, int c, const float *y, double *sum, double *sum_squares)
{
    float s[NORM_MAX_CHANNELS] = {0}, q[NORM_MAX_CHANNELS] = {0};
    for (int p = 0; p < pixels; p += SUM_PIXELS) {
        int n = pixels - p < SUM_PIXELS ? pixels - p : SUM_PIXELS;
        add_sums(n, c, y + (size_t)p * c, s, q);
        flush_sums(c, s, q, sum, sum_squares);
    }
}

NN_CLONES
void norm_copy_pad(int h, int w, int c, int pad, const float *x, float *xpad)
{
    size_t row = (size_t)w * c, stride = (size_t)(w + 2 * pad) * c;
    float *out = xpad + pad * stride + (size_t)pad * c;
    for (int i = 0; i < h; i++)
        for (size_t j = 0; j < row; j++)
            out[i * stride + j] = x[i * row + j];
}

NN_CLONES
void norm_apply(int pixels, int c, const float *y, const float *scale, const float *shift, float *a)
{
    for (int p = 0; p < pixels; p++, y += c, a += c) {
#pragma GCC ivdep
        for (int i = 0; i < c; i++)
            a[i] = y[i] * scale[i] + shift[i];
    }
}

NN_CLONES
void norm_relu(int pixels, int c, const float *restrict y, const float *restrict scale,
               const float *restrict shift, float *restrict a)
{
    for (int p = 0; p < pixels; p++, y += c, a += c)
        for (int i = 0; i < c; i++) {
            float s = y[i] * scale[i] + shift[i];
            a[i] = s > 0 ? s : 0;
        }
}

void norm_relu_pad(int h, int w, int c, int pad, const float *y, const float *scale,
                   const float *shift, float *xpad)
{
    size_t row = (size_t)w * c, stride = (size_t)(w + 2 * pad) * c;
    float *out = xpad + pad * stride + (size_t)pad * c;
    for (int i = 0; i < h; i++)
        norm_relu(w, c, y + i * row, scale, shift, out + i * stride);
}

NN_CLONES
void norm_add_relu(int pixels, int c, const float *y, const float *scale, const float *shift,
                   const float *identity, float *a)
{
    for (int p = 0; p < pixels; p++, y += c, a += c, identity += c) {
#pragma GCC ivdep
        for (int i = 0; i < c; i++) {
            float s = y[i] * scale[i] + shift[i] + identity[i];
            a[i] = s > 0 ? s : 0;
        }
    }
}

NN_CLONES
static void backward_row(int pixels, int c, const float *restrict dz, const float *restrict y,
                         const float *restrict a, const float *restrict b,
                         const float *restrict k, float *restrict dy)
{
    for (int p = 0; p < pixels; p++, dz += c, y += c, dy += c)
        for (int i = 0; i < c; i++)
            dy[i] = a[i] * dz[i] + b[i] * y[i] + k[i];
}

void norm_backward_pad(int h, int w, int c, int pad, const float *dz, const float *y,
                       const float *a, const float *b, const float *k, float *dypad)
{
    size_t row = (size_t)w * c, stride = (size_t)(w + 2 * pad) * c;
    float *out = dypad + pad * stride + (size_t)pad * c;
    for (int i = 0; i < h; i++)
        backward_row(w, c, dz + i * row, y + i * row, a, b, k, out + i * stride);
}

NN_CLONES
static void add_backward_sums(int pixels, int c, const float *restrict dz, const float *restrict y,
                              const float *restrict mean, float *restrict s, float *restrict q)
{
    for (int p = 0; p < pixels; p++, dz += c, y += c)
        for (int i = 0; i < c; i++) {
            s[i] += dz[i];
            q[i] += dz[i] * (y[i] - mean[i]);
        }
}

void norm_backward_sums(int pixels, int c, const float *dz, const float *y, const float *mean,
                        double *sum_dz, double *sum_dz_y)
{
    float s[NORM_MAX_CHANNELS] = {0}, q[NORM_MAX_CHANNELS] = {0};
    for (int p = 0; p < pixels; p += SUM_PIXELS) {
        int n = pixels - p < SUM_PIXELS ? pixels - p : SUM_PIXELS;
        size_t at = (size_t)p * c;
        add_backward_sums(n, c, dz + at, y + at, mean, s, q);
        flush_sums(c, s, q, sum_dz, sum_dz_y);
    }
}

NN_CLONES
static void relu_backward(int pixels, int c, const float *restrict dx, const float *open,
                          const float *restrict y, const float *restrict mean, float *dz,
                          float *restrict s, float *restrict q)
{
    for (int p = 0; p < pixels; p++, dx += c, open += c, y += c, dz += c) {
#pragma GCC ivdep
        for (int i = 0; i < c; i++) {
            float d = open[i] > 0 ? dx[i] : 0;
            dz[i] = d;
            s[i] += d;
            q[i] += d * (y[i] - mean[i]);
        }
    }
}

NN_CLONES
static void relu_backward_recompute(int pixels, int c, const float *restrict dx,
                                    const float *restrict y, const float *restrict scale,
                                    const float *restrict shift, const float *restrict mean,
                                    float *restrict dz, float *restrict s, float *restrict q)
{
    for (int p = 0; p < pixels; p++, dx += c, y += c, dz += c)
        for (int i = 0; i < c; i++) {
            float d = y[i] * scale[i] + shift[i] > 0 ? dx[i] : 0;
            dz[i] = d;
            s[i] += d;
            q[i] += d * (y[i] - mean[i]);
        }
}

void norm_relu_backward(int pixels, int c, const float *dx, const float *open, const float *y,
                        const float *mean, float *dz, double *sum_dz, double *sum_dz_y)
{
    float s[NORM_MAX_CHANNELS] = {0}, q[NORM_MAX_CHANNELS] = {0};
    for (int p = 0; p < pixels; p += SUM_PIXELS) {
        int n = pixels - p < SUM_PIXELS ? pixels - p : SUM_PIXELS;
        size_t at = (size_t)p * c;
        relu_backward(n, c, dx + at, open + at, y + at, mean, dz + at, s, q);
        flush_sums(c, s, q, sum_dz, sum_dz_y);
    }
}

void norm_relu_backward_recompute(int pixels, int c, const float *dx, const float *y,
                                  const float *scale, const float *shift, const float *mean,
                                  float *dz, double *sum_dz, double *sum_dz_y)
{
    float s[NORM_MAX_CHANNELS] = {0}, q[NORM_MAX_CHANNELS] = {0};
    for (int p = 0; p < pixels; p += SUM_PIXELS) {
        int n = pixels - p < SUM_PIXELS ? pixels - p : SUM_PIXELS;
        size_t at = (size_t)p * c;
        relu_backward_recompute(n, c, dx + at, y + at, scale, shift, mean, dz + at, s, q);
        flush_sums(c, s, q, sum_dz, sum_dz_y);
    }
}
