/*
 * teachers.h - the earlier models, rebuilt from their snapshot files, teaching the current one.
 *
 * TEACHERS_ALL: snapshot i teaches the classes that step i introduced, on the main logits and at every tap.
 * TEACHERS_LAST: the newest snapshot teaches all old classes (the control).
 * Teachers see the very views the student is trained on, fresh ones in every epoch.
 */
#ifndef ACCRETED_CORE_M2KD_TEACHERS_H
#define ACCRETED_CORE_M2KD_TEACHERS_H

#include "core/model/frozen.h"

enum teachers_which { TEACHERS_ALL, TEACHERS_LAST };

struct teachers;

/* Loads `count` >= 1 snapshots (oldest first) for batches of up to `batch_max` images and
 * `member_count` threads. Blocks on the disk. Errors: those of snapshot_load; ERR_FORMAT when the
 * files are not of consecutive steps of one network. */
int teachers_new(struct teachers **out, const char *const *paths, int count,
                 enum teachers_which which, int member_count, int batch_max, enum conv_isa isa);
void teachers_free(struct teachers *t);

/* Logits of the views x[0..n-1] (normalised images), kept as rows at..at+n-1. Members may call it at once for
 * different rows. With `taps` false only the main head is computed. */
void teachers_forward(struct teachers *t, int member, int at, int n, const float *x, bool taps);

/* Row `at` of head `head`: teachers_classes floats, the next row follows. */
const float *teachers_logits(const struct teachers *t, int head, int at);
int teachers_classes(const struct teachers *t);

/* The groups of columns within which a softmax is taken: one a teacher. */
int teachers_group_count(const struct teachers *t);
void teachers_group(const struct teachers *t, int group, int *first, int *end);

#endif
