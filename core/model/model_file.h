/*
 * model_file.h - the sections that model files and snapshots have in common: all of a model but
 * its parameters, prototypes and covariance, which each writes in its own precision. Private to what reads and writes these files: model.c,
 * retire.c and m2kd/snapshot*.c; core/m2kd/SNAPSHOT_FORMAT.md has the layout.
 */
#ifndef ACCRETED_CORE_MODEL_MODEL_FILE_H
#define ACCRETED_CORE_MODEL_MODEL_FILE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/model/model.h"
#include "core/storage/container.h"

enum { MODEL_FILE_SECTIONS = 5 }; /* SPEC, STEP, SEEN, VIEW and, where there are experts, EXPT */

/* What each writes in its own precision. */
#define MODEL_FILE_PROTOTYPES CONTAINER_ID('P', 'R', 'O', 'T')
#define MODEL_FILE_COVARIANCE CONTAINER_ID('C', 'O', 'V', 'A')

/* The SPEC section, as it stands in the file. */
struct model_file_spec {
    int32_t arch, blocks, channels, height, width, classes;
    int32_t step_count, classifier;
    float score_scale;
    float mean[MODEL_MAX_CHANNELS], std[MODEL_MAX_CHANNELS]; /* 0 beyond `channels` */
};

/* Fills *spec and sections[0..*count-1], MODEL_FILE_SECTIONS at most, which borrow from `m` and `spec`.
 * ERR_INVALID when `m` holds what a reader would refuse (a number that is not finite, a negative variance, a
 * standard deviation or score scale that is not positive, a view there is not): no file is better than an unreadable one. */
int model_file_describe(const struct model *m, struct model_file_spec *spec,
                        struct container_section *sections, int *count);

/* A new model with everything those sections say, its experts not loaded, parameters, prototypes and covariance zeroed; one
 * reference. Errors: ERR_FORMAT (sections missing, of the wrong size or out of range), ERR_NOMEM. */
int model_file_restore(struct model **out, const struct container *c, enum conv_isa isa);

/* How many classes the file says it knows, at least 1. Errors: ERR_FORMAT. */
int model_file_classes(const struct container *c, int *classes);

/* Whether it names a file of a folder: printable, no folder, nothing hidden, and zeros end it. */
bool model_file_name_valid(const char name[MODEL_EXPERT_NAME]);

/* Floats of all prototypes: (classes, model_width). */
size_t model_file_prototypes(const struct model *m);

/* Copies a section of `count` floats. Errors: ERR_FORMAT (missing, or of another size), ERR_CORRUPT (not all finite). */
int model_file_floats(const struct container *c, uint32_t section, size_t count, float *out);
/* Whether none of `count` floats is infinite or not a number. */
bool model_file_finite(const float *values, size_t count);
/* Whether all parameters of `net` are finite, and no variance, of which there will be a square root, is negative. */
bool model_file_params_valid(const struct resnet *net, const float *params);

#endif
