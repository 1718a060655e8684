#include "core/nn/norm.h"

#include <math.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

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

/*
 * The passes over an image take LANES channels at a time through all its pixels, so that what
 * belongs to a channel stays in registers. `n` is LANES, which the compiler knows, but for a last
 * block of fewer channels.
 */
enum { LANES = 16 };
typedef float vec __attribute__((vector_size(LANES * sizeof(float))));
typedef int32_t mask __attribute__((vector_size(LANES * sizeof(int32_t))));

#define ALWAYS_INLINE static inline __attribute__((always_inline))
#define EACH_BLOCK(c, block)                                                                      \
    do {                                                                                          \
        int j = 0;                                                                                \
        for (; j + LANES <= (c); j += LANES) {                                                    \
            const int n = LANES;                                                                  \
            block;                                                                                \
        }                                                                                         \
        if (j < (c)) {                                                                            \
            const int n = (c) - j;                                                                \
            block;                                                                                \
        }                                                                                         \
    } while (0)

ALWAYS_INLINE void load(const float *from, const int n, vec *to)
{
    *to = (vec){0};
    memcpy(to, from, (size_t)n * sizeof *from);
}

ALWAYS_INLINE void store(const vec *from, const int n, float *to)
{
    memcpy(to, from, (size_t)n * sizeof *to);
}

/* x where open > 0, else 0. */
ALWAYS_INLINE void gate(const vec *open, vec *x)
{
    *x = (vec)((*open > 0) & (mask)*x);
}

ALWAYS_INLINE void sums_block(int pixels, int c, const float *y, float *s, float *q, const int n)
{
    vec sum = {0}, squares = {0}, v;
    for (int p = 0; p < pixels; p++) {
        load(y + (ptrdiff_t)p * c, n, &v);
        sum += v;
        squares += v * v;
    }
    store(&sum, n, s);
    store(&squares, n, q);
}

NN_CLONES
static void column_sums(int pixels, int c, const float *y, float *s, float *q)
{
    EACH_BLOCK(c, sums_block(pixels, c, y + j, s + j, q + j, n));
}

static void add_sums(int c, const float *s, const float *q, double *sum, double *sum_squares)
{
    for (int i = 0; i < c; i++) {
        sum[i] += s[i];
        sum_squares[i] += q[i];
    }
}

