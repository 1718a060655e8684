/*
 * teachers.h - the earlier models teaching the current one: snapshots, rebuilt from their files, and the model built on.
 *
 * TEACHERS_ALL: snapshot i teaches the classes that step i introduced, on the main logits and at every tap.
 * TEACHERS_LAST: the newest snapshot teaches all old classes (the control).
 * Teachers see the very views the student is trained on, fresh ones in every epoch. With many teachers that costs
 * more than the training itself, so each view may be shown to only a few of them, `per_image`, in turn:
 * the views of a batch go to them in chunks of 16, and the next batch begins with the next of them. Weighted by the inverse of
 * that share, the distillation loss is the same in expectation, and a step's cost hardly depends on how many came before.
 * The base, the model that is built on, teaches its features; with `per_image` those of one chunk of views in four (fewer where a
 * batch is smaller than four), which weigh four times as much. It is there for these views anyway and, unlike its snapshot, whole:
 * so of all old classes its logits teach them, with the weight of one, and no snapshot. Where it sees every view it teaches no logits.
 */
#ifndef ACCRETED_CORE_M2KD_TEACHERS_H
#define ACCRETED_CORE_M2KD_TEACHERS_H

#include <stdatomic.h>

#include "core/model/frozen.h"

enum teachers_which { TEACHERS_ALL, TEACHERS_LAST };

struct teachers;

struct teachers_options {
    enum teachers_which which;
    int per_image; /* each view goes to so many snapshots, in turn; 0 = to all of them */
    enum conv_precision precision; /* of their convolutions; the error of bf16 is less than that of a snapshot in few bits */
    const struct resnet *student; /* whom they teach; not used after teachers_new */
    int old_classes; /* the first so many of its outputs, which are theirs to teach */
    const struct model *base; /* of the old classes; NULL: none. Not used after teachers_new */
    int member_count, batch_max;
    enum conv_isa isa;
    const atomic_int *command; /* borrowed; may be NULL */
};

/* Loads `count` >= 1 snapshots (oldest first) for batches of up to `batch_max` images and `member_count` threads.
 * Blocks on the disk. Errors: those of snapshot_load; ERR_FORMAT when the files, or the base, are not of the student's network,
 * or the files not of consecutive steps that end with the old classes; ERR_INVALID where the CPU lacks the
 * precision; ERR_CANCELLED once `command`, polled for each of them, is not 0. */
int teachers_new(struct teachers **out, const char *const *paths, int count,
                 const struct teachers_options *options);
void teachers_free(struct teachers *t);

/* Logits, and the base's features, of the views x[0..n-1] (normalised images), kept as rows at..at+n-1 of batch number `batch`. Members may call it
 * at once for different rows. With `taps` false only the main head is computed. Once the command word is not 0 they are not
 * computed: the batch must not be used. */
void teachers_forward(struct teachers *t, int member, int batch, int at, int n, const float *x,
                      bool taps);

/* Row `at` of head `head`: teachers_classes floats, of which those of its teachers are valid; the next row follows. */
const float *teachers_logits(const struct teachers *t, int head, int at);
int teachers_classes(const struct teachers *t);

/* Whose logits row `at` of batch `batch` has: of teachers_per_row teachers, number `which` of which taught the classes
 * [*first, *end). Within these a softmax is taken. */
int teachers_per_row(const struct teachers *t, int batch, int at);
void teachers_of_row(const struct teachers *t, int batch, int at, int which, int *first, int *end);
/* The number of snapshots over those the row is shown to, or 1 of the base: the weight that keeps the loss unbiased. */
float teachers_weight(const struct teachers *t, int batch, int at);

/* The base's features of row `at` of batch `batch`, not normalised; NULL if it was not shown to the base. The weight that keeps
 * their loss unbiased. */
const float *teachers_features(const struct teachers *t, int batch, int at);
float teachers_features_weight(const struct teachers *t);

#endif
