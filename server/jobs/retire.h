/*
 * retire.h - taking a retired class out of the files: its test images, its exemplars, its prototype.
 *
 * Before the commit that retires it, packs without its images are written under new names, so that a
 * crash leaves the old ones or the new ones (whichever no row names is swept at the next start). What
 * the commit does not name by file is erased after it; rows with erased = 0 say that this is still to
 * be done, and the next start does it, before anything is loaded: snapshots of the shared store name
 * the one below by its checksum, and are changed with it, oldest first. Blocks on the disk; worker
 * threads, and main.c's at the start.
 */
#ifndef ACCRETED_SERVER_JOBS_RETIRE_H
#define ACCRETED_SERVER_JOBS_RETIRE_H

#include <stdatomic.h>
#include <stdint.h>

#include "server/store/batches.h"
#include "server/store/classes.h"

/* A batch whose test images are written anew without one class. */
struct retire_pack {
    struct batch batch;         /* as it is; owned */
    char hash[HASH_HEX_BYTES];  /* of what will be left of it */
    int64_t test_bytes;         /* of the new pack; 0: no image is left */
    int64_t images;             /* left out */
};

/* Writes batches/<p->hash>.test, durably, without the images of class `label`, and sets the fields
 * after `batch`. ERR_MISSING, ERR_CORRUPT, ERR_FORMAT: the pack there is cannot be read; ERR_STOPPED:
 * *stop was set; ERR_IO, ERR_NOSPACE, ERR_NOMEM. Nothing is left behind then. */
int retire_pack_write(const char *data_dir, const char *label, const atomic_bool *stop,
                      struct retire_pack *p);
/* Removes what retire_pack_write made: the commit did not come. */
void retire_pack_undo(const char *data_dir, const struct retire_pack *p);

struct retire_erase { /* what is to be erased; arrays owned */
    struct class_file *files;
    int file_count;
    char (*names)[LABEL_BYTES];
    int name_count;
    struct rename *renames;
    int rename_count;
    int64_t exemplars; /* images erased */
};

/* Reads what rows say is still to be erased. */
int retire_erase_load(struct db_txn *t, struct retire_erase *e);
/* Prototypes in models/ and snapshots/, images in exemplars/. Goes on after an error and returns the
 * first: then it is to be done again. Once *stop is set it ends after the file it is at, with
 * ERR_STOPPED. */
int retire_erase_run(const char *data_dir, const atomic_bool *stop, struct retire_erase *e);
void retire_erase_release(struct retire_erase *e);

/* At the start: all of it. What cannot be done is logged and left for the next time. */
void retire_recover(struct db *db, const char *data_dir);

#endif
