/*
 * command.h - the word by which a caller ends what takes long.
 *
 * 0: go on. Anything else: give up; whoever set it knows why. It may change at any time, from any
 * thread.
 */
#ifndef ACCRETED_CORE_COMMAND_H
#define ACCRETED_CORE_COMMAND_H

#include <stdatomic.h>
#include <stddef.h>

#include "core/err.h"

/* 0, or ERR_CANCELLED once the word, which may be NULL, is set. For loops: it costs one read. */
static inline int command_poll(const atomic_int *command)
{
    return command && atomic_load_explicit(command, memory_order_relaxed) ? ERR_CANCELLED : 0;
}

#endif
