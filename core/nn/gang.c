/*
 * gang.c - see gang.h.
 *
 * Everything is one barrier: idle threads wait in it for work, gang_run publishes the work and
 * arrives, and all members meet in it again when they are done.
 *
 * The barrier counts arrivals and numbers its rounds. The last to arrive starts the next round;
 * the others watch the round number, first spinning (a step has many short phases, and a
 * neighbour is seldom more than microseconds behind), then asleep on a condition variable.
 */
#include "core/nn/gang.h"

#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <unistd.h>

#include "core/err.h"

/* Looks at the round number before sleeping: 2 to 10 microseconds, as long as a wake-up costs. */
enum { SPIN_COUNT = 150 };

struct gang;

struct member {
    struct gang *gang;
    int index;
    pthread_t thread; /* not used by member 0 */
};

struct gang {
    int size, nice_level;
    gang_fn fn; /* the work; written by the caller before the starting barrier */
    void *ctx;
    bool quit;
    atomic_int arrived;
    atomic_uint round;
    pthread_mutex_t lock; /* held to change `round`, so that a sleeper cannot miss it */
    pthread_cond_t next_round;
    struct member members[];
};

static void spin_pause(void)
{
#if defined(__x86_64__) || defined(__i386__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("yield");
#endif
}

static void round_start(struct gang *g)
{
    atomic_store_explicit(&g->arrived, 0, memory_order_relaxed);
    pthread_mutex_lock(&g->lock);
    atomic_fetch_add_explicit(&g->round, 1, memory_order_acq_rel);
    pthread_cond_broadcast(&g->next_round);
    pthread_mutex_unlock(&g->lock);
}

static void round_wait(struct gang *g, unsigned round)
{
    for (int i = 0; i < SPIN_COUNT; i++) {
        if (atomic_load_explicit(&g->round, memory_order_acquire) != round)
            return;
        spin_pause();
    }
    pthread_mutex_lock(&g->lock);
    while (atomic_load_explicit(&g->round, memory_order_relaxed) == round)
        pthread_cond_wait(&g->next_round, &g->lock);
    pthread_mutex_unlock(&g->lock);
}

void gang_barrier(struct gang *g)
{
    unsigned round = atomic_load_explicit(&g->round, memory_order_acquire);
    if (atomic_fetch_add_explicit(&g->arrived, 1, memory_order_acq_rel) + 1 == g->size)
        round_start(g);
    else
        round_wait(g, round);
}

static void *member_main(void *arg)
{
    const struct member *m = arg;
    struct gang *g = m->gang;

    if (g->nice_level > 0) /* on Linux a thread id is a process id here: this thread alone */
        (void)setpriority(PRIO_PROCESS, (id_t)gettid(), g->nice_level);
    for (;;) {
        gang_barrier(g);
        if (g->quit)
            return NULL;
        g->fn(g->ctx, m->index);
        gang_barrier(g);
    }
}

/* Starts threads 1..size-1; returns how many members there are then, member 0 included. */
static int threads_start(struct gang *g)
{
    sigset_t all, before;
    int count = 1;

    sigfillset(&all); /* signals are the caller's business: members inherit a full mask */
    pthread_sigmask(SIG_SETMASK, &all, &before);
    for (; count < g->size; count++) {
        struct member *m = &g->members[count];
        *m = (struct member){.gang = g, .index = count};
        if (pthread_create(&m->thread, NULL, member_main, m) != 0)
            break;
    }
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return count;
}

/* Ends and frees a gang of which only `count` members exist. */
static void gang_dissolve(struct gang *g, int count)
{
    g->quit = true;
    atomic_fetch_add(&g->arrived, g->size - count); /* on behalf of those never started */
    gang_barrier(g);
    for (int i = 1; i < count; i++)
        pthread_join(g->members[i].thread, NULL);
    pthread_cond_destroy(&g->next_round);
    pthread_mutex_destroy(&g->lock);
    free(g);
}

int gang_new(struct gang **out, int size, int nice_level)
{
    if (size < 1 || nice_level < 0 || nice_level > 19)
        return ERR_INVALID;
    struct gang *g = calloc(1, sizeof *g + (size_t)size * sizeof g->members[0]);
    if (!g)
        return ERR_NOMEM;
    g->size = size;
    g->nice_level = nice_level;
    pthread_mutex_init(&g->lock, NULL);
    pthread_cond_init(&g->next_round, NULL);
    int count = threads_start(g);
    if (count < size) {
        gang_dissolve(g, count);
        return ERR_NOMEM;
    }
    *out = g;
    return 0;
}

void gang_free(struct gang *g)
{
    if (g)
        gang_dissolve(g, g->size);
}

int gang_size(const struct gang *g)
{
    return g->size;
}

void gang_run(struct gang *g, gang_fn fn, void *ctx)
{
    g->fn = fn;
    g->ctx = ctx;
    gang_barrier(g);
    fn(ctx, 0);
    gang_barrier(g);
}

void gang_slice(int n, int member, int size, int *lo, int *hi)
{
    *lo = (int)((long long)n * member / size);
    *hi = (int)((long long)n * (member + 1) / size);
}
