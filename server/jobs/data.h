/*
 * data.h - from a job's packs to the arrays the learner takes.
 *
 * Worker threads; blocks on the disk and decodes. The command word is polled after each image.
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
/* The exemplars there are, for the caller to close, and the version that kept them. ERR_MISSING: none; others as pack_open.
 * Blocks shortly. */
int data_exemplars_open(const char *data_dir, struct pack **out, int64_t *version);
/* Removes the exemplars of every version but `version` (0: of all). Blocks. ERR_IO. */
int data_forget(const char *data_dir, int64_t version);
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
