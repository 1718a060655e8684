/*
 * forecast.c - see forecast.h.
 */
#include "server/jobs/forecast.h"

#include <inttypes.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "server/store/jobs.h"

enum { ESTIMATE_MS = 10000 }; /* what the start of a job is rounded up to, so that polls see it stay */

/* ---- warnings ---- */

static void count(const struct batch *batches, int batch_count, const char *name, int64_t *train,
                  int64_t *test)
{
    *train = *test = 0;
    for (int i = 0; i < batch_count; i++)
        for (int c = 0; c < batches[i].class_count; c++)
            if (strcmp(batches[i].classes[c].label, name) == 0) {
                *train += batches[i].classes[c].train_count;
                *test += batches[i].classes[c].test_count;
            }
}

void forecast_images(const struct plan *p, int index, int64_t *train, int64_t *test)
{
    int64_t other;
    count(p->train, p->train_count, p->names[index], train, &other);
    count(p->test, p->test_count, p->names[index], &other, test);
}

/* Takes `classes`, an array of names. */
static int warn(json_t *warnings, const char *code, json_t *classes, const char *format, ...)
{
    char detail[512];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(detail, sizeof detail, format, arguments);
    va_end(arguments);
    return json_array_append_new(warnings, json_pack("{s:s, s:s, s:o}", "code", code, "detail",
                                                     detail, "classes", classes));
}

/* What is to be said of the classes of a plan. */
struct findings {
    json_t *few, *untested;        /* names: of new ones; of all that images are brought of */
    json_t *again;                 /* names of known ones */
    int64_t most, least;           /* training images of a new class */
    const char *largest, *smallest;
};

static int look(const struct plan *p, struct findings *f)
{
    int err = 0;
    for (int i = 0; i < p->classes; i++) {
        int64_t train = 0, test;
        if (p->names[i])
            forecast_images(p, i, &train, &test);
        if (train == 0)
            continue;
        if (i < p->known)
            err |= json_array_append_new(f->again, json_string(p->names[i]));
        if (i < p->known && test == 0)
            err |= json_array_append_new(f->untested, json_string(p->names[i]));
        if (i < p->known)
            continue;
        if (train < FEW_IMAGES)
            err |= json_array_append_new(f->few, json_string(p->names[i]));
        if (test == 0)
            err |= json_array_append_new(f->untested, json_string(p->names[i]));
        if (!f->largest || train > f->most) {
            f->most = train;
            f->largest = p->names[i];
        }
        if (!f->smallest || train < f->least) {
            f->least = train;
            f->smallest = p->names[i];
        }
    }
    return err;
}

static int tell(const struct plan *p, const struct findings *f, json_t *warnings)
{
    int err = 0;
    if (p->refines)
        err |= warn(warnings, "not_trained", json_incref(f->again),
                    "All of these classes are known: the network stays as it is, options of training "
                    "have no effect, and the images move the classes' means and the covariance alone. "
                    "The new version takes the place of version %" PRId64 ".", p->base);
    if (json_array_size(f->few) > 0)
        err |= warn(warnings, "few_images", json_incref(f->few),
                    "Of these classes there are fewer than %d training images: they will hardly be "
                    "learned. Upload more first.", FEW_IMAGES);
    if (json_array_size(f->untested) > 0)
        err |= warn(warnings, "no_test_images", json_incref(f->untested),
                    "Of these classes there are no test images: nothing will say how well they were "
                    "learned or are forgotten, and the gate cannot see it. Upload some with "
                    "split=test, or a batch with holdout=0.1.");
    if (f->largest && f->most >= IMBALANCE * f->least)
        err |= warn(warnings, "imbalanced", json_pack("[s, s]", f->largest, f->smallest),
                    "There are %" PRId64 " training images of '%s' and %" PRId64 " of '%s': the "
                    "larger class will be preferred. Upload more of the smaller one, or less of the "
                    "larger.", f->most, f->largest, f->least, f->smallest);
    return err;
}

json_t *forecast_warnings(const struct plan *p)
{
    struct findings f = {.few = json_array(), .untested = json_array(), .again = json_array()};
    json_t *warnings = json_array();
    if (!warnings || look(p, &f) || tell(p, &f, warnings)) {
        json_decref(warnings);
        warnings = NULL;
    }
    json_decref(f.few);
    json_decref(f.untested);
    json_decref(f.again);
    return warnings;
}

/* ---- times ---- */

int64_t forecast_passes(const struct plan *p)
{
    const struct learner_options *o = &p->options.learner;
    return plan_train_images(p) * (p->refines ? 1 : o->epochs + o->prune_epochs);
}

double forecast_seconds(struct db_txn *t, int64_t image_passes)
{
    double speed;
    if (jobs_last_speed(t, &speed) != 0)
        return NAN;
    return (double)image_passes / speed;
}

/* Seconds until nothing runs; NaN when that cannot be said. */
static double running_seconds(struct queue *q)
{
    int64_t running = queue_running(q);
    if (!running)
        return 0;
    json_t *live = queue_live(q, running);
    const json_t *eta = json_object_get(live, "eta_seconds");
    double seconds = json_is_number(eta) ? json_number_value(eta) : NAN;
    json_decref(live);
    return seconds;
}

int64_t forecast_start(struct db_txn *t, struct queue *q, int64_t id)
{
    int64_t passes;
    double seconds = running_seconds(q);
    if (jobs_queued_passes(t, id, &passes) != 0)
        return 0;
    if (passes > 0)
        seconds += forecast_seconds(t, passes);
    if (!isfinite(seconds))
        return 0;
    int64_t start_ms = db_now_ms() + (int64_t)(1e3 * seconds);
    return (start_ms / ESTIMATE_MS + 1) * ESTIMATE_MS;
}
