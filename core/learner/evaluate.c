#include "core/learner/evaluate.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "core/command.h"
#include "core/err.h"

enum { CHUNK = 16 }; /* images classified at a time by one member */

/* One pass of the gang over a data set: for the features and scores of a model, or for the verdicts of some. */
struct evaluation_run {
    struct frozen *const *models; /* (count), of one network */
    int count;
    const struct dataset *data;
    struct gang *gang;
    const atomic_int *command;
    float *features; /* (data->count, model_width) of the only model, or NULL */
    float *scores;   /* (data->count, classes) of the only model, or NULL */
    int *predicted[EVALUATION_MODELS]; /* (data->count) each, or NULL */
    float *sample[EVALUATION_MODELS];  /* with `predicted`: where every `stride`th image's scores go */
    int stride;
    int *errors;     /* (gang) */
};

/* What a member of the gang works on, CHUNK images at a time. */
struct chunk {
    struct frozen_workspace *ws;
    float *x;        /* the images, normalised */
    float *rows;     /* room for their scores */
    float *features; /* room for those of the first of several models */
};

static int argmax(int n, const float *z)
{
    int best = 0;
    for (int i = 1; i < n; i++)
        if (z[i] > z[best])
            best = i;
    return best;
}

/* What the features and scores of images at..at+n-1 are wanted for. */
static void run_outputs(struct evaluation_run *run, struct chunk *c, int at, int n)
{
    const struct frozen *f = run->models[0];
    const struct model *m = frozen_model(f);
    float *features = run->features ? run->features + (size_t)at * model_width(m) : NULL;
    float *scores = run->scores ? run->scores + (size_t)at * m->net->spec.classes : NULL;
    if (scores)
        frozen_classify(f, c->ws, n, c->x, NULL, scores, features);
    else
        frozen_features(f, c->ws, n, c->x, features);
}

/* The verdicts of model k on images at..at+n-1. */
static void run_verdicts(struct evaluation_run *run, struct chunk *c, int k, int at, int n)
{
    const struct model *first = frozen_model(run->models[0]), *m = frozen_model(run->models[k]);
    int classes = m->net->spec.classes;
    bool knows = k > 0 && model_same_experts(first, m);
    frozen_classify(run->models[k], c->ws, n, c->x, knows ? c->features : NULL, c->rows,
                    k == 0 && run->count > 1 ? c->features : NULL);
    for (int i = 0; i < n; i++) {
        const float *row = c->rows + (size_t)i * classes;
        run->predicted[k][at + i] = argmax(classes, row);
        if ((at + i) % run->stride == 0)
            memcpy(run->sample[k] + (size_t)((at + i) / run->stride) * classes, row,
                   (size_t)classes * sizeof *row);
    }
}

static int chunk_init(struct chunk *c, const struct evaluation_run *run)
{
    const struct model *m = frozen_model(run->models[0]);
    const struct resnet_spec *s = &m->net->spec;
    size_t image = (size_t)s->height * s->width * s->channels;
    const struct frozen *widest = run->models[0];
    for (int k = 1; k < run->count; k++)
        if (model_width(frozen_model(run->models[k])) > model_width(frozen_model(widest)))
            widest = run->models[k];
    *c = (struct chunk){
        .x = malloc(CHUNK * image * sizeof *c->x),
        .rows = malloc((size_t)CHUNK * s->classes * sizeof *c->rows),
        .features = malloc((size_t)CHUNK * model_width(m) * sizeof *c->features),
    };
    return c->x && c->rows && c->features ? frozen_workspace_new(&c->ws, widest) : ERR_NOMEM;
}

static void chunk_release(struct chunk *c)
{
    frozen_workspace_free(c->ws);
    free(c->x);
    free(c->rows);
    free(c->features);
}

static int run_slice(struct evaluation_run *run, int lo, int hi)
{
    const struct model *m = frozen_model(run->models[0]);
    const struct resnet_spec *s = &m->net->spec;
    size_t image = (size_t)s->height * s->width * s->channels;
    struct chunk c;
    int err = chunk_init(&c, run);
    for (int at = lo; !err && at < hi; at += CHUNK) {
        int n = hi - at < CHUNK ? hi - at : CHUNK;
        err = command_poll(run->command);
        if (err)
            break;
        for (int i = 0; i < n; i++)
            dataset_image(run->data, at + i, m->mean, m->std, c.x + i * image);
        if (!run->predicted[0])
            run_outputs(run, &c, at, n);
        for (int k = 0; k < run->count && run->predicted[0]; k++)
            run_verdicts(run, &c, k, at, n);
    }
    chunk_release(&c);
    return err;
}

