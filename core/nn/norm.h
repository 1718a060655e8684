/*
 * norm.h - batch normalisation with its neighbours: ReLU, the residual sum, and padding.
 *
 * One image at a time, in the layouts of conv.h: y, a, dz are (H*W, C) with `pixels` = H*W; padded
 * images are (H+2p, W+2p, C) of which only the interior is written. Per-channel vectors have
 * C <= NORM_MAX_CHANNELS floats.
 *
 * Batch norm over M = batch * pixels values of a channel (Ioffe and Szegedy 2015):
 *   s = gamma (y - mean) / sqrt(var + eps) + beta = y * scale + shift
 * Backward, with dz the gradient with respect to s:
 *   dy = scale * (dz - sum(dz)/M - (y - mean) inv^2 sum(dz (y - mean))/M) = a*dz + b*y + c
 * so both directions are one multiply-add a value once the sums over the batch are known.
 */
#ifndef ACCRETED_CORE_NN_NORM_H
#define ACCRETED_CORE_NN_NORM_H

#define NORM_EPSILON 1e-5f

enum { NORM_MAX_CHANNELS = 512 };

/* ---- per-channel algebra; sums are over the whole batch ---- */

/* mean, inv = 1/sqrt(var+eps) and var (biased) from sum(y) and sum(y^2) over `count` values. */
void norm_statistics(int c, double count, const double *sum, const double *sum_squares,
                     float *mean, float *var, float *inv);
/* scale = gamma * inv, shift = beta - mean * scale. */
void norm_affine(int c, const float *gamma, const float *beta, const float *mean, const float *inv,
                 float *scale, float *shift);
/* Coefficients of dy = a*dz + b*y + k from sum(dz) and sum(dz*(y-mean)); and dgamma, dbeta
 * (overwritten, or NULL). */
void norm_backward_affine(int c, double count, const double *sum_dz, const double *sum_dz_y,
                          const float *gamma, const float *mean, const float *inv, float *a,
                          float *b, float *k, float *dgamma, float *dbeta);

/* ---- one image ---- */

/* sum += column sums of y, sum_squares += those of y*y. */
void norm_sums(int pixels, int c, const float *y, double *sum, double *sum_squares);
/* Interior of xpad = x. */
void norm_copy_pad(int h, int w, int c, int pad, const float *x, float *xpad);
/* Interior of xpad = relu(y*scale + shift). */
void norm_relu_pad(int h, int w, int c, int pad, const float *y, const float *scale,
                   const float *shift, float *xpad);
/* a = y*scale + shift. `a` may be `y`. */
void norm_apply(int pixels, int c, const float *y, const float *scale, const float *shift,
                float *a);
/* a = relu(y*scale + shift). */
void norm_relu(int pixels, int c, const float *y, const float *scale, const float *shift, float *a);
/* a = relu(y*scale + shift + identity). `a` may be `identity`. */
void norm_add_relu(int pixels, int c, const float *y, const float *scale, const float *shift,
                   const float *identity, float *a);
/* Interior of dypad = a*dz + b*y + k. */
void norm_backward_pad(int h, int w, int c, int pad, const float *dz, const float *y,
                       const float *a, const float *b, const float *k, float *dypad);
/* The sums over this image of dz and dz*(y-mean) are added, for a batch norm whose dz another one
 * made. */
void norm_backward_sums(int pixels, int c, const float *dz, const float *y, const float *mean,
                        double *sum_dz, double *sum_dz_y);
/* dz = dx where the ReLU was open, else 0; and the sums over this image of dz and dz*(y-mean) are
 * added. `open` > 0 says where: the ReLU's output; dz may be `open`. */
void norm_relu_backward(int pixels, int c, const float *dx, const float *open, const float *y,
                        const float *mean, float *dz, double *sum_dz, double *sum_dz_y);
/* The same where the ReLU's output was not kept: y*scale + shift > 0. */
void norm_relu_backward_recompute(int pixels, int c, const float *dx, const float *y,
                                  const float *scale, const float *shift, const float *mean,
                                  float *dz, double *sum_dz, double *sum_dz_y);

#endif
