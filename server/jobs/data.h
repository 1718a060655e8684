/*
 * data.h - from a job's packs to the arrays the learner takes.
 *
 * Worker threads; blocks on the disk and decodes. The command word is polled after each image.
 *
 * Exemplars, images kept of classes that were learned, are one pack a version, exemplars/<version>,
 * written before its row. Which of them is replayed, or shown, the database says, not the folder:
 *
 *   - In force is the active version's. Where it has none, that of the newest version that has one
 *     and serves or once did, discarded since or not: after a step back to a version whose file is
 *     gone, images of its classes are in the file that replaced it. Of that, only classes that the
 *     base knows are replayed.
 *   - That of a version that never served (held back, or finished after a step back) is not in
 *     force. It waits: activating the version puts it in force, discarding the version deletes it.
 *   - A job that publishes deletes those of all versions that served before it, on every branch,
 *     whether it keeps any or not. Activating a version, and discarding one that served, delete
 *     none: the way there and back loses nothing.
 */
#ifndef ACCRETED_SERVER_JOBS_DATA_H
#define ACCRETED_SERVER_JOBS_DATA_H

#include <stdatomic.h>

#include "core/learner/dataset.h"
#include "server/jobs/plan.h"

struct pack;

struct data_source {
    const char *data_dir;
    const struct plan *plan;
    atomic_int *command; /* enum learner_command */
};

/* Sets channels, height and width where the options leave them open: the images' own when all
 * training images have one size of 8 to 64 pixels a side (colour if any is), else 3x32x32. Errors:
 * as data_train. */
int data_choose_input(const struct data_source *s, struct job_options *o, struct refusal *why);

struct data_origin { /* where an image of the data set comes from */
    int pack;  /* a batch of the plan, or plan->train_count: the exemplars */
    int index; /* in the pack */
};

struct data_set {
    struct dataset images;
    int exemplars;               /* the last of them: kept images of classes that are known */
    int64_t exemplars_version;   /* whose they are */
    struct data_origin *origins; /* owned; one an image */
};

/* Every training image, then, if the options ask for exemplars, those kept of known classes; fitted to the input.
 * ERR_INVALID fills *why (corrupt_batch, corrupt_exemplars); ERR_CANCELLED, ERR_STOPPED, ERR_NOMEM, ERR_IO. */
int data_train(const struct data_source *s, const struct job_options *o, struct data_set *out,
               struct refusal *why);
void data_set_release(struct data_set *d); /* a zeroed struct is fine */

/* Writes the images kept[0 .. count-1] of `d`, as they were uploaded, as the exemplars of the plan's version, durably; no
 * file when count is 0. Errors: ERR_IO, ERR_NOSPACE, ERR_NOMEM, ERR_CORRUPT. */
int data_keep(const struct data_source *s, const struct data_set *d, const int *kept, int count);
/* The exemplars in force, for the caller to close, and the version that kept them; `served` as
 * versions_served() gives it. ERR_MISSING: none; others as pack_open. Reads all but the images, 48
 * bytes for each of them. */
int data_exemplars_open(const char *data_dir, const int64_t *served, int count, struct pack **out,
                        int64_t *version);

struct data_exemplars_total {
    int64_t images, bytes; /* of files; one that cannot be read has bytes alone */
};

/* What the files of all versions hold but that of `version` (0: of none). ERR_IO. Reads as much of
 * each. */
int data_exemplars_count(const char *data_dir, int64_t version, struct data_exemplars_total *out);
/* Removes those of `versions`, durably. Blocks. Goes on after an error: ERR_IO, ERR_NOSPACE,
 * ERR_NOMEM; the next job tries again. */
int data_exemplars_forget(const char *data_dir, const int64_t *versions, int count);
/* Removes all, in the same way. */
int data_exemplars_remove(const char *data_dir);
/* The test images of every class that is known or learned now. A pack that cannot be read is left
 * out, with a warning in the log: measuring less is better than never learning again. */
int data_test(const struct data_source *s, const struct job_options *o, struct dataset *out);

/* Deletes the training images of a batch that was consumed; a failure is logged, and the next start
 * tries again. */
void data_delete_training(const char *data_dir, const struct batch *b);

/* "<data_dir>/<folder>/<name><suffix>" with `name` a hash or a number. */
void data_path(char *out, size_t out_bytes, const char *data_dir, const char *folder,
               const char *name, const char *suffix);
void data_path_number(char *out, size_t out_bytes, const char *data_dir, const char *folder,
                      int64_t number);

#endif
