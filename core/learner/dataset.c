/*
 * dataset.c - labelled images in memory and their random views; see dataset.h.
 */
#include "core/learner/dataset.h"

#include <math.h>
#include <stddef.h>
#include <stdlib.h>

#include "core/err.h"

int dataset_init(struct dataset *d, int count, int height, int width, int channels)
{
    size_t bytes;
    if (count < 0 || height < 1 || width < 1 || channels < 1)
        return ERR_INVALID;
    if (__builtin_mul_overflow((size_t)count, (size_t)height, &bytes) ||
        __builtin_mul_overflow(bytes, (size_t)width, &bytes) ||
        __builtin_mul_overflow(bytes, (size_t)channels, &bytes))
        return ERR_NOMEM;

    /* One spare element, so that an empty data set is no special case. */
    uint8_t *pixels = malloc(bytes + 1);
    int *labels = calloc((size_t)count + 1, sizeof *labels);
    if (!pixels || !labels) {
        free(pixels);
        free(labels);
        return ERR_NOMEM;
    }
    *d = (struct dataset){count, height, width, channels, pixels, labels};
    return 0;
}

void dataset_release(struct dataset *d)
{
    free(d->pixels);
    free(d->labels);
    *d = (struct dataset){0};
}

bool dataset_has_shape(const struct dataset *d, int height, int width, int channels)
{
    return d->count == 0 || (d->height == height && d->width == width && d->channels == channels);
}

bool dataset_labels_below(const struct dataset *d, int classes)
{
    for (int i = 0; i < d->count; i++)
        if (d->labels[i] < 0 || d->labels[i] >= classes)
            return false;
    return true;
}

static size_t image_bytes(const struct dataset *d)
{
    return (size_t)d->height * (size_t)d->width * (size_t)d->channels;
}

void dataset_statistics(const struct dataset *d, float *mean, float *std)
{
    const double floor_std = 1.0 / 255.0;
    size_t channels = (size_t)d->channels, total = (size_t)d->count * image_bytes(d);
    double n = (double)(total / channels);
    for (size_t c = 0; c < channels; c++) {
        uint64_t sum = 0, squares = 0; /* exact, so their order does not matter */
        for (size_t i = c; i < total; i += channels) {
            sum += d->pixels[i];
            squares += (uint64_t)d->pixels[i] * d->pixels[i];
        }
        double average = n > 0 ? (double)sum / n : 0;
        double variance = n > 0 ? (double)squares / n - average * average : 0;
        mean[c] = (float)(average / 255.0);
        std[c] = (float)fmax(sqrt(fmax(variance, 0)) / 255.0, floor_std);
    }
}

/* The image moved by (dx, dy) pixels under its frame, then mirrored if `flip`. What comes in
 * from outside the image is 0. */
static void copy_view(const struct dataset *d, int index, const float *mean, const float *std,
                      int dx, int dy, bool flip, float *out)
{
    const uint8_t *image = d->pixels + (size_t)index * image_bytes(d);
    for (int y = 0; y < d->height; y++) {
        int sy = y + dy;
        for (int x = 0; x < d->width; x++, out += d->channels) {
            int sx = (flip ? d->width - 1 - x : x) + dx;
            bool inside = sy >= 0 && sy < d->height && sx >= 0 && sx < d->width;
            ptrdiff_t at = ((ptrdiff_t)sy * d->width + sx) * d->channels;
            for (int c = 0; c < d->channels; c++)
                out[c] = inside ? ((float)image[at + c] / 255.0f - mean[c]) / std[c] : 0.0f;
        }
    }
}

void dataset_image(const struct dataset *d, int index, const float *mean, const float *std,
                   float *out)
{
    copy_view(d, index, mean, std, 0, 0, false, out);
}

/* Uniform in -pad..pad from exactly one draw (rng_below may take more); the bias is below
 * (2 pad + 1) / 2^32. */
static int draw_offset(struct rng *rng, int pad)
{
    uint64_t span = 2 * (uint64_t)pad + 1;
    return (int)(rng_u32(rng) * span >> 32) - pad;
}

void dataset_view(const struct dataset *d, int index, const float *mean, const float *std,
                  const struct view_options *options, struct rng *rng, float *out)
{
    int dx = draw_offset(rng, options->pad);
    int dy = draw_offset(rng, options->pad);
    bool mirror = rng_u32(rng) >> 31 != 0;
    copy_view(d, index, mean, std, dx, dy, options->flip && mirror, out);
}
