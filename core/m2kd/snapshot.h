/*
 * snapshot.h - the compressed store: pruned models, each in one file.
 *
 * Two stores, one interface. A `standalone` file holds a model by itself. With the store `shared` all steps' models live in
 * one set of weights: each step claims some of the weights that were still free, its file holds only these (and the batch
 * norms, heads and prototypes, which every step has of its own), and says which file it builds on. A weight that was
 * claimed never changes, so a model is the weights claimed up to its step, and zeros. The weights in a file never change either
 * (its prototypes do when a class is retired, model/retire.h): going back to an earlier step and on from there, another branch of files begins, in which what later steps claimed is free.
 * The first file of a chain is a standalone one; any standalone file may be the first.
 *
 * Layout in SNAPSHOT_FORMAT.md: a container (storage/container.h) with the model's spec, steps and
 * normalisation, the mask (one bit a convolution weight, entropy-coded), the kept values
 * as IEEE fp16 or as entropy-coded whole numbers of a scale (quantise.h), prototypes and covariance coded likewise or as fp16
 * (snapshot_statistics.h), and batch-norm vectors and head rows as fp16. What is saved is what is loaded: callers round the model first
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

/* Zeroes what the mask prunes and rounds everything else of `m`'s parameters, prototypes and covariance to what
 * a file can hold, in place: afterwards saving and loading returns them bit for bit, and rounding
 * again changes nothing. Values outside fp16's range saturate. Errors: ERR_NOMEM (`m` good for nothing). */
int snapshot_round(struct model *m, const uint8_t *mask, int bits);

/* Writes model `m` pruned by `mask` (mask.h); `m` must be what snapshot_round leaves with the same
 * bits, and all its floats finite, else ERR_INVALID. Blocks on the disk. Errors as container_write.
 * `out_bytes` (may be NULL): the file's size. */
int snapshot_save(const struct model *m, const uint8_t *mask, int bits, const char *path,
                  uint64_t *out_bytes);

/* The same in the shared store: the file at `path` will build on the snapshot at `base_path`, of the step before, in the same
 * folder. `mask` is MASK_OWNED where snapshot_load_owned says so of that one, and there `m` has its weights. Errors as
 * container_read of the base, and as snapshot_save. */
int snapshot_save_shared(const struct model *m, const uint8_t *mask, int bits,
                         const char *base_path, const char *path, uint64_t *out_bytes);

/* Rounds the prototypes and covariance alone of a snapshot that is to be refined (snapshot_save_refined), to halves, so that it can be again and
 * again: coded, they would not move with a few images (snapshot_statistics.h). Errors: ERR_NOMEM (`m` good for nothing). */
int snapshot_round_refined(struct model *m);

/* Writes at `path` the snapshot that stands at `of_path`, in the same folder, with classifier, score scale, covariance, image counts
 * and prototypes of `m`, which was loaded from it and rounded since. Weights, batch norms and heads are the old file's bytes, and what
 * that one builds on the new one does. Blocks on the disk. Errors as container_read, ERR_INVALID as snapshot_save, container_write. */
int snapshot_save_refined(const struct model *m, const char *of_path, const char *path,
                          uint64_t *out_bytes);

/* Rebuilds the model from the file, and from those it builds on, where they stand beside it; new, one reference. Blocks
 * on the disk. Errors as model_load, of any of the files. */
int snapshot_load(struct model **out, const char *path, enum conv_isa isa);
/* The same without prototypes and covariance, which are zeros then. */
int snapshot_load_network(struct model **out, const char *path, enum conv_isa isa);
/* As snapshot_load, and which weights it and those below it claim: *out_owned, the caller's to free, is a mask
 * (net->params.count) of MASK_OWNED there and MASK_KEPT elsewhere. */
int snapshot_load_owned(struct model **out, uint8_t **out_owned, const char *path,
                        enum conv_isa isa);

#endif
