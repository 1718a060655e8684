/*
 * conv_kernels.h - private to conv*.c: what one instruction set offers, and what each algorithm
 * offers to conv.c.
 */
#ifndef ACCRETED_CORE_NN_CONV_KERNELS_H
#define ACCRETED_CORE_NN_CONV_KERNELS_H

#include <stdbool.h>
#include <stddef.h>

#include "core/nn/conv.h"

/* ---- kernels ----
 *
 * All direct passes are sums over windows of a padded image. A window is `tap_rows` runs of
 * `run_floats` consecutive floats (the K pixels of a window row lie side by side in memory), so
 * a 3x3 convolution needs no loop over columns or channels of its own, and any number of input
 * channels will do.
 */

/* A grid of rows x cols windows over an image x, and beside it a grid y of as many pixels with
 * `outs` channels each. Every distance is in floats. */
struct conv_windows {
    int rows, cols;             /* the grid */
    int x_row_step, x_col_step; /* between the windows of neighbouring grid points */
    int tap_rows, tap_row_step; /* runs of a window, and between them */
    int run_floats;
    int outs;
    int y_row_step, y_col_step;
};

/* Static, immutable. */
struct conv_kernels {
    int lanes; /* floats in a vector; `outs` must be a multiple */

    /* y[i,j,o] = sum over r,k of x[i,j,r,k] * w[r,k,o], with w packed: blocks of
     * conv_block_outs(lanes, outs) outputs, each (tap_rows, run_floats, block). */
    void (*sum)(const struct conv_windows *s, const float *x, const float *w, float *y);

    /* dw[r,k,o] += sum over i,j of x[i,j,r,k] * dy[i,j,o], with dw (tap_rows, run_floats, outs). */
    void (*sum_weights)(const struct conv_windows *s, const float *x, const float *dy, float *dw);
};

/* Kernels keep one or two vectors of outputs in registers for each pixel. */
static inline int conv_block_outs(int lanes, int outs)
{
    return outs % (2 * lanes) == 0 ? 2 * lanes : lanes;
}

extern const struct conv_kernels conv_kernels_baseline;
#if defined(__x86_64__)
extern const struct conv_kernels conv_kernels_avx2, conv_kernels_avx512;

/* The same sums over words: a float of x, w and dy stands for two bf16 numbers, a product of
 * words is the sum of the two products, and y and dw are floats. */
extern const struct conv_kernels conv_kernels_bf16;

/* Words of neighbouring floats; count even. */
void conv_bf16_round(const float *from, size_t count, float *to);

/* Words of the same channel of two pixels: `from` is (pixels, channels), and word (n,c) of `to`
 * pairs the pixels n * step and n * step + distance, as long as the former exists; zero stands
 * for the latter beyond the end. `to` may be `from` where step is 2 and distance 1. */
void conv_bf16_zip(const float *from, int pixels, int channels, int step, int distance,
                   float *to);
#endif

/* ---- transforms of Winograd's algorithm, in conv_winograd.c ---- */

enum { CONV_WINOGRAD_TILE = 6, CONV_WINOGRAD_OUT = 4 };

/* The points a and b, and 1 / N(a) and 1 / N(b). */
#define CONV_WINOGRAD_A (2.0f / 3.0f)
#define CONV_WINOGRAD_B 1.5f
#define CONV_WINOGRAD_NA ((float)(1.0 / (2.0 * 4.0 / 9.0 * (4.0 / 9.0 - 9.0 / 4.0))))
#define CONV_WINOGRAD_NB ((float)(1.0 / (2.0 * 9.0 / 4.0 * (9.0 / 4.0 - 4.0 / 9.0))))

/* Some of the tiles of an image, numbered row by row. */
struct conv_tiles {
    int height, width, channels; /* of the image of outputs */
    int row_floats;              /* of the image x, dy or y */
    int per_row, first, count;
    ptrdiff_t plane_floats;      /* between the planes of v and m: one for each point */
};

/* Where 3x3 kernels lie: distances in floats between inputs, outputs and taps, and between the
 * planes they go to. */
struct conv_taps {
    int ins, outs;
    ptrdiff_t in_step, out_step, tap_step, plane_floats;
};

struct conv_transforms {
    /* u (point, input, output) from w, each plane in the blocks of conv_kernels.sum. */
    void (*kernels)(const struct conv_taps *t, const float *w, float *u);
    /* v (point, tile, channel) from a padded image. */
    void (*input)(const struct conv_tiles *t, const float *x, float *v);
    /* v likewise from the interior of a padded image of gradients. */
    void (*gradient)(const struct conv_tiles *t, const float *dy, float *v);
    /* y from m (point, tile, channel). */
    void (*output)(const struct conv_tiles *t, const float *m, float *y);
    /* dw (3, 3, count) += from m (point, count). */
    void (*weights)(ptrdiff_t count, const float *m, ptrdiff_t plane_floats, float *dw);
};

extern const struct conv_transforms conv_transforms_baseline;
#if defined(__x86_64__)
extern const struct conv_transforms conv_transforms_avx2, conv_transforms_avx512;

/* conv_transforms.input into words of neighbouring channels: v (point, tile, channel / 2). */
void conv_winograd_input_bf16(const struct conv_tiles *t, const float *x, float *v);
#endif

/* ---- algorithms ---- */

struct conv_method {
    bool (*fits)(const struct conv *c, enum conv_pass pass);
    /* As in conv.h, for one pass. */
    size_t (*packed_floats)(const struct conv *c, enum conv_pass pass);
    size_t (*scratch_floats)(const struct conv *c, enum conv_pass pass);
    void (*pack)(const struct conv *c, enum conv_pass pass, const float *w, float *packed);
    void (*forward)(const struct conv *c, const float *xpad, const float *packed, float *y,
                    float *scratch);
    void (*backward_data)(const struct conv *c, const float *dypad, const float *packed,
                          float *dx, float *scratch);
    size_t (*sums_floats)(const struct conv *c);
    void (*backward_weights)(const struct conv *c, const float *xpad, const float *dypad,
                             float *sums, float *scratch);
    void (*finish_weights)(const struct conv *c, float *sums, float *dw);
};

extern const struct conv_method conv_im2col, conv_direct, conv_winograd;
#if defined(__x86_64__)
extern const struct conv_method conv_bf16, conv_winograd_bf16;
#endif

/* Whether it is faster than the direct algorithm for this shape, if it fits. */
bool conv_winograd_pays(const struct conv *c);

/* A padded image of a 3x3 convolution with what the outermost tiles reach beyond it. */
size_t conv_winograd_image_floats(int height, int width, int channels);

/* finish_weights where sums are (K,K,Cin,Cout), as dw. */
void conv_plain_finish_weights(const struct conv *c, float *sums, float *dw);

/* The direct passes of conv.h on given kernels; conv_direct_backward_weights_of takes a grid
 * from conv_output_windows. */
void conv_direct_forward_on(const struct conv_kernels *kernels, const struct conv *c,
                            const float *xpad, const float *packed, float *y);
void conv_direct_backward_data_on(const struct conv_kernels *kernels, const struct conv *c,
                                  const float *dypad, const float *packed, float *dx);
void conv_direct_pack(const struct conv *c, enum conv_pass pass, const float *w, float *packed);

/* The grid of the forward pass and of the weight gradient, y in rows of y_row_floats. */
struct conv_windows conv_output_windows(const struct conv *c, int y_row_floats);

#endif
