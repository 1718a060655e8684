/*
 * ingest.h - a spooled upload becomes a batch: parse, check every file, write the packs.
 *
 * Runs on a worker thread, blocks on the disk, uses flat memory whatever the size of the upload. Nothing is changed
 * in the data directory unless it succeeds: packs are written under tmp/ and renamed last.
 */
#ifndef ACCRETED_SERVER_DECODE_INGEST_H
#define ACCRETED_SERVER_DECODE_INGEST_H

#include <stdbool.h>
#include <stdint.h>

#include "server/store/batches.h"

enum ingest_format { INGEST_TAR, INGEST_MULTIPART };

struct ingest_request {
    const char *spool_path;
    uint64_t spool_bytes;
    enum ingest_format format;   /* a multipart body may hold label/image parts, or images/labels in IDX */
    const char *content_type;    /* for the multipart boundary */
    const char *data_dir;
    uint64_t max_image_bytes;
    bool test_split;             /* all images are test images */
    double holdout;              /* share of each class put aside as test images, 0..0.9 */
    const char *classes;         /* IDX: "0,1": label values to take; NULL = all */
    const char *names;           /* IDX: "t-shirt,trouser": their names, same order; NULL = the digits */
};

struct ingest_error { /* why the whole upload was refused */
    int status;           /* HTTP */
    char code[48];
    char detail[512];
};

/* On success fills *out (without id and name, created_ms set) and the packs batches/<hash>.train / .test are durable.
 * On failure fills *error and returns negative; nothing was changed. */
int ingest(const struct ingest_request *req, struct batch *out, struct ingest_error *error);

/* A label: 1..64 bytes of valid UTF-8, no control characters, no '/', '\\', not starting or ending with a space or
 * starting with '.'. */
bool label_valid(const char *label);

#endif