static void run_member(void *ctx, int member)
{
    struct evaluation_run *run = ctx;
    int lo, hi;
    gang_slice(run->data->count, member, gang_size(run->gang), &lo, &hi);
    run->errors[member] = run_slice(run, lo, hi);
}

static int run_gang(struct evaluation_run *run)
{
    const struct resnet_spec *s = &frozen_model(run->models[0])->net->spec;
    int err = 0;
    if (!dataset_has_shape(run->data, s->height, s->width, s->channels))
        return ERR_INVALID;
    run->errors = calloc((size_t)gang_size(run->gang), sizeof *run->errors);
    if (!run->errors)
        return ERR_NOMEM;
    gang_run(run->gang, run_member, run);
    for (int m = 0; m < gang_size(run->gang); m++)
        err = err ? err : run->errors[m];
    free(run->errors);
    return err;
}

int evaluate_features(struct frozen *f, const struct dataset *data, struct gang *gang,
                      const atomic_int *command, float *features, float *scores)
{
    return run_gang(&(struct evaluation_run){.models = &f, .count = 1, .data = data, .gang = gang,
                                             .command = command, .features = features,
                                             .scores = scores});
}

static int evaluation_init(struct evaluation *e, int classes, int images, int stride)
{
    int sampled = (images + stride - 1) / stride;
    *e = (struct evaluation){
        .classes = classes,
        .sampled = sampled,
        .confusion = calloc((size_t)classes * classes, sizeof *e->confusion),
        .scores = malloc(((size_t)sampled + 1) * (size_t)classes * sizeof *e->scores),
        .labels = malloc(((size_t)sampled + 1) * sizeof *e->labels),
    };
    return e->confusion && e->scores && e->labels ? 0 : ERR_NOMEM;
}

static void count_verdicts(struct evaluation *e, const struct dataset *test, const int *predicted,
                           int stride)
{
    for (int i = 0; i < test->count; i++)
        e->confusion[(size_t)test->labels[i] * e->classes + predicted[i]]++;
    for (int i = 0; i < e->sampled; i++)
        e->labels[i] = test->labels[i * stride];
}

int evaluate(int count, struct evaluation *out, struct frozen *const *models,
             const struct dataset *test, struct gang *gang, const atomic_int *command)
{
    int classes = frozen_model(models[0])->net->spec.classes, err = 0;
    struct evaluation_run run = {
        .models = models, .count = count, .data = test, .gang = gang, .command = command};
    struct evaluation made[EVALUATION_MODELS] = {0};
    if (!dataset_labels_below(test, classes))
        return ERR_INVALID;
    run.stride = test->count > EVALUATION_SAMPLE ? 1 + (test->count - 1) / EVALUATION_SAMPLE : 1;
    for (int k = 0; k < count && !err; k++) {
        err = evaluation_init(&made[k], classes, test->count, run.stride);
        run.sample[k] = made[k].scores;
        run.predicted[k] = malloc(((size_t)test->count + 1) * sizeof *run.predicted[k]);
        if (!run.predicted[k])
            err = ERR_NOMEM;
    }
    if (!err)
        err = run_gang(&run);
    for (int k = 0; k < count; k++) {
        if (!err) {
            count_verdicts(&made[k], test, run.predicted[k], run.stride);
            out[k] = made[k];
        } else {
            evaluation_release(&made[k]);
        }
        free(run.predicted[k]);
    }
    return err;
}

void evaluation_release(struct evaluation *e)
{
    free(e->confusion);
    free(e->scores);
    free(e->labels);
    *e = (struct evaluation){0};
}

uint32_t evaluation_total(const struct evaluation *e, int class_index)
{
    uint32_t total = 0;
    for (int i = 0; i < e->classes; i++)
        total += e->confusion[(size_t)class_index * e->classes + i];
    return total;
}

uint32_t evaluation_correct(const struct evaluation *e, int class_index)
{
    return e->confusion[(size_t)class_index * e->classes + class_index];
}

double evaluation_accuracy(const struct evaluation *e)
{
    double total = 0, correct = 0;
    for (int i = 0; i < e->classes; i++) {
        total += evaluation_total(e, i);
        correct += evaluation_correct(e, i);
    }
    return total > 0 ? correct / total : NAN;
}
