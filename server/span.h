/*
 * span.h - bytes in memory that are read from front to back: a request's body, or a spool file
 * that is mapped.
 *
 * The pages of a mapped file count as the process's memory once they are read, so a file of 2 GB
 * would weigh 2 GB. A reader says how far it came, and those behind it are given back; should
 * someone look there again, they come from the file anew.
 */
#ifndef ACCRETED_SERVER_SPAN_H
#define ACCRETED_SERVER_SPAN_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Steps in which a reader should go through a long span. */
enum { SPAN_STEP_BYTES = 1 << 20 };

/* Plain data: each reader has a copy of its own. The bytes are borrowed. */
struct span {
    const uint8_t *data;
    size_t size_bytes;
    bool mapped;         /* whole or part of a private, read-only mapping of a file */
    size_t passed_bytes; /* given back from the front */
    const atomic_bool *stop; /* once true, readers are to give up; NULL: never */
};

/* Whether readers are to give up: what they say then of the bytes does not count. Any thread. */
bool span_stopped(const struct span *s);

struct span span_of_memory(const void *data, size_t size_bytes);
/* A part of it: `data` lies in `whole`. */
struct span span_part(const struct span *whole, const void *data, size_t size_bytes);

/* The reader stands at `at`: what lies before is given back, once it is SPAN_STEP_BYTES. Any
 * thread; a system call for each step. */
void span_passed(struct span *s, const uint8_t *at);

#endif
