/*
 * learner_fixture.h - increments on small images made here, for the tests of the learner.
 */
#ifndef ACCRETED_TESTS_LEARNER_FIXTURE_H
#define ACCRETED_TESTS_LEARNER_FIXTURE_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <cmocka.h>

#include "core/err.h"
#include "core/learner/learner.h"
#include "core/m2kd/mask.h"
#include "core/m2kd/snapshot.h"

enum { CHANNELS = 3, PER_CLASS = 40, CLASSES = 4 };

/* One directory a test, with the files of up to three steps. */
struct place {
    char dir[64], model[3][96], snapshot[3][96], checkpoint[96];
    const char *snapshot_paths[3];
    atomic_int command;
    int side; /* of the images */
    int stop_after; /* epochs reported until the command word is set; 0 = never */
    enum learner_command then;
    int epochs;
    bool keep_checkpoint; /* of a job that succeeded */
    double last_fraction;
    bool fraction_fell;
    struct learner_epoch last_epoch;
};

/* Class c, in images of 8x8 blocks: a bright bar whose direction and colour depend on c, in noise. */
static inline void make_data(struct dataset *d, int side, int first, int end, int per_class, uint64_t seed)
{
    struct rng r;
    rng_init(&r, seed, 77);
    assert_int_equal(dataset_init(d, (end - first) * per_class, side, side, CHANNELS), 0);
    for (int n = 0; n < d->count; n++) {
        int c = first + n % (end - first), at = (int)rng_below(&r, 3) + 2;
        d->labels[n] = c;
        for (int p = 0; p < side * side * CHANNELS; p++) {
            int y = p / CHANNELS / side * 8 / side, x = p / CHANNELS % side * 8 / side;
            bool bar = (c % 2 ? x : y) == at && p % CHANNELS != c / 2;
            d->pixels[(size_t)n * side * side * CHANNELS + p] =
                (uint8_t)(rng_below(&r, 100) + (bar ? 150 : 0));
        }
    }
}

static inline int setup(void **state)
{
    struct place *p = calloc(1, sizeof *p);
    p->side = 8;
    snprintf(p->dir, sizeof p->dir, "/tmp/test_learner.XXXXXX");
    assert_non_null(mkdtemp(p->dir));
    for (int s = 0; s < 3; s++) {
        snprintf(p->model[s], sizeof p->model[s], "%s/model%d", p->dir, s);
        snprintf(p->snapshot[s], sizeof p->snapshot[s], "%s/snapshot%d", p->dir, s);
        p->snapshot_paths[s] = p->snapshot[s];
    }
    snprintf(p->checkpoint, sizeof p->checkpoint, "%s/checkpoint", p->dir);
    *state = p;
    return 0;
}

static inline int teardown(void **state)
{
    struct place *p = *state;
    for (int s = 0; s < 3; s++) {
        unlink(p->model[s]);
        unlink(p->snapshot[s]);
    }
    unlink(p->checkpoint);
    int left = rmdir(p->dir); /* fails when a temporary file was left behind */
    free(p);
    return left;
}

static inline void on_progress(void *ctx, const struct learner_progress *progress)
{
    struct place *p = ctx;
    if (progress->fraction < p->last_fraction || progress->fraction > 1)
        p->fraction_fell = true;
    p->last_fraction = progress->fraction;
}

static inline void on_epoch(void *ctx, const struct learner_epoch *e)
{
    struct place *p = ctx;
    p->last_epoch = *e;
    if (++p->epochs == p->stop_after)
        atomic_store(&p->command, p->then);
}

static inline struct learner_options options(void)
{
    struct learner_options o;
    learner_options_default(&o);
    o.blocks = 1;
    o.epochs = 4;
    o.batch = 16;
    o.lr_later = 0.5f; /* four epochs of a few batches must tell */
    o.view.pad = 1;
    o.view.flip = false;
    o.experts = 0; /* test_learner_experts.c has its own */
    o.prune_keep = 0.5f;
    o.gang = 2;
    return o;
}

