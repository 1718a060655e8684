/*
 * pool.h - global average pooling and the parameter-free shortcut of CIFAR ResNets; one image at a time.
 */
#ifndef ACCRETED_CORE_NN_POOL_H
#define ACCRETED_CORE_NN_POOL_H

/* out (C) = mean over pixels of a (pixels, C). */
void pool_average(int pixels, int c, const float *a, float *out);
/* da (pixels, C) += dout / pixels. */
void pool_average_backward(int pixels, int c, const float *dout, float *da);

/* Subsampling shortcut (He et al. 2016, option A): out (ceil(h/2), ceil(w/2), cout) takes every second pixel
 * of x (h, w, cin), its channels placed in the middle, zeros around. cout >= cin. */
void pool_shortcut(int h, int w, int cin, int cout, const float *x, float *out);
/* dx (h, w, cin) += its transpose. */
void pool_shortcut_backward(int h, int w, int cin, int cout, const float *dout, float *dx);

#endif
