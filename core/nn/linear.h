/*
 * linear.h - fully connected layer through CBLAS, one thread.
 */
#ifndef ACCRETED_CORE_NN_LINEAR_H
#define ACCRETED_CORE_NN_LINEAR_H

/* y (n, out) = x (n, in) * w' + b; w is (out, in), one row an output. */
void linear_forward(int n, int in, int out, const float *x, const float *w, const float *b,
                    float *y);
/* dw (out, in) += dy' x; db (out) += column sums of dy; dx (n, in) += dy w, or NULL to skip it. */
void linear_backward(int n, int in, int out, const float *x, const float *w, const float *dy,
                     float *dx, float *dw, float *db);

#endif
