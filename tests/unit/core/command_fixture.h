/*
 * command_fixture.h - a command word that is set while something is at work.
 */
#ifndef ACCRETED_TESTS_COMMAND_FIXTURE_H
#define ACCRETED_TESTS_COMMAND_FIXTURE_H

#include <signal.h>
#include <stdatomic.h>
#include <sys/time.h>

enum { COMMAND_MOMENT_MS = 20 };

static atomic_int command_word;

static inline void command_give(int signal)
{
    (void)signal;
    atomic_store(&command_word, 1);
}

/* A word that is set after a moment of this process's CPU time, however busy the machine is. */
static inline const atomic_int *command_in_a_moment(void)
{
    const struct itimerval moment = {.it_value = {.tv_usec = COMMAND_MOMENT_MS * 1000}};
    atomic_store(&command_word, 0);
    assert_true(signal(SIGVTALRM, command_give) != SIG_ERR);
    assert_int_equal(setitimer(ITIMER_VIRTUAL, &moment, NULL), 0);
    return &command_word;
}

#endif
