/*
 * err.h - the one error enum of the learning engine.
 *
 * Every fallible function of core/ returns 0 or one of these (all negative). Results go to
 * `out` parameters, written only on success. Nothing in core/ prints or exits.
 */
#ifndef ACCRETED_CORE_ERR_H
#define ACCRETED_CORE_ERR_H

enum err {
    ERR_NOMEM = -1,     /* an allocation failed */
    ERR_INVALID = -2,   /* misuse: a parameter outside its documented range; state is unchanged */
    ERR_IO = -3,        /* a system call on a file failed; errno tells which way */
    ERR_NOSPACE = -4,   /* the disk (or quota) is full */
    ERR_FORMAT = -5,    /* a file is not of the expected kind, version or shape */
    ERR_CORRUPT = -6,   /* a checksum or length does not match: the file is damaged */
    ERR_MISSING = -7,   /* no such file or record */
    ERR_CANCELLED = -8, /* the caller's command word asked to cancel */
    ERR_STOPPED = -9,   /* the caller's command word asked to stop; the last checkpoint, if any, stays */
    ERR_DIVERGED = -10, /* the loss became infinite or not a number */
    ERR_NUMERIC = -11,  /* a linear system could not be solved */
};

/* One lower-case English sentence fragment for `code`, for logs. Static storage; any thread. */
const char *err_str(int code);

#endif
