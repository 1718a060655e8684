#include "core/learner/evaluate.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "core/command.h"
#include "core/err.h"

enum { CHUNK = 16 }; /* images classified at a time by one member */

/* One pass of the gang over a data set, for those of the outputs that are not NULL. */
struct evaluation_run {
    const struct frozen *frozen;
    const struct dataset *data;
    struct gang *gang;
    const atomic_int *command;
    float *features; /* (count, model_width), or NULL */
    float *scores;   /* (count, classes), or NULL */
    int *predicted;  /* (count), or NULL */
    int stride;      /* with `predicted`: every so many images' scores go to `sample` */
    float *sample;
    int *errors;     /* (gang) */
};

static int argmax(int n, const float *z)
{
    int best = 0;
    for (int i = 1; i < n; i++)
        if (z[i] > z[best])
            best = i;
    return best;
}

/* Images at..at+n-1, normalised in x; `rows` has room for n rows of scores. */
static void run_chunk(struct evaluation_run *run, struct frozen_workspace *ws, int at, int n,
                      const float *x, float *rows)
{
    const struct model *m = frozen_model(run->frozen);
    int classes = m->net->spec.classes;
    float *features = run->features ? run->features + (size_t)at * model_width(m) : NULL;
    if (features && !run->scores) {
        frozen_features(run->frozen, ws, n, x, features);
        return;
    }
    if (run->scores)
        rows = run->scores + (size_t)at * classes;
    frozen_classify(run->frozen, ws, n, x, rows, features);
    for (int i = 0; run->predicted && i < n; i++) {
        const float *row = rows + (size_t)i * classes;
        run->predicted[at + i] = argmax(classes, row);
        if ((at + i) % run->stride == 0)
            memcpy(run->sample + (size_t)((at + i) / run->stride) * classes, row,
                   (size_t)classes * sizeof *row);
    }
}

static int run_slice(struct evaluation_run *run, int lo, int hi)
{
    const struct model *m = frozen_model(run->frozen);
    const struct resnet_spec *s = &m->net->spec;
    size_t image = (size_t)s->height * s->width * s->channels;
    struct frozen_workspace *ws = NULL;
    float *x = malloc(CHUNK * image * sizeof *x);
    float *rows = malloc((size_t)CHUNK * s->classes * sizeof *rows);
    int err = x && rows ? frozen_workspace_new(&ws, run->frozen) : ERR_NOMEM;
    for (int at = lo; !err && at < hi; at += CHUNK) {
        int n = hi - at < CHUNK ? hi - at : CHUNK;
        err = command_poll(run->command);
        if (err)
            break;
        for (int i = 0; i < n; i++)
            dataset_image(run->data, at + i, m->mean, m->std, x + i * image);
        run_chunk(run, ws, at, n, x, rows);
    }
    frozen_workspace_free(ws);
    free(x);
    free(rows);
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
    const struct resnet_spec *s = &frozen_model(run->frozen)->net->spec;
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

int evaluate_features(const struct frozen *f, const struct dataset *data, struct gang *gang,
                      const atomic_int *command, float *features, float *scores)
{
    return run_gang(&(struct evaluation_run){.frozen = f, .data = data, .gang = gang,
                                             .command = command, .features = features,
                                             .scores = scores});
}

int evaluate(struct evaluation *out, const struct frozen *f, const struct dataset *test,
             struct gang *gang, const atomic_int *command)
{
    int classes = frozen_model(f)->net->spec.classes, err = ERR_NOMEM;
    struct evaluation_run run = {
        .frozen = f, .data = test, .gang = gang, .command = command};
    struct evaluation e = {.classes = classes};
    if (!dataset_labels_below(test, classes))
        return ERR_INVALID;
    run.stride = test->count > EVALUATION_SAMPLE ? 1 + (test->count - 1) / EVALUATION_SAMPLE : 1;
    e.sampled = (test->count + run.stride - 1) / run.stride;
    e.confusion = calloc((size_t)classes * classes, sizeof *e.confusion);
    e.scores = run.sample = malloc(((size_t)e.sampled + 1) * (size_t)classes * sizeof *e.scores);
    e.labels = malloc(((size_t)e.sampled + 1) * sizeof *e.labels);
    run.predicted = malloc(((size_t)test->count + 1) * sizeof *run.predicted);
    if (!e.confusion || !e.scores || !e.labels || !run.predicted)
        goto out;
    err = run_gang(&run);
    if (err)
        goto out;
    for (int i = 0; i < test->count; i++)
        e.confusion[(size_t)test->labels[i] * classes + run.predicted[i]]++;
    for (int i = 0; i < e.sampled; i++)
        e.labels[i] = test->labels[i * run.stride];
    *out = e;
    e = (struct evaluation){0};
out:
    evaluation_release(&e);
    free(run.predicted);
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
