/*
 * cifar.h - CIFAR binary files: records of a label and a 32x32 colour image, back to back.
 *
 * CIFAR-10 has 3073 bytes a record: label 0..9, then red, green and blue as planes. CIFAR-100 has
 * 3074: coarse label 0..19, fine label 0..99, planes; the fine label is the one that counts. Several
 * files may be sent as one, and the whole may be compressed (unpack.h). Strict: a label out of its
 * range or a part of a record refuses the whole. Any thread.
 */
#ifndef ACCRETED_SERVER_DECODE_CIFAR_H
#define ACCRETED_SERVER_DECODE_CIFAR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "server/span.h"

enum { CIFAR_SIDE = 32, CIFAR_CHANNELS = 3, CIFAR_PIXEL_BYTES = 3 * 32 * 32 };

enum cifar_format { CIFAR_NONE, CIFAR_10, CIFAR_100 };

/* What the unpacked bytes may be by their number: one of the two, CIFAR_NONE for neither. Both fit
 * (a multiple of 3073 * 3074 bytes): *ambiguous. Also CIFAR_NONE for what begins as a tar archive
 * or does not unpack. Reads what is compressed to its end. ERR_NOMEM. */
int cifar_detect(struct span body, enum cifar_format *out, bool *ambiguous);

struct cifar;

/* The body is borrowed until cifar_free. ERR_NOMEM. */
int cifar_new(struct cifar **out, enum cifar_format format, struct span body);
void cifar_free(struct cifar *c); /* NULL is fine */

/* The next image (32, 32, 3), borrowed until the next call, and its label. Returns 1; 0 after the
 * last one; ERR_FORMAT with *why (borrowed until cifar_free); ERR_NOMEM. */
int cifar_next(struct cifar *c, const uint8_t **pixels, int *label, const char **why);

/* Which labels occur, ahead of cifar_new: *present has 256 entries. ERR_NOMEM; a damaged file only
 * shows fewer. */
int cifar_values(enum cifar_format format, struct span body, bool present[256]);

#endif
