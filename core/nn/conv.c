/*
 * conv.c - see conv.h: shapes, sizes, the choice of a kernel, and each pass as sums over windows
 * (conv_kernels.h).
 *
 * Forward: a window is K runs of K*Cin floats of xpad.
 *
 * Data gradient: dx[y] sums dy[i] * w[kh] over all y + p = i * stride + kh. For stride 1 that is
 * a convolution of dypad with the taps in reverse order. For stride 2, rows of one parity (a
 * phase) meet every second tap only: four phases, each a dense convolution with its share of the
 * taps, waste nothing. Both are one case here: stride * stride phases.
 */
#include "core/nn/conv.h"

#include <stdbool.h>
#include <string.h>

#include "core/err.h"
#include "core/nn/conv_kernels.h"

static const char *const isa_names[CONV_ISA_COUNT] = {
    [CONV_ISA_BASELINE] = "baseline",
    [CONV_ISA_AVX2] = "avx2",
    [CONV_ISA_AVX512] = "avx512",
};

static const struct conv_kernels *const isa_kernels[CONV_ISA_COUNT] = {
    [CONV_ISA_BASELINE] = &conv_kernels_baseline,
#if defined(__x86_64__)
    [CONV_ISA_AVX2] = &conv_kernels_avx2,
    [CONV_ISA_AVX512] = &conv_kernels_avx512,
#endif
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
        .kernels = isa_kernels[isa],
    };
    return 0;
}

/* Whether the kernels can produce `outs` channels. */
static bool is_direct(const struct conv *c, int outs)
{
    return outs % c->kernels->lanes == 0;
}

static size_t padded_floats(const struct conv *c, int height, int width, int channels)
{
    int border = c->k / 2 * 2;

    return (size_t)(height + border) * (size_t)(width + border) * (size_t)channels;
}

size_t conv_weight_floats(const struct conv *c)
{
    return (size_t)(c->k * c->k) * (size_t)c->cin * (size_t)c->cout;
}

size_t conv_packed_floats(const struct conv *c)
{
    return 2 * conv_weight_floats(c);
}

size_t conv_xpad_floats(const struct conv *c)
{
    return padded_floats(c, c->h, c->w, c->cin);
}

size_t conv_dypad_floats(const struct conv *c)
{
    return padded_floats(c, c->oh, c->ow, c->cout);
}

size_t conv_scratch_floats(const struct conv *c)
{
    return is_direct(c, c->cin) && is_direct(c, c->cout) ? 0 : conv_im2col_scratch_floats(c);
}

/* The grid of the forward pass and of the weight gradient, y in rows of y_row_floats. */
static struct conv_windows output_windows(const struct conv *c, int y_row_floats)
{
    int row = (c->w + c->k / 2 * 2) * c->cin;

    return (struct conv_windows){
        .rows = c->oh, .cols = c->ow,
        .x_row_step = c->stride * row, .x_col_step = c->stride * c->cin,
        .tap_rows = c->k, .tap_row_step = row, .run_floats = c->k * c->cin,
        .outs = c->cout,
        .y_row_step = y_row_floats, .y_col_step = c->cout,
    };
}

/* In one dimension, image positions phase, phase + stride, ... : they meet the taps first_tap,
 * first_tap - stride, ..., and the window of the first of them starts at `start` of dypad. A
 * phase may meet no tap (1x1 of stride 2): its gradient is zero. */
struct phase {
    int first_tap, tap_count, start;
};

static struct phase phase_of(const struct conv *c, int phase)
{
    int p = c->k / 2, last = c->k - 1;
    int first_tap = last - (last - phase - p + 2 * c->stride * c->k) % c->stride;

    if (first_tap < 0)
        return (struct phase){0};
    return (struct phase){
        .first_tap = first_tap,
        .tap_count = first_tap / c->stride + 1,
        .start = p + (phase + p - first_tap) / c->stride,
    };
}

/* The grid of one phase of the data gradient: x is dypad there, and y is dx. */
static struct conv_windows phase_windows(const struct conv *c, int row_phase, int col_phase)
{
    int row = (c->ow + c->k / 2 * 2) * c->cout, s = c->stride;

