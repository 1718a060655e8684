/*
 * classes.h - rows of the classes: what they are called, and which are retired.
 *
 * A class is known by its output index within the chain of versions from the one that learned it on, and in those that refine one of
 * them (versions.h). Its
 * name is what strangers know it by, and the same on every branch: rename and retire change all rows of that name.
 * A retired class keeps its row and its index, and its name is free again. What pack files call a class stands in
 * batch_classes.stored; what exemplar files call it, in the renames since.
 *
 * Functions take the connection: db_reader() on the loop, or the txn of a write function.
 */
#ifndef ACCRETED_SERVER_STORE_CLASSES_H
#define ACCRETED_SERVER_STORE_CLASSES_H

#include <stdbool.h>
#include <stdint.h>

#include "server/store/batches.h"
#include "server/store/db.h"

struct class_row {
    int64_t id;      /* for good */
    int class_index; /* output of the network */
    int position;    /* among the classes that are not retired, from 0: output of what serves; -1: retired */
    char name[LABEL_BYTES];
    int64_t since_version;
    int step;
    int64_t test_images; /* kept for it, in all batches */
};

/* Its name while it is predicted; NULL: it is retired. */
static inline const char *class_live_name(const struct class_row *c)
{
    return c->position < 0 ? NULL : c->name;
}

struct rename {
    char old[LABEL_BYTES], new[LABEL_BYTES];
    int64_t before_version;
};

struct class_file { /* a file of `version` still holds what is to be erased of class `class_index` */
    int64_t version;
    int class_index;
};

/* ---- reading; arrays are for the caller to free ---- */

/* Classes that `version` (0: the active one) knows, by output index, 0 .. *count-1, retired ones too. */
int classes_of(struct db_txn *t, int64_t version, struct class_row **out, int *count);
/* How many of these are not retired. */
int classes_live(const struct class_row *classes, int count);
/* The class of the active version that is called `name`. ERR_MISSING. */
int classes_find(struct db_txn *t, const char *name, struct class_row *out);
/* Who has the name `name` already: a class that is not retired (*version, the first that knows it), or a batch with images under
 * it (*batch). ERR_MISSING: nobody. */
int classes_name_owner(struct db_txn *t, const char *name, int64_t *version,
                       char batch[BATCH_NAME_BYTES]);

/* Whether another version than `version` that was not discarded knows the class of this id. */
int classes_known_beside(struct db_txn *t, int64_t id, int64_t version, bool *known);

/* Every rename, oldest first. */
int renames_list(struct db_txn *t, struct rename **out, int *count);
/* What a class is called now that the exemplar file of `version` calls `label`; borrowed from the arguments. */
const char *renames_apply(const struct rename *renames, int count, const char *label,
                          int64_t version);

/* What is retired and not erased yet: output indices by version, and the names. */
int classes_to_erase(struct db_txn *t, struct class_file **out, int *count);
int classes_to_erase_names(struct db_txn *t, char (**out)[LABEL_BYTES], int *count);

/* ---- writing ---- */

/* Classes, and what batches hold of them. ERR_MISSING: no class is called `old`. */
int classes_rename(struct db_txn *t, const char *old, const char *new);
/* Retires every class called `name`, and deletes what was measured of it; versions' accuracies are of what is left.
 * ERR_MISSING. */
int classes_retire(struct db_txn *t, const char *name);
/* The files hold nothing any more of what is retired. */
int classes_set_erased(struct db_txn *t);

#endif
