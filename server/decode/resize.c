/*
 * resize.c - image_fit: any image to the size and channels a model takes.
 *
 * Each axis has, for every output position, a run of source positions with weights that sum to 1:
 * the covered part of each source pixel when shrinking, the two neighbours of the centre when
 * growing. A row is shrunk along x first, then added to the output row along y, so only two rows
 * are held. Plain float arithmetic in a fixed order: the same image gives the same bytes on every
 * machine.
 */
#include <stdlib.h>
#include <string.h>

#include "core/err.h"
#include "server/decode/image.h"

struct tap_run {
    int first, count;
    size_t weights; /* index of the first weight */
};

struct axis {
    struct tap_run *runs; /* one for each output position */
    float *weights;
};

/* Weights of one output position into w; returns how many. In units of 1/to_size of a source pixel,
 * where every border is a whole number. */
static int area_taps(int to, int from_size, int to_size, int *first, float *w)
{
    int64_t begin = (int64_t)to * from_size, end = begin + from_size;
    int last = (int)((end - 1) / to_size);
    *first = (int)(begin / to_size);
    for (int s = *first; s <= last; s++) {
        int64_t low = (int64_t)s * to_size, high = low + to_size;
        int64_t covered = (high < end ? high : end) - (low > begin ? low : begin);
        w[s - *first] = (float)((double)covered / from_size);
    }
    return last - *first + 1;
}

static int bilinear_taps(int to, int from_size, int to_size, int *first, float *w)
{
    double centre = (to + 0.5) * from_size / to_size - 0.5;
    if (centre < 0)
        centre = 0;
    if (centre > from_size - 1)
        centre = from_size - 1;
    *first = (int)centre;
    double part = centre - *first;
    w[0] = (float)(1 - part);
    w[1] = (float)part;
    return part > 0 ? 2 : 1;
}

static void axis_release(struct axis *a)
{
    free(a->runs);
    free(a->weights);
}

static int axis_init(struct axis *a, int from_size, int to_size)
{
    size_t longest = (size_t)(from_size > to_size ? from_size / to_size + 2 : 2);
    a->runs = malloc((size_t)to_size * sizeof *a->runs);
    a->weights = reallocarray(NULL, (size_t)to_size * longest, sizeof *a->weights);
    if (!a->runs || !a->weights)
        return ERR_NOMEM;
    for (int i = 0; i < to_size; i++) {
        struct tap_run *run = &a->runs[i];
        run->weights = (size_t)i * longest;
        float *w = a->weights + run->weights;
        run->count = from_size > to_size ? area_taps(i, from_size, to_size, &run->first, w)
                                         : bilinear_taps(i, from_size, to_size, &run->first, w);
    }
    return 0;
}

/* One source row (width, channels) along x into out (to_width, channels). */
static void fit_row(const uint8_t *row, int channels, const struct axis *x, int to_width,
                    float *out)
{
    for (int i = 0; i < to_width; i++) {
        const struct tap_run *run = &x->runs[i];
        const float *w = x->weights + run->weights;
        for (int c = 0; c < channels; c++) {
            const uint8_t *p = row + (size_t)run->first * (size_t)channels + c;
            float sum = 0;
            for (int t = 0; t < run->count; t++)
                sum += w[t] * (float)p[t * channels];
            out[i * channels + c] = sum;
        }
    }
}

static uint8_t to_byte(float v)
{
    int rounded = (int)(v + 0.5f);
    return (uint8_t)(rounded < 0 ? 0 : rounded > 255 ? 255 : rounded);
}

/* A finished row of floats to bytes, from `channels` to `to_channels`. */
static void store_row(const float *row, int width, int channels, int to_channels, uint8_t *out)
{
    for (int x = 0; x < width; x++) {
        const float *p = row + x * channels;
        uint8_t *q = out + x * to_channels;
        if (channels == 3 && to_channels == 1) {
            q[0] = to_byte(0.299f * p[0] + 0.587f * p[1] + 0.114f * p[2]);
            continue;
        }
        for (int c = 0; c < to_channels; c++)
            q[c] = to_byte(p[channels == 1 ? 0 : c]);
    }
}

int image_fit(const struct image *img, int height, int width, int channels, uint8_t *out)
{
    if (height < 1 || width < 1 || (channels != 1 && channels != 3))
        return ERR_INVALID;
    size_t out_row = (size_t)width * (size_t)channels;
    if (img->height == height && img->width == width && img->channels == channels) {
        memcpy(out, img->pixels, out_row * (size_t)height);
        return 0;
    }
    struct axis x = {0}, y = {0};
    size_t held = (size_t)width * (size_t)img->channels;
    size_t in_row = (size_t)img->width * (size_t)img->channels;
    float *row = malloc(held * sizeof *row), *sum = malloc(held * sizeof *sum);
    int err = row && sum ? axis_init(&x, img->width, width) : ERR_NOMEM;
    if (err == 0)
        err = axis_init(&y, img->height, height);
    for (int i = 0; i < height && err == 0; i++) {
        const struct tap_run *run = &y.runs[i];
        memset(sum, 0, held * sizeof *sum);
        for (int t = 0; t < run->count; t++) {
            fit_row(img->pixels + (size_t)(run->first + t) * in_row, img->channels, &x, width, row);
            for (size_t k = 0; k < held; k++)
                sum[k] += y.weights[run->weights + (size_t)t] * row[k];
        }
        store_row(sum, width, img->channels, channels, out + (size_t)i * out_row);
    }
    axis_release(&x);
    axis_release(&y);
    free(row);
    free(sum);
    return err;
}
