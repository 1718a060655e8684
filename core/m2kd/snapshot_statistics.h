/*
 * snapshot_statistics.h - how a snapshot's file holds a model's prototypes and covariance. Private to snapshot.c, snapshot_read.c and
 * model/retire.c.
 *
 * In one of two forms. Coded (statistics.h) they are as exact as a classifier can tell and take a quarter of the bytes: what a step leaves.
 * In halves they are for jobs that bring more images of known classes: each moves them a little, which must not be less than a code's
 * step; and for numbers that have no codes, such as an import may bring. A file is written in the form that has these very floats.
 */
#ifndef ACCRETED_CORE_M2KD_SNAPSHOT_STATISTICS_H
#define ACCRETED_CORE_M2KD_SNAPSHOT_STATISTICS_H

#include <stdbool.h>

#include "core/model/model.h"
#include "core/storage/container.h"

/* Coded, or in halves: the sections of either form. */
#define SECTION_COVARIANCE CONTAINER_ID('C', 'O', 'V', 'F')
#define SECTION_MEANS CONTAINER_ID('M', 'E', 'A', 'N')
#define SECTION_COVARIANCE_HALVES CONTAINER_ID('C', 'O', 'V', 'H')

/* Rounds prototypes and covariance to what codes hold, or halves where there are none for them. Errors: ERR_NOMEM. */
int statistics_round_coded(struct model *m);
/* To what halves hold. Errors: ERR_NOMEM. */
int statistics_round_halves(struct model *m);

struct packed_statistics {
    void *covariance, *prototypes; /* what the sections borrow */
    struct container_section sections[2];
};

/* The sections of prototypes and covariance of `m`, all of them finite. Errors: ERR_INVALID (neither form has these floats), ERR_NOMEM; nothing
 * to release then. */
int statistics_pack(const struct model *m, struct packed_statistics *out);
void packed_statistics_release(struct packed_statistics *p);
/* Whether `id` is a section of prototypes or covariance, of whatever form. */
bool statistics_section(uint32_t id);

/* Prototypes and covariance of `m` from its file. Errors: ERR_FORMAT, ERR_CORRUPT (codes that no writer makes, floats that are not finite), ERR_NOMEM. */
int statistics_restore(struct model *m, const struct container *c);

/* In section MEAN of `c`, which is *means, zeroes the prototypes of these classes, which there are. The section borrows *bytes then, the caller's
 * to free. *changed: one was not zero. Errors: as statistics_restore. */
int statistics_forget(const struct container *c, const int *classes, int count,
                      struct container_section *means, void **bytes, bool *changed);

#endif
