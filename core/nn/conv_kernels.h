/*
 * conv_kernels.h - private to conv*.c: what one instruction set offers to conv.c.
 *
 * All direct passes are sums over windows of a padded image. A window is `tap_rows` runs of
 * `run_floats` consecutive floats (the K pixels of a window row lie side by side in memory), so
 * a 3x3 convolution needs no loop over columns or channels of its own, and any number of input
 * channels will do.
 */
#ifndef ACCRETED_CORE_NN_CONV_KERNELS_H
#define ACCRETED_CORE_NN_CONV_KERNELS_H

#include <stddef.h>

struct conv;

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

/* Static, immutable, one for each instruction set compiled in. */
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
#endif

/* The path for every shape. As the functions of conv.h, but for unpacked weights `w`. */
size_t conv_im2col_scratch_floats(const struct conv *c);
void conv_im2col_forward(const struct conv *c, const float *xpad, const float *w, float *y,
                         float *scratch);
void conv_im2col_backward_data(const struct conv *c, const float *dypad, const float *w,
                               float *dx, float *scratch);
void conv_im2col_backward_weights(const struct conv *c, const float *xpad, const float *dypad,
                                  float *dw, float *scratch);

#endif
