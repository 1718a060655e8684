/*
 * fit.c - epochs of stochastic gradient descent: order, views, teachers, step, update.
 *
 * The calling thread walks the batches; each batch is one gang_run, inside which every member
 * prepares its own slice of the batch, so that the input never keeps the gang waiting.
 */
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "core/err.h"
#include "core/learner/learner_state.h"

struct batch_run {
    struct learner *learner;
    struct objective objective;
    const uint8_t *mask;
    float *params;
    const int *images; /* (n) indices into the training set */
    int n, epoch;
    float rate;
    struct objective_sums *sums; /* (gang) */
    int *errors;                 /* (gang) */
};

static double now_seconds(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* A stream of this job: kind, epoch and index make it unique, the step is mixed into the seed. */
static void stream_init(const struct learner *l, struct rng *r, int kind, int epoch, int index)
{
    uint64_t seed = l->options->seed ^ (uint64_t)(l->step + 1) * 0x9E3779B97F4A7C15u;
    rng_init(r, seed, (uint64_t)kind << 56 | (uint64_t)epoch << 32 | (uint64_t)index);
}

static void load_views(struct batch_run *b, int lo, int hi)
{
    struct learner *l = b->learner;
    const struct dataset *d = l->job->train;
    for (int i = lo; i < hi; i++) {
        struct rng r;
        stream_init(l, &r, STREAM_VIEW, b->epoch, b->images[i]);
        dataset_view(d, b->images[i], l->model->mean, l->model->std, &l->options->view, &r,
                     train_input(l->train, i));
        l->labels[i] = d->labels[b->images[i]];
    }
}

static void update_weights(struct batch_run *b, int member)
{
    struct learner *l = b->learner;
    const struct param_table *table = &l->model->net->params;
    int lo, hi;
    gang_slice((int)table->trained_count, member, gang_size(l->gang), &lo, &hi);
    sgd_update(table, &l->options->sgd, b->rate, (size_t)lo, (size_t)hi,
               train_gradient(l->train), b->mask, l->velocity, b->params);
}

static void batch_member(void *ctx, int member)
{
    struct batch_run *b = ctx;
    struct learner *l = b->learner;
    int lo, hi;
    train_slice(l->train, b->n, member, &lo, &hi);
    load_views(b, lo, hi);
    if (l->teachers && hi > lo)
        teachers_forward(l->teachers, member, b->objective.batch, lo, hi - lo,
                         train_input(l->train, lo), l->options->aux);
    b->errors[member] = train_forward(l->train, member, b->n, b->params);
    if (b->errors[member])
        return;
    objective_slice(&b->objective, l->train, lo, hi, b->n, l->labels, &b->sums[member]);
    b->errors[member] = train_backward(l->train, member, b->n, b->params);
    if (!b->errors[member])
        update_weights(b, member);
}

static void sum_members(const struct batch_run *b, struct objective_sums *total)
{
    memset(total, 0, sizeof *total);
    for (int m = 0; m < gang_size(b->learner->gang); m++) {
        total->loss_class += b->sums[m].loss_class;
        total->loss_mmd += b->sums[m].loss_mmd;
        total->loss_ad += b->sums[m].loss_ad;
        total->correct += b->sums[m].correct;
        total->count += b->sums[m].count;
        total->count_new += b->sums[m].count_new;
    }
}

static void report_epoch(const struct batch_run *b, const struct objective_sums *s, double seconds)
{
    const struct learner *l = b->learner;
    struct learner_epoch e = {
        .epoch = b->epoch,
        .pruned = b->params != l->model->params,
        .loss_class = s->loss_class / s->count,
        .loss_mmd = s->loss_mmd / s->count,
        .loss_ad = s->loss_ad / s->count,
        .accuracy = (double)s->correct / s->count_new,
        .rate = b->rate,
        .seconds = seconds,
    };
    if (l->job->on_epoch)
        l->job->on_epoch(l->job->ctx, &e);
}

/* All batches of one epoch. Batches are of equal size, give or take one image, so that none is
 * too small for its batch statistics. */
static int run_epoch(struct batch_run *b, int first, int end, float rate)
{
    struct learner *l = b->learner;
    const struct learner_options *o = l->options;
    int count = l->job->train->count, batches = (count + o->batch - 1) / o->batch;
    struct sgd_options schedule = o->sgd;
    struct objective_sums total;
    double start = now_seconds(), before = l->seconds;
    struct rng r;
    schedule.lr = rate;
    for (int i = 0; i < count; i++)
        l->order[i] = i;
    stream_init(l, &r, STREAM_ORDER, b->epoch, 0);
    rng_shuffle(&r, l->order, count);
    memset(b->sums, 0, (size_t)gang_size(l->gang) * sizeof *b->sums);
    for (int i = 0; i < batches; i++) {
        int lo, hi;
        gang_slice(count, i, batches, &lo, &hi);
        b->images = l->order + lo;
        b->n = hi - lo;
        b->objective.batch = b->epoch * batches + i;
        b->rate = sgd_rate(&schedule, (int64_t)(b->epoch - first) * batches + i,
                           (int64_t)(end - first) * batches);
        gang_run(l->gang, batch_member, b);
        if (b->errors[0])
            return learner_commanded(l);
        l->images_done += b->n;
        l->seconds = before + now_seconds() - start;
        learner_report(l, (l->epochs_done + (double)(i + 1) / batches) / l->epochs_total);
    }
    sum_members(b, &total);
    if (!isfinite(total.loss_class + total.loss_mmd + total.loss_ad))
        return ERR_DIVERGED;
    report_epoch(b, &total, l->seconds - before);
    return 0;
}

int fit_epochs(struct learner *l, int first, int end, float rate, float *params,
               const uint8_t *mask)
{
    int size = gang_size(l->gang), err = ERR_NOMEM;
    struct batch_run b = {
        .learner = l,
        .objective = {.options = l->options,
                      .teachers = l->teachers,
                      .old_classes = l->old_classes,
                      .classes = l->job->classes,
                      .exemplars = l->job->exemplars > 0,
                      .outputs = l->model->net->spec.classes,
                      .heads = l->model->net->head_count,
                      .features = l->model->net->feature_count},
        .mask = mask,
        .params = params,
    };
    b.sums = calloc((size_t)size, sizeof *b.sums);
    b.errors = calloc((size_t)size, sizeof *b.errors);
    if (!b.sums || !b.errors)
        goto out;
    err = 0;
    while (!err && l->epochs_done < end) {
        b.epoch = l->epochs_done;
        err = run_epoch(&b, first, end, rate);
        if (err)
            break;
        l->epochs_done++;
        err = learner_save_checkpoint(l, params);
        if (!err)
            err = learner_commanded(l);
    }
out:
    free(b.sums);
    free(b.errors);
    return err;
}
