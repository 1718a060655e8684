/*
 * plan.c - see plan.h. Rules in the order a client meets them: batches, classes, options.
 */
#include "server/jobs/plan.h"

#include <stdlib.h>
#include <string.h>

#include "core/err.h"
#include "core/model/model.h"
#include "server/jobs/serving.h"
#include "server/store/jobs.h"
#include "server/store/versions.h"

void plan_release(struct plan *p)
{
    batches_release(p->train, p->train_count);
    batches_release(p->test, p->test_count);
    for (int i = 0; i < p->classes; i++)
        free(p->names[i]);
    free(p->names);
    free(p->chain);
    free(p->renames);
    free(p->served);
    *p = (struct plan){0};
}

int64_t plan_train_images(const struct plan *p)
{
    int64_t images = 0;
    for (int i = 0; i < p->train_count; i++)
        images += p->train[i].train_count;
    return images;
}

int plan_class(const struct plan *p, const char *label)
{
    for (int i = 0; i < p->classes; i++)
        if (p->names[i] && strcmp(p->names[i], label) == 0)
            return i;
    return -1;
}

int plan_accept_base(const struct plan *p, struct model *base)
{
    const struct resnet_spec *s = &base->net->spec;
    const struct job_options *o = &p->options;
    if (base->step_count != p->chain_count || s->channels != o->channels ||
        s->height != o->height || s->width != o->width)
        return ERR_FORMAT;
    return retire_unnamed(base, (const char *const *)p->names, p->known);
}

/* NULL: the class there is retired. */
static int add_name(struct plan *p, const char *name)
{
    char **more = realloc(p->names, ((size_t)p->classes + 1) * sizeof *more);
    if (!more)
        return ERR_NOMEM;
    p->names = more;
    p->names[p->classes] = name ? strdup(name) : NULL;
    if (name && !p->names[p->classes])
        return ERR_NOMEM;
    p->classes++;
    return 0;
}

/* What is known already: classes, chain of versions, the next version's number. */
static int load_base(struct db_txn *t, struct plan *p)
{
    struct class_row *classes = NULL;
    struct version *chain = NULL;
    int class_count = 0, chain_count = 0;
    int err = classes_of(t, 0, &classes, &class_count);
    for (int i = 0; i < class_count && !err; i++)
        err = add_name(p, class_live_name(&classes[i]));
    if (!err)
        err = versions_chain(t, 0, &chain, &chain_count);
    if (!err)
        err = versions_next(t, &p->version);
    if (err)
        goto out;
    p->known = p->classes;
    p->step = chain_count + 1;
    p->base = p->parent = chain_count ? chain[chain_count - 1].version : 0;
    p->chain_count = chain_count;
    p->chain = calloc((size_t)chain_count + 1, sizeof *p->chain);
    if (!p->chain) {
        err = ERR_NOMEM;
        goto out;
    }
    for (int i = 0; i < chain_count; i++)
        p->chain[i] = chain[i].version;
out:
    free(classes);
    free(chain);
    return err;
}

/* ---- rules ---- */

static int check_batch(const struct batch *b, struct refusal *why)
{
    if (strcmp(b->state, "consumed") == 0)
        return refuse(why, 409, "batch_consumed",
                      "Batch '%s' was learned by version %lld and its training images are deleted.",
                      b->name, (long long)b->consumed_version);
    if (strcmp(b->state, "in_use") == 0)
        return refuse(why, 409, "batch_in_use",
                      "Batch '%s' belongs to a job that has not ended. Wait for it, or cancel it.",
                      b->name);
    if (b->train_count == 0)
        return refuse(why, 422, "empty_batch",
                      "Batch '%s' has no training images. Upload some without split=test.",
                      b->name);
    return 0;
}

/* A class with training images is known, or new to the jobs before this one too. */
static int add_class(struct db_txn *t, struct plan *p, const char *label, struct refusal *why)
{
    int64_t other;
    if (plan_class(p, label) >= 0)
        return 0; /* known, or brought by another batch of this job */
    int err = jobs_find_class(t, label, p->job, &other);
    if (err == 0)
        return refuse(why, 409, "class_in_queue",
                      "Class '%s' is being learned by job %lld. Leave it out of the batch, or "
                      "cancel that job.",
                      label, (long long)other);
    return err == ERR_MISSING ? add_name(p, label) : err;
}

