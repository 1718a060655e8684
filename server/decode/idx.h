/*
 * idx.h - a data set in two IDX files (images and labels, as MNIST's), plain or gzipped, in memory.
 *
 * Images are unsigned bytes in 3 dimensions (count, height, width): magic 00 00 08 03; labels
 * unsigned bytes in 1 dimension: 00 00 08 01. Magic, dimensions, both counts and the exact lengths
 * must agree; a byte too much or too few refuses the whole. Read in one pass, one image in memory.
 * Any thread.
 */
#ifndef ACCRETED_SERVER_DECODE_IDX_H
#define ACCRETED_SERVER_DECODE_IDX_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "server/span.h"

enum { IDX_MAX_IMAGES = 1000000, IDX_MAX_SIDE = 1024 };

struct idx;

/* Both ranges are borrowed until idx_free. Errors: ERR_NOMEM; ERR_FORMAT, then *why says what is
 * wrong (static text). */
int idx_new(struct idx **out, struct span images, struct span labels, const char **why);
void idx_free(struct idx *x); /* NULL is fine */

/* Which label values occur, ahead of idx_new: *present has 256 entries. ERR_NOMEM; a damaged file
 * only shows fewer. */
int idx_values(struct span labels, bool present[256]);

int idx_height(const struct idx *x);
int idx_width(const struct idx *x);

/* The next image (height, width), borrowed until the next call, and its label 0..255. Returns 1; 0
 * after the last one, when both files end there too; ERR_FORMAT with *why. */
int idx_next(struct idx *x, const uint8_t **pixels, int *label, const char **why);

#endif
