/*
 * dataset.h - labelled images in memory, and the random views of them a network is trained on.
 *
 * After it is filled a dataset is only read, by any number of threads.
 */
#ifndef ACCRETED_CORE_LEARNER_DATASET_H
#define ACCRETED_CORE_LEARNER_DATASET_H

#include <stdbool.h>
#include <stdint.h>

#include "core/nn/rng.h"

struct dataset {
    int count, height, width, channels;
    uint8_t *pixels;  /* owned; (count, height, width, channels) */
    int *labels;      /* owned; output index of the class */
};

/* Room for `count` images (0 is fine), contents undefined. Errors: ERR_INVALID (count < 0 or a
 * size < 1), ERR_NOMEM. */
int dataset_init(struct dataset *d, int count, int height, int width, int channels);
void dataset_release(struct dataset *d); /* a zeroed struct is fine */

/* Whether there is no image, or images have this shape. */
bool dataset_has_shape(const struct dataset *d, int height, int width, int channels);
/* Whether all labels are in [0, classes). */
bool dataset_labels_below(const struct dataset *d, int classes);

/* Per-channel mean and standard deviation of pixels scaled to 0..1; std at least 1/255. */
void dataset_statistics(const struct dataset *d, float *mean, float *std);

struct view_options {
    int pad;   /* zero padding (the mean colour, after normalisation) around the image before a
                * random crop of the same size; 0 = none */
    bool flip; /* mirror left-right with probability one half */
};

/* Image `index` normalised with (p/255 - mean) / std into out (height, width, channels). */
void dataset_image(const struct dataset *d, int index, const float *mean, const float *std,
                   float *out);
/* A random view of it: draws from *rng in a fixed order (dx, dy, flip), always three 32-bit
 * draws whatever the options, so streams stay in step. dx and dy are uniform in -pad..pad. */
void dataset_view(const struct dataset *d, int index, const float *mean, const float *std,
                  const struct view_options *options, struct rng *rng, float *out);

#endif