    return (struct conv_windows){
        .rows = (c->h - row_phase + s - 1) / s, .cols = (c->w - col_phase + s - 1) / s,
        .x_row_step = row, .x_col_step = c->cout,
        .tap_rows = phase_of(c, row_phase).tap_count, .tap_row_step = row,
        .run_floats = phase_of(c, col_phase).tap_count * c->cout,
        .outs = c->cin,
        .y_row_step = s * c->w * c->cin, .y_col_step = s * c->cin,
    };
}

static void pack_forward(const struct conv *c, const float *w, float *packed)
{
    size_t block = (size_t)conv_block_outs(c->kernels->lanes, c->cout), cout = (size_t)c->cout;
    size_t window = (size_t)(c->k * c->k * c->cin);

    for (size_t o = 0; o < cout; o += block)
        for (size_t k = 0; k < window; k++, packed += block)
            memcpy(packed, w + k * cout + o, block * sizeof *packed);
}

/* One phase of the data gradient: (block of Cin, tap row, tap column, Cout, block). */
static float *pack_phase(const struct conv *c, const float *w, const struct phase *rows,
                         const struct phase *cols, float *packed)
{
    int block = conv_block_outs(c->kernels->lanes, c->cin), s = c->stride;

    for (int i = 0; i < c->cin; i += block)
        for (int r = 0; r < rows->tap_count; r++)
            for (int q = 0; q < cols->tap_count; q++) {
                int tap = (rows->first_tap - r * s) * c->k + cols->first_tap - q * s;
                const float *from = w + (ptrdiff_t)(tap * c->cin + i) * c->cout;
                for (int o = 0; o < c->cout; o++)
                    for (int b = 0; b < block; b++)
                        *packed++ = from[(ptrdiff_t)b * c->cout + o];
            }
    return packed;
}

/* All phases, one after the other: each tap is in exactly one. */
static void pack_backward(const struct conv *c, const float *w, float *packed)
{
    for (int a = 0; a < c->stride; a++)
        for (int b = 0; b < c->stride; b++) {
            struct phase rows = phase_of(c, a), cols = phase_of(c, b);
            packed = pack_phase(c, w, &rows, &cols, packed);
        }
}

void conv_pack(const struct conv *c, const float *w, float *packed)
{
    size_t count = conv_weight_floats(c);

    if (is_direct(c, c->cout))
        pack_forward(c, w, packed);
    else
        memcpy(packed, w, count * sizeof *w);
    if (is_direct(c, c->cin))
        pack_backward(c, w, packed + count);
    else
        memcpy(packed + count, w, count * sizeof *w);
}

void conv_forward(const struct conv *c, const float *xpad, const float *packed, float *y,
                  float *scratch)
{
    if (!is_direct(c, c->cout)) {
        conv_im2col_forward(c, xpad, packed, y, scratch);
        return;
    }
    struct conv_windows windows = output_windows(c, c->ow * c->cout);
    c->kernels->sum(&windows, xpad, packed, y);
}

void conv_backward_data(const struct conv *c, const float *dypad, const float *packed, float *dx,
                        float *scratch)
{
    const float *w = packed + conv_weight_floats(c);

    if (!is_direct(c, c->cin)) {
        conv_im2col_backward_data(c, dypad, w, dx, scratch);
        return;
    }
    for (int a = 0; a < c->stride; a++)
        for (int b = 0; b < c->stride; b++) {
            struct conv_windows windows = phase_windows(c, a, b);
            size_t start = (size_t)phase_of(c, a).start * (size_t)windows.x_row_step +
                           (size_t)(phase_of(c, b).start * c->cout);
            float *corner = dx + (ptrdiff_t)(a * c->w + b) * c->cin;
            c->kernels->sum(&windows, dypad + start, w, corner);
            w += (size_t)windows.tap_rows * (size_t)windows.run_floats * (size_t)c->cin;
        }
}

void conv_backward_weights(const struct conv *c, const float *xpad, const float *dypad, float *dw,
                           float *scratch)
{
    if (!is_direct(c, c->cout)) {
        conv_im2col_backward_weights(c, xpad, dypad, dw, scratch);
        return;
    }
    int p = c->k / 2, row = (c->ow + 2 * p) * c->cout;
    struct conv_windows windows = output_windows(c, row);
    c->kernels->sum_weights(&windows, xpad, dypad + (size_t)(p * row + p * c->cout), dw);
}
