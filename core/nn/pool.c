/*
 * pool.c - see pool.h.
 */
#include "core/nn/pool.h"

#include <stdbool.h>
#include <stddef.h>
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

/* Offset of value n of the window of output (i, j) in an image of h x w pixels, in pixels; false
 * when it lies in the border. */
static bool window_pixel(int h, int w, int i, int j, int n, size_t *pixel)
{
    int y = 2 * i - 1 + n / 3, x = 2 * j - 1 + n % 3;
    if (y < 0 || y >= h || x < 0 || x >= w)
        return false;
    *pixel = (size_t)y * w + x;
    return true;
}

/* Takes value n where it beats what was found before. */
NN_CLONES
static void challenge(int c, int n, const float *restrict x, float *restrict best,
                      uint8_t *restrict arg)
{
    for (int k = 0; k < c; k++) {
        arg[k] = x[k] > best[k] ? (uint8_t)n : arg[k];
        best[k] = x[k] > best[k] ? x[k] : best[k];
    }
}

NN_CLONES
static void challenge_value(int c, const float *restrict x, float *restrict best)
{
    for (int k = 0; k < c; k++)
        best[k] = x[k] > best[k] ? x[k] : best[k];
}

static void pool_window(int h, int w, int c, int i, int j, const float *x, float *out, uint8_t *arg)
{
    bool found = false;
    size_t pixel;
    for (int n = 0; n < 9; n++) {
        if (!window_pixel(h, w, i, j, n, &pixel))
            continue;
        const float *values = x + pixel * c;
        if (!found) {
            memcpy(out, values, (size_t)c * sizeof *out);
            if (arg)
                memset(arg, n, (size_t)c);
        } else if (arg) {
            challenge(c, n, values, out, arg);
        } else {
            challenge_value(c, values, out);
        }
        found = true;
    }
}

void pool_max(int h, int w, int c, const float *x, float *out, uint8_t *arg)
{
    int oh = (h + 1) / 2, ow = (w + 1) / 2;
    for (int i = 0; i < oh; i++)
        for (int j = 0; j < ow; j++) {
            size_t at = ((size_t)i * ow + j) * c;
            pool_window(h, w, c, i, j, x, out + at, arg ? arg + at : NULL);
        }
}

/* Offset, in floats, of the winner of channel k of output (i, j). */
static size_t winner(int w, int c, int i, int j, int k, uint8_t arg)
{
    int y = 2 * i - 1 + arg / 3, x = 2 * j - 1 + arg % 3;
    return ((size_t)y * w + x) * c + k;
}

void pool_max_pick(int h, int w, int c, const float *image, const uint8_t *arg, float *picked)
{
    int oh = (h + 1) / 2, ow = (w + 1) / 2;
    for (int i = 0; i < oh; i++)
        for (int j = 0; j < ow; j++, arg += c, picked += c)
            for (int k = 0; k < c; k++)
                picked[k] = image[winner(w, c, i, j, k, arg[k])];
}

void pool_max_backward(int h, int w, int c, const float *dout, const uint8_t *arg, float *dx)
{
    int oh = (h + 1) / 2, ow = (w + 1) / 2;
    for (int i = 0; i < oh; i++)
        for (int j = 0; j < ow; j++, arg += c, dout += c)
            for (int k = 0; k < c; k++)
                dx[winner(w, c, i, j, k, arg[k])] += dout[k];
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
