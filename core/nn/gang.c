/*
 * gang.c - see gang.h.
 *
 * Two barriers make a gang. At the `edge` the members meet the caller: to receive work and to
 * hand it back. At the `inner` one they meet each other.
 *
 * The barrier counts arrivals and numbers its rounds. The last to arrive starts the next round;
 * the others watch the round number, first spinning (a step has many short phases, and a
 * neighbour is seldom more than microseconds behind), then asleep on a condition variable.
 */
#include "core/nn/gang.h"

#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "core/err.h"

/* Looks at the round number before sleeping: 2 to 10 microseconds, as long as a wake-up costs. */
enum { SPIN_COUNT = 150 };

enum { SLICE_NS = 20000000 };

struct gang;

struct member {
    struct gang *gang;
    int index;
    pthread_t thread;
};

struct barrier {
    int size;
    atomic_int arrived;
    atomic_uint round;
    pthread_mutex_t lock; /* held to change `round`, so that a sleeper cannot miss it */
    pthread_cond_t next_round;
};

struct gang {
    int size, nice_level;
    gang_fn fn; /* the work; written by the caller before it enters the edge */
    void *ctx;
    bool quit;
    struct barrier edge, inner;
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

static void round_start(struct barrier *b)
{
    atomic_store_explicit(&b->arrived, 0, memory_order_relaxed);
    pthread_mutex_lock(&b->lock);
    atomic_fetch_add_explicit(&b->round, 1, memory_order_acq_rel);
    pthread_cond_broadcast(&b->next_round);
    pthread_mutex_unlock(&b->lock);
}

static void round_wait(struct barrier *b, unsigned round)
{
    for (int i = 0; i < SPIN_COUNT; i++) {
        if (atomic_load_explicit(&b->round, memory_order_acquire) != round)
            return;
        spin_pause();
    }
    pthread_mutex_lock(&b->lock);
    while (atomic_load_explicit(&b->round, memory_order_relaxed) == round)
        pthread_cond_wait(&b->next_round, &b->lock);
    pthread_mutex_unlock(&b->lock);
}

static void barrier_init(struct barrier *b, int size)
{
    b->size = size;
    pthread_mutex_init(&b->lock, NULL);
    pthread_cond_init(&b->next_round, NULL);
}

static void barrier_release(struct barrier *b)
{
    pthread_cond_destroy(&b->next_round);
    pthread_mutex_destroy(&b->lock);
}

static void barrier_meet(struct barrier *b)
{
    unsigned round = atomic_load_explicit(&b->round, memory_order_acquire);
    if (atomic_fetch_add_explicit(&b->arrived, 1, memory_order_acq_rel) + 1 == b->size)
        round_start(b);
    else
        round_wait(b, round);
}

void gang_barrier(struct gang *g)
{
    barrier_meet(&g->inner);
}

/*
 * Lowers this thread alone (on Linux a thread id is a process id here). Being nice only shares the
 * cores: a thread that wakes up to answer somebody would still wait for the end of a member's
 * slice. Since Linux 6.12 one with a shorter slice does not, so members take a long one; before,
 * that is without effect. Failures cost others' latency alone.
 */
static void step_back(int nice_level)
{
    struct { /* sched_setattr(2), which has no declaration in this C library */
        uint32_t size, policy;
        uint64_t flags;
        int32_t nice;
        uint32_t priority;
        uint64_t slice_ns, deadline_ns, period_ns;
    } attr = {.size = sizeof attr, .policy = SCHED_OTHER, .nice = nice_level, .slice_ns = SLICE_NS};
    (void)setpriority(PRIO_PROCESS, (id_t)gettid(), nice_level);
    (void)syscall(SYS_sched_setattr, 0, &attr, 0);
}

static void *member_main(void *arg)
{
    const struct member *m = arg;
    struct gang *g = m->gang;

    if (g->nice_level > 0)
        step_back(g->nice_level);
    for (;;) {
        barrier_meet(&g->edge);
        if (g->quit)
            return NULL;
        g->fn(g->ctx, m->index);
        barrier_meet(&g->edge);
    }
}

/* Starts the members; returns how many there are then. */
static int threads_start(struct gang *g)
{
    sigset_t all, before;
    int count = 0;

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
    atomic_fetch_add(&g->edge.arrived, g->size - count); /* on behalf of those never started */
    barrier_meet(&g->edge);
    for (int i = 0; i < count; i++)
        pthread_join(g->members[i].thread, NULL);
    barrier_release(&g->edge);
    barrier_release(&g->inner);
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
    barrier_init(&g->edge, size + 1); /* the members and the caller */
    barrier_init(&g->inner, size);
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
    barrier_meet(&g->edge);
    barrier_meet(&g->edge);
}

void gang_slice(int n, int member, int size, int *lo, int *hi)
{
    *lo = (int)((long long)n * member / size);
    *hi = (int)((long long)n * (member + 1) / size);
}
