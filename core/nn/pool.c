#include "core/nn/pool.h"

#include <string.h>

#include "core/nn/clones.h"

NN_CLONES
void pool_average(int pixels, int c, const float *restrict a, float *restrict out)
{
    memset(out, 0, (size_t)c * sizeof *out);
    for (int p = 0; p < pixels; p++, a += c)
        for (int i = 0; i < c; i++)
            out[i] += a[i];
    for (int i = 0; i < c; i++)
        out[i] /= (float)pixels;
}

NN_CLONES
void pool_average_backward(int pixels, int c, const float *restrict dout, float *restrict da)
{
    float share = 1.0f / (float)pixels;
    for (int p = 0; p < pixels; p++, da += c)
        for (int i = 0; i < c; i++)
            da[i] += dout[i] * share;
}

void pool_shortcut(int h, int w, int cin, int cout, const float *x, float *out)
{
    int oh = (h + 1) / 2, ow = (w + 1) / 2, first = (cout - cin) / 2;
    memset(out, 0, (size_t)oh * ow * cout * sizeof *out);
    for (int i = 0; i < oh; i++)
        for (int j = 0; j < ow; j++)
            memcpy(out + ((size_t)i * ow + j) * cout + first,
                   x + ((size_t)2 * i * w + 2 * j) * cin, (size_t)cin * sizeof *out);
}

void pool_shortcut_backward(int h, int w, int cin, int cout, const float *dout, float *dx)
{
    int oh = (h + 1) / 2, ow = (w + 1) / 2, first = (cout - cin) / 2;
    for (int i = 0; i < oh; i++)
        for (int j = 0; j < ow; j++) {
            const float *from = dout + ((size_t)i * ow + j) * cout + first;
            float *to = dx + ((size_t)2 * i * w + 2 * j) * cin;
            for (int c = 0; c < cin; c++)
                to[c] += from[c];
        }
}