static int add_classes(struct db_txn *t, struct plan *p, struct refusal *why)
{
    int err = 0;
    for (int i = 0; i < p->train_count; i++) {
        const struct batch *b = &p->train[i];
        for (int c = 0; c < b->class_count && !err; c++)
            if (b->classes[c].train_count > 0)
                err = add_class(t, p, b->classes[c].label, why);
        if (err)
            return err;
    }
    if (p->classes == p->known) {
        p->refines = true;
        p->step--;
        p->parent = p->step > 1 ? p->chain[p->step - 2] : 0;
        return 0;
    }
    if (p->classes > RESNET_MAX_CLASSES || p->step > MODEL_MAX_STEPS)
        return refuse(why, 422, "model_full", "A model holds at most %d classes in %d steps.",
                      RESNET_MAX_CLASSES, MODEL_MAX_STEPS);
    bool contrast = p->known > 0 && p->options.learner.exemplars_total > 0;
    if (p->options.learner.loss == LOSS_SOFTMAX && p->classes - p->known < 2 && !contrast)
        return refuse(why, 422, "softmax_needs_two_classes",
                      "This job brings one class, and a softmax over one output learns nothing. "
                      "Use loss=sigmoid, keep exemplars, or bring two classes.");
    return 0;
}

/* What the last snapshot prunes away is free for the next to claim. */
static int check_capacity(const struct version *parent, const struct job_options *o,
                          struct refusal *why)
{
    if (o->learner.store != STORE_SHARED || parent->sparsity >= STORE_FREE_MIN)
        return 0;
    return refuse(why, 409, "capacity_exhausted",
                  "Only %.1f %% of the weights are free after version %lld, and a shared snapshot "
                  "needs %.0f %%. Use store=standalone, or go back to an earlier version.",
                  100 * parent->sparsity, (long long)parent->version, 100 * STORE_FREE_MIN);
}

/* A refined version keeps weights and snapshot of its base, `fixed` being what that one was made by. */
static int check_refinement(struct plan *p, const struct job_options *fixed, struct refusal *why)
{
    struct learner_options *o = &p->options.learner;
    if (!p->options.classifier_given)
        o->classifier = fixed->learner.classifier;
    if (!p->options.exemplars_given) { /* none, the default, would delete those kept */
        o->exemplars_total = fixed->learner.exemplars_total;
        o->exemplars_select = fixed->learner.exemplars_select;
    }
    o->method = fixed->learner.method;
    o->store = fixed->learner.store;
    if (o->classifier != CLASSIFIER_HEAD)
        return 0;
    return refuse(why, 422, "head_needs_new_classes",
                  "Every class of these batches is known. Such a job trains nothing and brings their "
                  "means up to date, which classifier=head does not use. Say "
                  "classifier=discriminant, or bring them beside new classes.");
}

/* Whether the client asked for another network, or for another look at its images, than there is. */
static bool asks_for_another(const struct job_options *o, const struct job_options *fixed)
{
    const struct learner_options *a = &o->learner, *b = &fixed->learner;
    bool same_input = o->channels == fixed->channels && o->height == fixed->height &&
                      o->width == fixed->width;
    return (o->depth_given && (a->arch != b->arch || a->blocks != b->blocks)) ||
           (o->input_given && o->channels && !same_input) ||
           (o->mirror_given && a->mirror != b->mirror) ||
           (o->feature_power_given && a->feature_power != b->feature_power);
}

