/*
 * selection.h - private to ingest: which label values of a data set are taken, and what they are
 * called: ?classes=0,1 and ?names=t-shirt,trouser.
 *
 * Pure functions, any thread.
 */
#ifndef ACCRETED_SERVER_DECODE_SELECTION_H
#define ACCRETED_SERVER_DECODE_SELECTION_H

#include <stdbool.h>

#include "server/decode/ingest.h"

struct selection {
    int class_of[256]; /* value -> position among those taken, -1 = not taken */
    char labels[256][LABEL_BYTES];
    int count;
    bool strict;       /* a value that is not taken is an error, not passed over */
};

/* From the request's classes and names; without both the values `present` (256 entries), in
 * ascending order, under their digits. Without `classes` but with `names`, these are the names of
 * 0, 1, 2 ... and every value needs one. Negative: *error is filled. */
int selection_init(struct selection *s, const struct ingest_request *req, const bool *present,
                   struct ingest_error *error);

/* Whether the request says it all, and selection_init looks at no `present`. */
bool selection_given(const struct ingest_request *req);

/* Position of a value of the data, or -1: passed over. ERR_INVALID: strict; *error is filled. */
int selection_find(const struct selection *s, int value, int *position, struct ingest_error *error);

#endif
