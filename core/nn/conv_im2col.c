/*
 * conv_im2col.c - convolution of any shape as a matrix product: the patches of the image become
 * the rows of a matrix, and CBLAS does the rest. For channel counts no vector divides.
 */
#include <cblas.h>
#include <string.h>

#include "core/nn/conv_kernels.h"

/* Row length of the im2col matrix. */
static int patch_floats(const struct conv *c)
{
    return c->k * c->k * c->cin;
}

static bool fits(const struct conv *c, enum conv_pass pass)
{
    (void)c;
    (void)pass;
    return true;
}

static size_t packed_floats(const struct conv *c, enum conv_pass pass)
{
    (void)pass;
    return conv_weight_floats(c);
}

/* The im2col matrix and an unpadded copy of dy. */
static size_t scratch_floats(const struct conv *c, enum conv_pass pass)
{
    int row = patch_floats(c) + (pass == CONV_FORWARD ? 0 : c->cout);

    return (size_t)(c->oh * c->ow) * (size_t)row;
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

/* Weights stay as they are. */
static void pack(const struct conv *c, enum conv_pass pass, const float *w, float *packed)
{
    (void)pass;
    memcpy(packed, w, conv_weight_floats(c) * sizeof *w);
}

static void forward(const struct conv *c, const float *xpad, const float *w, float *y,
                    float *scratch)
{
    int pixels = c->oh * c->ow, patch = patch_floats(c);

    im2col(c, xpad, scratch);
    cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasNoTrans, pixels, c->cout, patch, 1.0f, scratch,
                patch, w, c->cout, 0.0f, y, c->cout);
}

static void backward_data(const struct conv *c, const float *dypad, const float *w,
                          float *dx, float *scratch)
{
    int pixels = c->oh * c->ow, patch = patch_floats(c);
    float *dy = scratch + (size_t)pixels * (size_t)patch;

    dy_unpad(c, dypad, dy);
    cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasTrans, pixels, patch, c->cout, 1.0f, dy, c->cout,
                w, c->cout, 0.0f, scratch, patch);
    col2im(c, scratch, dx);
}

static void backward_weights(const struct conv *c, const float *xpad, const float *dypad,
                             float *sums, float *scratch)
{
    int pixels = c->oh * c->ow, patch = patch_floats(c);
    float *dy = scratch + (size_t)pixels * (size_t)patch;

    im2col(c, xpad, scratch);
    dy_unpad(c, dypad, dy);
    cblas_sgemm(CblasRowMajor, CblasTrans, CblasNoTrans, patch, c->cout, pixels, 1.0f, scratch,
                patch, dy, c->cout, 1.0f, sums, c->cout);
}

const struct conv_method conv_im2col = {
    .fits = fits,
    .packed_floats = packed_floats,
    .scratch_floats = scratch_floats,
    .pack = pack,
    .forward = forward,
    .backward_data = backward_data,
    .sums_floats = conv_weight_floats,
    .backward_weights = backward_weights,
    .finish_weights = conv_plain_finish_weights,
};