/* Depth, input, mirror and feature_power belong to the first job: the active version's job says what they are now. */
static int fix_architecture(struct db_txn *t, struct plan *p, struct refusal *why)
{
    struct version active;
    struct job first;
    struct job_options fixed, *o = &p->options;
    if (p->base == 0) {
        o->learner.mirror = learner_mirrors(&o->learner);
        return 0;
    }
    int err = versions_get(t, p->base, &active);
    if (!err)
        err = jobs_get(t, active.job, &first);
    if (err)
        return err;
    err = job_options_load(&fixed, first.options);
    job_release(&first);
    if (!err)
        err = p->refines ? check_refinement(p, &fixed, why) : check_capacity(&active, o, why);
    if (err)
        return err;
    if (asks_for_another(o, &fixed))
        return refuse(why, 422, "fixed_by_first_job",
                      "The first job set depth %d, input %dx%dx%d (channels, height, width), mirror "
                      "%s and feature_power %g for good. Leave these out.",
                      resnet_depth(fixed.learner.arch, fixed.learner.blocks), fixed.channels,
                      fixed.height, fixed.width, fixed.learner.mirror ? "true" : "false",
                      (double)fixed.learner.feature_power);
    o->learner.arch = fixed.learner.arch;
    o->learner.blocks = fixed.learner.blocks;
    o->learner.mirror = fixed.learner.mirror;
    o->learner.feature_power = fixed.learner.feature_power;
    o->channels = fixed.channels;
    o->height = fixed.height;
    o->width = fixed.width;
    return 0;
}

/* Of the machine the job will run on: a store may have moved to another one since the job was posted. */
static int check_precision(const struct job_options *o, struct refusal *why)
{
    const char *bad = NULL;
    if (!conv_precision_available(o->learner.precision, conv_isa_best()))
        bad = "precision";
    else if (!conv_precision_available(o->learner.teachers_precision, conv_isa_best()))
        bad = "teachers_precision";
    if (!bad)
        return 0;
    return refuse(why, 422, "bad_option",
                  "This CPU has no bf16 arithmetic (AVX512_BF16): post the job with '%s' \"fp32\" or "
                  "\"fastest\".", bad);
}

/* ---- the two ways in ---- */

static int load_named(struct db_txn *t, struct plan *p, const char *name, struct refusal *why)
{
    struct batch *b = &p->train[p->train_count];
    int err = batches_load_named(t, name, b);
    if (err == ERR_MISSING)
        return refuse(why, 404, "batch_not_found", "There is no batch '%.100s'.", name);
    if (err)
        return err;
    p->train_count++;
    for (int i = 0; i < p->train_count - 1; i++)
        if (p->train[i].id == b->id)
            return refuse(why, 422, "bad_field", "Batch '%s' is named twice.", b->name);
    return check_batch(b, why);
}

int plan_for_post(struct db_txn *t, const char *const *batch_names, int count,
                  const struct job_options *options, struct plan *out, struct refusal *why)
{
    struct plan p = {.options = *options};
    int err = 0;
    p.train = calloc((size_t)count + 1, sizeof *p.train);
    if (!p.train)
        return ERR_NOMEM;
    for (int i = 0; i < count && !err; i++)
        err = load_named(t, &p, batch_names[i], why);
    if (!err)
        err = batches_load_test(t, &p.test, &p.test_count);
    if (!err)
        err = load_base(t, &p);
    if (!err)
        err = add_classes(t, &p, why);
    if (!err)
        err = fix_architecture(t, &p, why);
    if (!err)
        err = check_precision(&p.options, why);
    if (err) {
        plan_release(&p);
        return err;
    }
    *out = p;
    return 0;
}

int plan_for_start(struct db_txn *t, int64_t id, struct plan *out, struct refusal *why)
{
    struct job job = {0};
    struct plan p = {.job = id};
    int err = jobs_get(t, id, &job);
    if (err)
        return err;
    p.train = calloc((size_t)job.batch_count + 1, sizeof *p.train);
    err = p.train ? job_options_load(&p.options, job.options) : ERR_NOMEM;
    for (int i = 0; i < job.batch_count && !err; i++) {
        err = batches_load(t, job.batch_ids[i], &p.train[i]);
        p.train_count += !err;
    }
    if (!err)
        err = batches_load_test(t, &p.test, &p.test_count);
    if (!err)
        err = renames_list(t, &p.renames, &p.rename_count);
    if (!err)
        err = versions_served(t, &p.served, &p.served_count);
    if (!err)
        err = load_base(t, &p);
    if (!err)
        err = add_classes(t, &p, why);
    if (!err)
        err = fix_architecture(t, &p, why);
    if (!err)
        err = check_precision(&p.options, why);
    if (!err)
        err = jobs_set_base(t, id, p.base);
    job_release(&job);
    if (err) {
        plan_release(&p);
        return err;
    }
    *out = p;
    return 0;
}
