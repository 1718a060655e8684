/*
 * experts.h - earlier snapshots whose features a classifier of means sees besides those of the model's own network.
 *
 * The network of a step changes what it was taught before, and with it the features of the classes of earlier steps, whose
 * images are gone. In the snapshot of their own step they stand as they were measured. So its features go along: a classifier of means
 * sees the unit features of the first steps' snapshots, side by side, and last the network's own, with one mean and one covariance of all of
 * them together, at the price of one network more an expert and image. A class is measured exactly in every expert that was
 * there when it came; only in those that came later, and in the network, its statistics are carried over (prototypes.h).
 * Which they are is settled step by step: each step has those of the one before, and the snapshot of that one while there is room. So
 * they are the first ones there were since experts are asked for; a step with fewer drops the last of them for those after it too.
 */
#ifndef ACCRETED_CORE_M2KD_EXPERTS_H
#define ACCRETED_CORE_M2KD_EXPERTS_H

#include "core/model/model.h"

/* Loads the experts of `m`, whose snapshots stand in `folder` by their names; nothing, where they are loaded or there are none. Their
 * own experts are not loaded, and their statistics are dropped: they lend their features, and classify nothing. Blocks on the disk.
 * Errors: ERR_CORRUPT when a snapshot is missing; ERR_FORMAT when m does not continue it (model_continues); those of snapshot_load. */
int experts_load(struct model *m, const char *folder, enum conv_isa isa);

#endif
