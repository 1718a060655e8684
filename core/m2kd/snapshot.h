/*
 * snapshot.h - the compressed store: a pruned model in one file, store `standalone`.
 *
 * Layout in SNAPSHOT_FORMAT.md: a container (storage/container.h) with the model's spec, steps and
 * normalisation, the mask (one bit a convolution weight, entropy-coded with zstd), the kept values
 * as IEEE fp16 or as entropy-coded whole numbers of a scale (quantise.h), and batch-norm vectors, head
 * rows and prototypes as fp16. What is saved is what is loaded: callers round the model first
 * (snapshot_round), so that they know the exact teacher.
 *
 * Functions may be called from any thread; a mask is as mask.h makes it, but only its bytes for
 * convolution weights are looked at. `bits` of a kept value: SNAPSHOT_HALF, or QUANTISE_MIN_BITS to
 * QUANTISE_MAX_BITS.
 */
#ifndef ACCRETED_CORE_M2KD_SNAPSHOT_H
#define ACCRETED_CORE_M2KD_SNAPSHOT_H

#include <stdbool.h>
#include <stdint.h>

#include "core/m2kd/quantise.h"
#include "core/model/model.h"

enum { SNAPSHOT_HALF = 16 };

/* Whether there is such a `bits`. */
bool snapshot_bits_valid(int bits);

/* Zeroes what the mask prunes and rounds everything else of `m`'s parameters and prototypes to what
 * a file can hold, in place: afterwards saving and loading returns them bit for bit, and rounding
 * again changes nothing. Values outside fp16's range saturate. Errors: ERR_NOMEM (`m` unchanged). */
int snapshot_round(struct model *m, const uint8_t *mask, int bits);

/* Writes model `m` pruned by `mask` (mask.h); `m` must be what snapshot_round leaves with the same
 * bits, and all its floats finite, else ERR_INVALID. Blocks on the disk. Errors as container_write.
 * `out_bytes` (may be NULL): the file's size. */
int snapshot_save(const struct model *m, const uint8_t *mask, int bits, const char *path,
                  uint64_t *out_bytes);

/* Rebuilds the model from the file alone; new, one reference. Blocks on the disk. Errors as
 * model_load. */
int snapshot_load(struct model **out, const char *path, enum conv_isa isa);

#endif
