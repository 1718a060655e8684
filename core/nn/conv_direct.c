/*
 * conv_direct.c - the direct algorithm: each pass as sums over windows (conv_kernels.h).
 *
 * Forward: a window is K runs of K*Cin floats of xpad.
 *
 * Data gradient: dx[y] sums dy[i] * w[kh] over all y + p = i * stride + kh. For stride 1 that is
 * a convolution of dypad with the taps in reverse order. For stride 2, rows of one parity (a
 * phase) meet every second tap only: four phases, each a dense convolution with its share of the
 * taps, waste nothing. Both are one case here: stride * stride phases.
 */
#include <string.h>

#include "core/nn/conv_kernels.h"

static bool fits(const struct conv *c, enum conv_pass pass)
{
    return (pass == CONV_BACKWARD_DATA ? c->cin : c->cout) % c->kernels->lanes == 0;
}

static size_t packed_floats(const struct conv *c, enum conv_pass pass)
{
    (void)pass;
    return conv_weight_floats(c);
}

static size_t scratch_floats(const struct conv *c, enum conv_pass pass)
{
    (void)c;
    (void)pass;
    return 0;
}

struct conv_windows conv_output_windows(const struct conv *c, int y_row_floats)
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

void conv_direct_pack(const struct conv *c, enum conv_pass pass, const float *w, float *packed)
{
    if (pass == CONV_FORWARD)
        pack_forward(c, w, packed);
    else
        pack_backward(c, w, packed);
}

void conv_direct_forward_on(const struct conv_kernels *kernels, const struct conv *c,
                            const float *xpad, const float *packed, float *y)
{
    struct conv_windows windows = conv_output_windows(c, c->ow * c->cout);

    kernels->sum(&windows, xpad, packed, y);
}

void conv_direct_backward_data_on(const struct conv_kernels *kernels, const struct conv *c,
                                  const float *dypad, const float *packed, float *dx)
{
    for (int a = 0; a < c->stride; a++)
        for (int b = 0; b < c->stride; b++) {
            struct conv_windows windows = phase_windows(c, a, b);
            size_t start = (size_t)phase_of(c, a).start * (size_t)windows.x_row_step +
                           (size_t)(phase_of(c, b).start * c->cout);
            float *corner = dx + (ptrdiff_t)(a * c->w + b) * c->cin;
            kernels->sum(&windows, dypad + start, packed, corner);
            packed += (size_t)windows.tap_rows * (size_t)windows.run_floats * (size_t)c->cin;
        }
}

static void forward(const struct conv *c, const float *xpad, const float *packed, float *y,
                    float *scratch)
{
    (void)scratch;
    conv_direct_forward_on(c->kernels, c, xpad, packed, y);
}

static void backward_data(const struct conv *c, const float *dypad, const float *packed,
                          float *dx, float *scratch)
{
    (void)scratch;
    conv_direct_backward_data_on(c->kernels, c, dypad, packed, dx);
}

static void backward_weights(const struct conv *c, const float *xpad, const float *dypad,
                             float *sums, float *scratch)
{
    int p = c->k / 2, row = (c->ow + 2 * p) * c->cout;
    struct conv_windows windows = conv_output_windows(c, row);

    (void)scratch;
    c->kernels->sum_weights(&windows, xpad, dypad + (size_t)(p * row + p * c->cout), sums);
}

const struct conv_method conv_direct = {
    .fits = fits,
    .packed_floats = packed_floats,
    .scratch_floats = scratch_floats,
    .pack = conv_direct_pack,
    .forward = forward,
    .backward_data = backward_data,
    .sums_floats = conv_weight_floats,
    .backward_weights = backward_weights,
    .finish_weights = conv_plain_finish_weights,
};
