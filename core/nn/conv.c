/*
 * conv.c - see conv.h: shapes and sizes, and the im2col + CBLAS path that serves every shape.
 */
#include "core/nn/conv.h"

#include <cblas.h>
#include <string.h>

#include "core/err.h"

/* Floats readable past the end of a padded image: a kernel's last block of a row may overrun. */
enum { SLACK_FLOATS = 16 * 64 };

static const char *const isa_names[CONV_ISA_COUNT] = {
    [CONV_ISA_BASELINE] = "baseline",
    [CONV_ISA_AVX2] = "avx2",
    [CONV_ISA_AVX512] = "avx512",
};

enum conv_isa conv_isa_best(void)
{
#if defined(__x86_64__)
    if (__builtin_cpu_supports("avx512f"))
        return CONV_ISA_AVX512;
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"))
        return CONV_ISA_AVX2;
#endif
    return CONV_ISA_BASELINE;
}

const char *conv_isa_name(enum conv_isa isa)
{
    return isa_names[isa];
}

int conv_init(struct conv *c, int h, int w, int cin, int cout, int k, int stride,
              enum conv_isa isa)
{
    if (h < 1 || w < 1 || cin < 1 || cout < 1 || k < 1 || k > 7 || k % 2 == 0 || stride < 1 ||
        stride > 2 || isa > conv_isa_best())
        return ERR_INVALID;
    *c = (struct conv){
        .h = h, .w = w, .cin = cin, .cout = cout, .k = k, .stride = stride,
        .oh = (h + stride - 1) / stride,
        .ow = (w + stride - 1) / stride,
    };
    return 0;
}

static size_t padded_floats(const struct conv *c, int height, int width, int channels)
{
    int border = c->k / 2 * 2;

    return (size_t)(height + border) * (size_t)(width + border) * (size_t)channels + SLACK_FLOATS;
}

/* Row length of the im2col matrix. */
static int patch_floats(const struct conv *c)
{
    return c->k * c->k * c->cin;
}

size_t conv_weight_floats(const struct conv *c)
{
    return (size_t)patch_floats(c) * (size_t)c->cout;
}

size_t conv_packed_floats(const struct conv *c)
{
    return conv_weight_floats(c);
}

size_t conv_xpad_floats(const struct conv *c)
{
    return padded_floats(c, c->h, c->w, c->cin);
}

size_t conv_dypad_floats(const struct conv *c)
{
    return padded_floats(c, c->oh, c->ow, c->cout);
}

/* The im2col matrix and an unpadded copy of dy. */
size_t conv_scratch_floats(const struct conv *c)
{
    return (size_t)(c->oh * c->ow) * (size_t)(patch_floats(c) + c->cout);
}

void conv_pack(const struct conv *c, const float *w, float *packed)
{
    memcpy(packed, w, conv_weight_floats(c) * sizeof *w);
}

/* col (OH*OW, K*K*Cin) from xpad. */
static void im2col(const struct conv *c, const float *xpad, float *col)
{
    size_t run = (size_t)(c->k * c->cin); /* one row of a patch is contiguous in the image */
    size_t row = (size_t)(c->w + c->k / 2 * 2) * (size_t)c->cin;

    for (int i = 0; i < c->oh; i++)
        for (int j = 0; j < c->ow; j++) {
            const float *patch = xpad + (size_t)(i * c->stride) * row + j * c->stride * c->cin;
            for (int kh = 0; kh < c->k; kh++, patch += row, col += run)
                memcpy(col, patch, run * sizeof *col);
        }
}

/* dy (OH*OW, Cout) from dypad. */
static void dy_unpad(const struct conv *c, const float *dypad, float *dy)
{
    int p = c->k / 2;
    size_t run = (size_t)(c->ow * c->cout);
    size_t row = (size_t)((c->ow + 2 * p) * c->cout);

    for (int i = 0; i < c->oh; i++, dy += run)
        memcpy(dy, dypad + (size_t)(i + p) * row + p * c->cout, run * sizeof *dy);
}

/* Adds one patch row of dcol, for image row `y` starting at column `x`, clipped to the image. */
static void dx_add_run(const struct conv *c, const float *run, int y, int x, float *dx)
{
    int first = x < 0 ? -x : 0;
    int last = x + c->k > c->w ? c->w - x : c->k;
    float *to = dx + ((ptrdiff_t)y * c->w + x) * c->cin;

    for (int n = first * c->cin; n < last * c->cin; n++)
        to[n] += run[n];
}

static void col2im(const struct conv *c, const float *col, float *dx)
{
    int p = c->k / 2;

    memset(dx, 0, (size_t)(c->h * c->w * c->cin) * sizeof *dx);
    for (int i = 0; i < c->oh; i++)
        for (int j = 0; j < c->ow; j++)
            for (int kh = 0; kh < c->k; kh++, col += c->k * c->cin) {
                int y = i * c->stride + kh - p;
                if (y >= 0 && y < c->h)
                    dx_add_run(c, col, y, j * c->stride - p, dx);
            }
}

void conv_forward(const struct conv *c, const float *xpad, const float *packed, float *y,
                  float *scratch)
{
    int pixels = c->oh * c->ow, patch = patch_floats(c);

    im2col(c, xpad, scratch);
    cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasNoTrans, pixels, c->cout, patch, 1.0f, scratch,
                patch, packed, c->cout, 0.0f, y, c->cout);
}

void conv_backward_data(const struct conv *c, const float *dypad, const float *packed, float *dx,
                        float *scratch)
{
    int pixels = c->oh * c->ow, patch = patch_floats(c);
    float *dy = scratch + (size_t)pixels * (size_t)patch;

    dy_unpad(c, dypad, dy);
    cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasTrans, pixels, patch, c->cout, 1.0f, dy, c->cout,
                packed, c->cout, 0.0f, scratch, patch);
    col2im(c, scratch, dx);
}

void conv_backward_weights(const struct conv *c, const float *xpad, const float *dypad, float *dw,
                           float *scratch)
{
    int pixels = c->oh * c->ow, patch = patch_floats(c);
    float *dy = scratch + (size_t)pixels * (size_t)patch;

    im2col(c, xpad, scratch);
    dy_unpad(c, dypad, dy);
    cblas_sgemm(CblasRowMajor, CblasTrans, CblasNoTrans, patch, c->cout, pixels, 1.0f, scratch,
                patch, dy, c->cout, 1.0f, dw, c->cout);
}
