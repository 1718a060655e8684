/*
 * pool.h - pooling and the parameter-free shortcut of ResNets; one image at a time.
 */
#ifndef ACCRETED_CORE_NN_POOL_H
#define ACCRETED_CORE_NN_POOL_H

#include <stdint.h>

/* out (C) = mean over pixels of a (pixels, C). */
void pool_average(int pixels, int c, const float *a, float *out);
/* da (pixels, C) += dout / pixels. */
void pool_average_backward(int pixels, int c, const float *dout, float *da);

/* Max pooling, windows of 3x3 at every second pixel, one row and column of border that never wins:
 * out (ceil(h/2), ceil(w/2), C) from x (h, w, C). `arg` (may be NULL), of out's size, remembers
 * which of the window's nine values won, 0..8 row by row; of equal ones the first. */
void pool_max(int h, int w, int c, const float *x, float *out, uint8_t *arg);
/* picked, of out's size, = the values of another x-sized image at the winners. */
void pool_max_pick(int h, int w, int c, const float *image, const uint8_t *arg, float *picked);
/* dx (h, w, C) += the transpose of that: each dout to its winner. */
void pool_max_backward(int h, int w, int c, const float *dout, const uint8_t *arg, float *dx);

/* Subsampling shortcut (He et al. 2016, option A): out (ceil(h/2), ceil(w/2), cout) takes every
 * second pixel of x (h, w, cin), its channels placed in the middle, zeros around. cout >= cin. */
void pool_shortcut(int h, int w, int cin, int cout, const float *x, float *out);
/* dx (h, w, cin) += its transpose. */
void pool_shortcut_backward(int h, int w, int cin, int cout, const float *dout, float *dx);

#endif
