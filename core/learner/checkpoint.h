/*
 * checkpoint.h - where an interrupted job goes on: the state at the end of an epoch, in one file.
 *
 * Random streams are counter-based, so the epoch number is all that need be known of them.
 */
#ifndef ACCRETED_CORE_LEARNER_CHECKPOINT_H
#define ACCRETED_CORE_LEARNER_CHECKPOINT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct checkpoint {
    uint64_t fingerprint;   /* of everything that determines the result but kernel and gang */
    char kernel[16];
    int32_t gang;
    int32_t epochs_done;    /* of training, then of retraining too */
    bool mixed;             /* some of them ran under another kernel or gang */
    uint64_t param_count;   /* floats of a parameter block */
    float *params;          /* what is being trained */
    float *velocity;
    float *dense;           /* the finished dense parameters while the pruned copy is retrained, else NULL */
};

/* Writes durably. Blocks on the disk. Errors as container_write. */
int checkpoint_save(const struct checkpoint *c, const char *path);

/* Reads into c->params, c->velocity and c->dense, which the caller provides with room for c->param_count floats; *has_dense
 * tells whether dense was there. c->fingerprint must match what was saved (else ERR_FORMAT).
 * Errors as container_read. On an error the arrays' contents are undefined. */
int checkpoint_load(struct checkpoint *c, const char *path, bool *has_dense);

#endif
