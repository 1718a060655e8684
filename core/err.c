/*
 * err.c - names of the error codes, for logs.
 */
#include "core/err.h"

const char *err_str(int code)
{
    if (code == 0)
        return "success";
    switch ((enum err)code) {
    case ERR_NOMEM:
        return "out of memory";
    case ERR_INVALID:
        return "invalid argument";
    case ERR_IO:
        return "input or output failed";
    case ERR_NOSPACE:
        return "no space left";
    case ERR_FORMAT:
        return "unexpected file format";
    case ERR_CORRUPT:
        return "damaged file";
    case ERR_MISSING:
        return "not found";
    case ERR_CANCELLED:
        return "cancelled";
    case ERR_STOPPED:
        return "stopped";
    case ERR_DIVERGED:
        return "training diverged";
    case ERR_NUMERIC:
        return "linear system without a solution";
    }
    return "unknown error";
}
