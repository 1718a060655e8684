/*
 * ingest.h - a spooled upload becomes a batch: parse, check every file, write the packs.
 *
 * Runs on a worker thread, blocks on the disk. The upload is mapped and read from front to back;
 * what is held in memory is a window of it, one image, and about 50 bytes for each accepted one.
 * Nothing is changed outside tmp/ until ingest_publish.
 *
 * Every file gets a verdict: accepted, or
 *   rejected   unknown_format, damaged_image, image_too_large, empty_file, file_too_large,
 *              bad_path, not_a_regular_file, no_label, conflicting_label
 *   duplicate  duplicate_image: the same pixels under the same label came before
 *   ignored    hidden_file: a name beginning with a dot (AppleDouble, .DS_Store)
 * The upload as a whole is refused (struct ingest_error) when nothing in it is acceptable, when a
 * class it names ends up empty, when a label is not valid, or when it cannot be parsed.
 */
#ifndef ACCRETED_SERVER_DECODE_INGEST_H
#define ACCRETED_SERVER_DECODE_INGEST_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "server/store/batches.h"

enum ingest_format {
    INGEST_TAR,
    INGEST_MULTIPART, /* parts label and image, or images and labels in IDX */
    INGEST_SINGLE,    /* one body: an image by its first bytes, CIFAR by its size, else tar */
    INGEST_IMAGE,     /* one image, of class `label` */
    INGEST_CIFAR10,
    INGEST_CIFAR100,
};

enum {
    INGEST_MAX_CLASSES = 1000,
    INGEST_MAX_IMAGES = 1000000,
    INGEST_MAX_VERDICTS = 100, /* listed; the counts are of all */
};

struct ingest_request { /* all borrowed */
    const char *spool_path;
    uint64_t spool_bytes;
    enum ingest_format format;
    const char *content_type;    /* for the multipart boundary */
    const char *data_dir;
    const char
        *name; /* of the batch; NULL: "batch-" and the first 12 digits of its content's hash */
    uint64_t max_image_bytes;
    uint64_t min_free_bytes;     /* stop before the disk has less than this */
    bool test_split;             /* all images are test images */
    double holdout;              /* share of each class put aside as test images, 0..0.9 */
    const char *classes; /* data sets: "0,1": label values to take; NULL = all */
    const char *names;   /* data sets: "t-shirt,trouser", in their order; NULL = the digits */
    const char *label;   /* one image: its class; NULL with all other forms */
    const atomic_bool *stop; /* once true, it ends with ERR_STOPPED; NULL: never */
};

struct ingest_error { /* why the whole upload was refused */
    int status;           /* HTTP */
    char code[48];
    char detail[512];
};

/* A batch that is ready to be published: its packs lie in tmp/, fsynced. */
struct ingest_result {
    struct batch batch;        /* all but id, state and request_hash */
    char train_path[4352];     /* "" = no training images */
    char test_path[4352];
};

/* BLAKE2b-256 (hex) of the body as sent and of the options that change what is made of it. Reads
 * the whole spool. Negative: *error is filled. */
int ingest_fingerprint(const struct ingest_request *req, char hash[HASH_HEX_BYTES],
                       struct ingest_error *error);

/* On failure fills *error and returns negative; nothing is left behind. On success call
 * ingest_publish and/or ingest_release. */
int ingest(const struct ingest_request *req, struct ingest_result *out, struct ingest_error *error);

/* Renames the packs durably to <data_dir>/batches/<hash>.train and .test. Blocks on the disk.
 * ERR_IO, ERR_NOSPACE: neither is left there. */
int ingest_publish(struct ingest_result *result, const char *data_dir);

/* Removes what was not published, frees the batch. */
void ingest_release(struct ingest_result *result);

/* A label: 1..64 bytes of valid UTF-8, no control characters, no '/', '\\', not starting or ending
 * with a space or starting with '.'. */
bool label_valid(const char *label);

#endif
