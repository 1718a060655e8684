#include "core/learner/evaluate.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "core/err.h"

enum { CHUNK = 16 }; /* images classified at a time by one member */

/* One evaluation shared by the gang; each member classifies its slice into predicted[]. */
struct evaluation_run {
    const struct frozen *frozen;
    const struct dataset *test;
    struct gang *gang;
    int *predicted; /* (count) */
    int *errors;    /* (gang) */
};

static int argmax(int n, const float *z)
{
    int best = 0;
    for (int i = 1; i < n; i++)
        if (z[i] > z[best])
            best = i;
    return best;
}

static int evaluate_slice(struct evaluation_run *run, int lo, int hi)
{
    const struct model *m = frozen_model(run->frozen);
    const struct resnet_spec *s = &m->net->spec;
    size_t image = (size_t)s->height * s->width * s->channels;
    struct frozen_workspace *ws = NULL;
    float *x = malloc(CHUNK * image * sizeof *x);
    float *p = malloc((size_t)CHUNK * s->classes * sizeof *p);
    int err = x && p ? frozen_workspace_new(&ws, run->frozen) : ERR_NOMEM;
    for (int at = lo; !err && at < hi; at += CHUNK) {
        int n = hi - at < CHUNK ? hi - at : CHUNK;
        for (int i = 0; i < n; i++)
            dataset_image(run->test, at + i, m->mean, m->std, x + i * image);
        frozen_probabilities(run->frozen, ws, n, x, p);
        for (int i = 0; i < n; i++)
            run->predicted[at + i] = argmax(s->classes, p + (size_t)i * s->classes);
    }
    frozen_workspace_free(ws);
    free(x);
    free(p);
    return err;
}

static void evaluate_member(void *ctx, int member)
{
    struct evaluation_run *run = ctx;
    int lo, hi;
    gang_slice(run->test->count, member, gang_size(run->gang), &lo, &hi);
    run->errors[member] = evaluate_slice(run, lo, hi);
}

static bool labels_valid(const struct dataset *test, int classes)
{
    for (int i = 0; i < test->count; i++)
        if (test->labels[i] < 0 || test->labels[i] >= classes)
            return false;
    return true;
}

int evaluate(struct evaluation *out, const struct frozen *f, const struct dataset *test,
             struct gang *gang)
{
    const struct resnet_spec *s = &frozen_model(f)->net->spec;
    struct evaluation e = {.classes = s->classes};
    struct evaluation_run run = {.frozen = f, .test = test, .gang = gang};
    int err = ERR_INVALID;
    if (test->count && (test->height != s->height || test->width != s->width ||
                        test->channels != s->channels))
        goto out;
    if (!labels_valid(test, s->classes))
        goto out;
    err = ERR_NOMEM;
    e.confusion = calloc((size_t)s->classes * s->classes, sizeof *e.confusion);
    run.predicted = malloc(((size_t)test->count + 1) * sizeof *run.predicted);
    run.errors = calloc((size_t)gang_size(gang), sizeof *run.errors);
    if (!e.confusion || !run.predicted || !run.errors)
        goto out;
    gang_run(gang, evaluate_member, &run);
    err = 0;
    for (int m = 0; m < gang_size(gang); m++)
        err = err ? err : run.errors[m];
    if (err)
        goto out;
    for (int i = 0; i < test->count; i++)
        e.confusion[(size_t)test->labels[i] * s->classes + run.predicted[i]]++;
    *out = e;
    e.confusion = NULL;
out:
    evaluation_release(&e);
    free(run.predicted);
    free(run.errors);
    return err;
}

void evaluation_release(struct evaluation *e)
{
    free(e->confusion);
    e->confusion = NULL;
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
