/*
 * versions.h - rows of the versions, and what was measured on them.
 *
 * Versions form a tree: each builds on its parent, one is active. A version that refines another one, with more images of the classes it
 * knows, stands beside it: a child of the same parent, the same step, with no class of its own. Classes belong to the chain from a
 * version up to the first; two branches may use the same output indices and names. A discarded
 * version keeps its row, for its job and its number, and is missing for every function here.
 *
 * Functions take the connection: db_reader() on the loop, or the txn of a write function.
 */
#ifndef ACCRETED_SERVER_STORE_VERSIONS_H
#define ACCRETED_SERVER_STORE_VERSIONS_H

#include <stdbool.h>
#include <stdint.h>

#include "core/learner/learner.h"
#include "server/store/batches.h"
#include "server/store/classes.h"
#include "server/store/db.h"

/* SQL, to stand before a SELECT: in chain (v, ...), the versions for which `which` holds, and all they build on or refine: the
 * classes of these are theirs. */
#define VERSIONS_CHAIN(which)                                                                      \
    "WITH RECURSIVE chain (v, p, r) AS (SELECT version, parent, refines FROM versions "            \
    "WHERE " which " UNION SELECT version, parent, refines FROM versions "                         \
    "JOIN chain ON version IN (p, r)) "

struct version {
    int64_t version, parent; /* parent 0: the first step */
    int64_t refines;         /* of the same parent and step; 0: it is a step of its own */
    int64_t job;
    int step;                /* from 1 */
    bool active;
    bool published;          /* active, or once was */
    bool dense_kept;         /* its dense model is still a file; else it is its snapshot */
    bool from_snapshot;      /* what served last was rebuilt from the snapshot; in a chain: when
                                the next one was made */
    int children;            /* versions that build on it */
    bool shared;             /* its snapshot is of the shared store */
    int classes;             /* outputs of its network: known after it, retired ones too */
    int experts;             /* earlier snapshots whose features its classifier sees: so many networks more a prediction */
    int64_t model_bytes, snapshot_bytes, dense_bytes;
    double sparsity;
    double accuracy_dense, accuracy_pruned; /* over all test images; NaN: there were none */
    int64_t created_ms;
    double train_seconds;
};

struct class_score { /* one class under one version */
    int64_t version;
    int class_index;
    int64_t total, correct;
};

struct confusion_cell {
    int true_class, predicted_class;
    int64_t count;
};

/* ---- reading; arrays are for the caller to free ---- */
int versions_active(struct db_txn *t, struct version *out);              /* ERR_MISSING: none yet */
int versions_get(struct db_txn *t, int64_t version, struct version *out); /* ERR_MISSING */
/* Newest first, below `before` (0 = from the newest). */
int versions_list(struct db_txn *t, int64_t before, int limit, struct version **out, int *count);
/* The chain of parents that ends in `version` (0: the active one), oldest first; empty before the
 * first. */
int versions_chain(struct db_txn *t, int64_t version, struct version **out, int *count);
/* A number no version has had, for the next one. */
int versions_next(struct db_txn *t, int64_t *out);
/* What the gate said of it, JSON, for the caller to free; NULL: there was none, or no such version.
 */
int versions_gate(struct db_txn *t, int64_t version, char **out);
bool versions_exists(struct db_txn *t, int64_t version);
/* Numbers of all that serve or once did, discarded ones too: the active one, then from the newest
 * on. */
int versions_served(struct db_txn *t, int64_t **out, int *count);
/* Whether it served, or is there and may yet: then its exemplars stay (server/jobs/data.h). True
 * where the store cannot tell. */
bool versions_keeps_exemplars(struct db_txn *t, int64_t version);

/* Scores of the active version's chain, by version, then class: of the dense model or of the
 * snapshot, as from_snapshot says. */
int evaluations_chain(struct db_txn *t, struct class_score **out, int *count);
/* Scores of the active version alone, by class. */
int evaluations_active(struct db_txn *t, struct class_score **out, int *count);
/* Of the dense model or of the snapshot. */
int confusion_list(struct db_txn *t, int64_t version, bool pruned, struct confusion_cell **out,
                   int *count);

/* ---- writing ---- */

/* The version, its classes first .. v->classes-1, none where it refines another one, called names[first ..], and what was measured on
 * the dense model and on the snapshot. An active one takes over from the active one before it, and
 * its ancestors' dense models are not kept any longer: the caller deletes the files. */
int versions_insert(struct db_txn *t, const struct version *v, const char *const *names, int first,
                    const struct evaluation *dense, const struct evaluation *pruned);
int versions_set_gate(struct db_txn *t, int64_t version, const char *json);
/* Makes it the active one, published. ERR_MISSING. */
int versions_activate(struct db_txn *t, int64_t version);
/* ERR_MISSING; ERR_INVALID: it is active, another one or a running job builds on it. */
int versions_discard(struct db_txn *t, int64_t version);

#endif
