/*
 * retire.h - classes a model is no longer to answer, though its weights have learned them.
 *
 * A retired class keeps its output index, since those of the classes behind it are written down in snapshots and
 * measurements; its prototype is gone, and no score of it is ever the best one. What serves and what is exported is
 * a model without its rows (model_live).
 */
#ifndef ACCRETED_CORE_MODEL_RETIRE_H
#define ACCRETED_CORE_MODEL_RETIRE_H

#include <stdbool.h>

#include "core/model/model.h"
#include "core/storage/container.h"

/* Marks class `class_index` and zeroes its prototype and count of images. Before the model is shared. */
void model_retire(struct model *m, int class_index);
/* Gives `to` the normalisation and view of `from` and marks what is retired there, of the classes that both have. */
void model_inherit(struct model *to, const struct model *from);

/* `m` without the rows of what is retired: classes are numbered anew in their order, steps that have none left are
 * gone. A new reference on `m` itself where nothing is retired. Errors: ERR_INVALID (nothing would be left),
 * ERR_NOMEM. */
int model_live(struct model **out, struct model *m);

/* Zeroes the prototypes of these classes in a model file or a snapshot, and makes a snapshot of the shared store fit the
 * file below it again, which was changed before; *changed tells whether there was anything to do. Durable: a crash
 * leaves the old file or the new one. Blocks on the disk. Errors: those of container.h, ERR_FORMAT. */
int model_file_forget(const char *path, enum container_kind kind, const int *classes, int count,
                      bool *changed);

#endif
