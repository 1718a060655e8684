/*
 * snapshot.h - the compressed store: a pruned model in one file, store `standalone`.
 *
 * Layout in SNAPSHOT_FORMAT.md: a container (storage/container.h) with the model's spec, steps,
 * normalisation and prototypes, the mask (one bit a convolution weight, entropy-coded with
 * zstd), the kept values as IEEE fp16, and batch-norm vectors and head rows as fp32. What is
 * saved is what is loaded: callers that need to know the exact teacher round their kept weights
 * first (snapshot_round).
 *
 * Functions may be called from any thread; a mask is as mask.h makes it, but only its bytes for
 * convolution weights are looked at.
 */
#ifndef ACCRETED_CORE_M2KD_SNAPSHOT_H
#define ACCRETED_CORE_M2KD_SNAPSHOT_H

#include <stdint.h>

#include "core/model/model.h"

/* Rounds kept convolution weights to fp16 and zeroes the others, in place: afterwards saving and
 * loading `params` returns them bit for bit. Values outside fp16's range saturate. */
void snapshot_round(const struct resnet *net, const uint8_t *mask, float *params);

/* Writes model `m` pruned by `mask` (mask.h); m->params must be what snapshot_round leaves, and
 * all floats of `m` finite, else ERR_INVALID. Blocks on the disk. Errors as container_write.
 * `out_bytes` (may be NULL): the file's size. */
int snapshot_save(const struct model *m, const uint8_t *mask, const char *path,
                  uint64_t *out_bytes);

/* Rebuilds the model from the file alone; new, one reference. Blocks on the disk. Errors as
 * model_load. */
int snapshot_load(struct model **out, const char *path, enum conv_isa isa);

#endif