/* As the learner's caller: once it has what was learned, the checkpoint goes. */
static inline int run_job(const struct learner_job *job, struct learner_result *result)
{
    int err = learner_run(job, result);
    if (!err && !((struct place *)job->ctx)->keep_checkpoint)
        unlink(job->checkpoint_path);
    return err;
}

/* A job whose files are those of place `at`; its images and classes are the caller's to fill in. */
static inline struct learner_job job_at(struct place *p, const struct learner_options *o, int at,
                                        struct model *base)
{
    p->last_fraction = 0;
    return (struct learner_job){
        .options = o, .base = base, .snapshot_paths = p->snapshot_paths,
        .checkpoint_path = p->checkpoint, .model_path = p->model[at],
        .snapshot_path = p->snapshot[at], .command = &p->command,
        .on_progress = on_progress, .on_epoch = on_epoch, .ctx = p,
    };
}

/* Runs step 0 (classes 0, 1), step 1 (classes 2, 3 on top of `base`) or step 2 (classes 4, 5). */
static inline int run(struct place *p, const struct learner_options *o, int step,
                      struct model *base, struct learner_result *result)
{
    struct dataset train, test;
    int first = step * 2, end = first + 2;
    make_data(&train, p->side, first, end, PER_CLASS, 1);
    make_data(&test, p->side, 0, end, 20, 2);
    struct learner_job job = job_at(p, o, step, base);
    job.train = &train;
    job.test = &test;
    job.classes = end;
    int err = run_job(&job, result);
    dataset_release(&train);
    dataset_release(&test);
    return err;
}

/* A model of one network or another that never learned anything, to be built on. */
static inline struct model *make_model(const struct resnet_spec *spec, const int *step_end,
                                       int steps)
{
    struct model *m;
    assert_int_equal(model_new(&m, spec, step_end, steps, conv_isa_best()), 0);
    resnet_initialise(m->net, 1, m->params);
    return m;
}

/* A sound snapshot of one, as a restored backup may leave it where another belongs; it sees images as `like` does. */
static inline void put_snapshot(const char *path, const struct resnet_spec *spec,
                                const int *step_end, int steps, const struct model *like)
{
    struct model *m = make_model(spec, step_end, steps);
    memcpy(m->mean, like->mean, sizeof m->mean);
    memcpy(m->std, like->std, sizeof m->std);
    m->view = like->view;
    uint8_t *mask = malloc(m->net->params.count);
    assert_non_null(mask);
    memset(mask, MASK_KEPT, m->net->params.count);
    assert_int_equal(snapshot_round(m, mask, SNAPSHOT_HALF), 0);
    assert_int_equal(snapshot_save(m, mask, SNAPSHOT_HALF, path, NULL), 0);
    model_release(m);
    free(mask);
}

static inline void same_params(const struct model *a, const struct model *b)
{
    assert_memory_equal(a->params, b->params, a->net->params.count * sizeof *a->params);
    assert_memory_equal(a->prototypes, b->prototypes,
                        (size_t)a->net->spec.classes * a->net->feature_count * sizeof(float));
}

/* Step 1 on `base`, stopped after epoch `stop` and resumed, gives the bits it gave without a stop. */
static inline void check_resumed(struct place *p, const struct learner_options *o, int stop,
                                 struct model *base, const struct model *model,
                                 const struct model *snapshot)
{
    struct learner_result r;
    struct model *again;
    p->epochs = 0;
    p->stop_after = stop;
    p->then = COMMAND_STOP;
    assert_int_equal(run(p, o, 1, base, &r), ERR_STOPPED);
    assert_int_equal(access(p->checkpoint, F_OK), 0);
    atomic_store(&p->command, COMMAND_RUN);
    p->stop_after = 0;
    assert_int_equal(run(p, o, 1, base, &r), 0);
    assert_true(r.resumed && r.reproducible);
    same_params(r.model, model);
    assert_int_equal(snapshot_load(&again, p->snapshot[1], conv_isa_best()), 0);
    same_params(again, snapshot);
    model_release(again);
    learner_result_release(&r);
}

#endif
