/*
 * linear.c - fully connected layer through CBLAS; see linear.h.
 */
#include "core/nn/linear.h"

#include <cblas.h>
#include <stddef.h>
#include <string.h>

void linear_forward(int n, int in, int out, const float *x, const float *w, const float *b,
                    float *y)
{
    if (n == 0)
        return;
    for (int i = 0; i < n; i++)
        memcpy(y + (size_t)i * (size_t)out, b, (size_t)out * sizeof *y);
    cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasTrans, n, out, in, 1.0f, x, in, w, in, 1.0f, y,
                out);
}

void linear_backward(int n, int in, int out, const float *x, const float *w, const float *dy,
                     float *dx, float *dw, float *db)
{
    if (n == 0)
        return;
    cblas_sgemm(CblasRowMajor, CblasTrans, CblasNoTrans, out, in, n, 1.0f, dy, out, x, in, 1.0f,
                dw, in);
    for (int i = 0; i < n; i++)
        for (int o = 0; o < out; o++)
            db[o] += dy[(size_t)i * (size_t)out + (size_t)o];
    if (dx)
        cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasNoTrans, n, in, out, 1.0f, dy, out, w, in,
                    1.0f, dx, in);
}
