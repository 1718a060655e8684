/*
 * model_file.h - the sections that model files and snapshots have in common: all of a model but
 * its parameters and prototypes, which each writes in its own precision. Private to what reads and writes these files: model.c,
 * retire.c and m2kd/snapshot*.c; core/m2kd/SNAPSHOT_FORMAT.md has the layout.
 */
#ifndef ACCRETED_CORE_MODEL_MODEL_FILE_H
#define ACCRETED_CORE_MODEL_MODEL_FILE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/model/model.h"
#include "core/storage/container.h"

enum { MODEL_FILE_SECTIONS = 4 }; /* SPEC, STEP, COVA, SEEN */

#define MODEL_FILE_PROTOTYPES CONTAINER_ID('P', 'R', 'O', 'T')

/* The SPEC section, as it stands in the file. */
struct model_file_spec {
    int32_t arch, blocks, channels, height, width, classes;
    int32_t step_count, classifier;
    float score_scale;
    float mean[MODEL_MAX_CHANNELS], std[MODEL_MAX_CHANNELS]; /* 0 beyond `channels` */
};

/* Fills *spec and sections[0..MODEL_FILE_SECTIONS-1], which borrow from `m` and `spec`.
 * ERR_INVALID when `m` holds what a reader would refuse (a number that is not finite, a negative variance, a
 * standard deviation or score scale that is not positive): no file is better than an unreadable one. */
int model_file_describe(const struct model *m, struct model_file_spec *spec,
                        struct container_section *sections);

/* A new model with everything those sections say, parameters and prototypes zeroed; one
 * reference. Errors: ERR_FORMAT (sections missing, of the wrong size or out of range), ERR_NOMEM. */
int model_file_restore(struct model **out, const struct container *c, enum conv_isa isa);

/* How many classes the file says it knows, at least 1. Errors: ERR_FORMAT. */
int model_file_classes(const struct container *c, int *classes);

/* Floats of all prototypes: (classes, feature_count). */
size_t model_file_prototypes(const struct model *m);

/* Copies a section of `count` floats. Errors: ERR_FORMAT (missing, or of another size), ERR_CORRUPT (not all finite). */
int model_file_floats(const struct container *c, uint32_t section, size_t count, float *out);
/* Whether none of `count` floats is infinite or not a number. */
bool model_file_finite(const float *values, size_t count);
/* Whether all parameters of `net` are finite, and no variance, of which there will be a square root, is negative. */
bool model_file_params_valid(const struct resnet *net, const float *params);

#endif