void norm_sums(int pixels, int c, const float *y, double *sum, double *sum_squares)
{
    float s[NORM_MAX_CHANNELS], q[NORM_MAX_CHANNELS];
    for (int p = 0; p < pixels; p += SUM_PIXELS) {
        int count = pixels - p < SUM_PIXELS ? pixels - p : SUM_PIXELS;
        column_sums(count, c, y + (size_t)p * c, s, q);
        add_sums(c, s, q, sum, sum_squares);
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

/* a = y*scale + shift, plus `identity` unless it is NULL, through a ReLU where `relu`. */
ALWAYS_INLINE void affine_block(int pixels, int c, const float *y, const float *scale,
                                const float *shift, const float *identity, const bool relu,
                                float *a, const int n)
{
    vec k, b, v, same;
    load(scale, n, &k);
    load(shift, n, &b);
    for (int p = 0; p < pixels; p++) {
        load(y + (ptrdiff_t)p * c, n, &v);
        v = v * k + b;
        if (identity) {
            load(identity + (ptrdiff_t)p * c, n, &same);
            v += same;
        }
        if (relu)
            gate(&v, &v);
        store(&v, n, a + (ptrdiff_t)p * c);
    }
}

NN_CLONES
void norm_apply(int pixels, int c, const float *y, const float *scale, const float *shift, float *a)
{
    EACH_BLOCK(c, affine_block(pixels, c, y + j, scale + j, shift + j, NULL, false, a + j, n));
}

NN_CLONES
void norm_relu(int pixels, int c, const float *y, const float *scale, const float *shift, float *a)
{
    EACH_BLOCK(c, affine_block(pixels, c, y + j, scale + j, shift + j, NULL, true, a + j, n));
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
    EACH_BLOCK(c, affine_block(pixels, c, y + j, scale + j, shift + j, identity + j, true,
                               a + j, n));
}

ALWAYS_INLINE void backward_block(int pixels, int c, const float *dz, const float *y,
                                  const float *a, const float *b, const float *k, float *dy,
                                  const int n)
{
    vec va, vb, vk, d, v;
    load(a, n, &va);
    load(b, n, &vb);
    load(k, n, &vk);
    for (int p = 0; p < pixels; p++) {
        load(dz + (ptrdiff_t)p * c, n, &d);
        load(y + (ptrdiff_t)p * c, n, &v);
        v = va * d + vb * v + vk;
        store(&v, n, dy + (ptrdiff_t)p * c);
    }
}

NN_CLONES
static void backward_row(int pixels, int c, const float *dz, const float *y, const float *a,
                         const float *b, const float *k, float *dy)
{
    EACH_BLOCK(c, backward_block(pixels, c, dz + j, y + j, a + j, b + j, k + j, dy + j, n));
}

void norm_backward_pad(int h, int w, int c, int pad, const float *dz, const float *y,
                       const float *a, const float *b, const float *k, float *dypad)
{
    size_t row = (size_t)w * c, stride = (size_t)(w + 2 * pad) * c;
    float *out = dypad + pad * stride + (size_t)pad * c;
    for (int i = 0; i < h; i++)
        backward_row(w, c, dz + i * row, y + i * row, a, b, k, out + i * stride);
}

/* Where the ReLU before dz was open: everywhere, where its output is > 0, where y * scale + shift is. */
enum gate_kind { GATE_NONE, GATE_OUTPUT, GATE_AFFINE };

struct gradient_pass {
    int pixels, c;
    const float *dx, *y, *mean;
    const float *output;        /* of GATE_OUTPUT */
    const float *scale, *shift; /* of GATE_AFFINE */
    float *dz;                  /* unless GATE_NONE; may be `output` */
};

/* dz of channels j .. j+n-1, and their sums of dz and dz*(y-mean). */
ALWAYS_INLINE void gradient_block(const struct gradient_pass *g, const enum gate_kind kind, int j,
                                  float *s, float *q, const int n)
{
    vec mean, scale = {0}, shift = {0}, sum = {0}, sum_y = {0}, d, v, open;
    load(g->mean + j, n, &mean);
    if (kind == GATE_AFFINE) {
        load(g->scale + j, n, &scale);
        load(g->shift + j, n, &shift);
    }
    for (int p = 0; p < g->pixels; p++) {
        ptrdiff_t at = (ptrdiff_t)p * g->c + j;
        load(g->dx + at, n, &d);
        load(g->y + at, n, &v);
        if (kind == GATE_OUTPUT)
            load(g->output + at, n, &open);
        else
            open = v * scale + shift;
        if (kind != GATE_NONE) {
            gate(&open, &d);
            store(&d, n, g->dz + at);
        }
        sum += d;
        sum_y += d * (v - mean);
    }
    store(&sum, n, s + j);
    store(&sum_y, n, q + j);
}

NN_CLONES
static void gradient_sums(const struct gradient_pass *g, float *s, float *q)
{
    EACH_BLOCK(g->c, gradient_block(g, GATE_NONE, j, s, q, n));
}

NN_CLONES
static void gradient_output(const struct gradient_pass *g, float *s, float *q)
{
    EACH_BLOCK(g->c, gradient_block(g, GATE_OUTPUT, j, s, q, n));
}

NN_CLONES
static void gradient_affine(const struct gradient_pass *g, float *s, float *q)
{
    EACH_BLOCK(g->c, gradient_block(g, GATE_AFFINE, j, s, q, n));
}

/* The whole image, in runs of SUM_PIXELS. */
static void gradient_image(struct gradient_pass g, int pixels,
                           void (*run)(const struct gradient_pass *, float *, float *),
                           double *sum_dz, double *sum_dz_y)
{
    float s[NORM_MAX_CHANNELS], q[NORM_MAX_CHANNELS];
    for (int p = 0; p < pixels; p += SUM_PIXELS) {
        ptrdiff_t floats = (ptrdiff_t)SUM_PIXELS * g.c;
        g.pixels = pixels - p < SUM_PIXELS ? pixels - p : SUM_PIXELS;
        run(&g, s, q);
        add_sums(g.c, s, q, sum_dz, sum_dz_y);
        g.dx += floats;
        g.y += floats;
        g.output = g.output ? g.output + floats : NULL;
        g.dz = g.dz ? g.dz + floats : NULL;
    }
}

void norm_backward_sums(int pixels, int c, const float *dz, const float *y, const float *mean,
                        double *sum_dz, double *sum_dz_y)
{
    struct gradient_pass g = {.c = c, .dx = dz, .y = y, .mean = mean};
    gradient_image(g, pixels, gradient_sums, sum_dz, sum_dz_y);
}

void norm_relu_backward(int pixels, int c, const float *dx, const float *open, const float *y,
                        const float *mean, float *dz, double *sum_dz, double *sum_dz_y)
{
    struct gradient_pass g = {
        .c = c, .dx = dx, .y = y, .mean = mean, .output = open, .dz = dz};
    gradient_image(g, pixels, gradient_output, sum_dz, sum_dz_y);
}

void norm_relu_backward_recompute(int pixels, int c, const float *dx, const float *y,
                                  const float *scale, const float *shift, const float *mean,
                                  float *dz, double *sum_dz, double *sum_dz_y)
{
    struct gradient_pass g = {
        .c = c, .dx = dx, .y = y, .mean = mean, .scale = scale, .shift = shift, .dz = dz};
    gradient_image(g, pixels, gradient_affine, sum_dz, sum_dz_y);
}
