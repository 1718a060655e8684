#include "core/learner/learner.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <xxhash.h>

#include "core/err.h"
#include "core/learner/calibrate.h"
#include "core/learner/checkpoint.h"
#include "core/learner/learner_state.h"
#include "core/m2kd/mask.h"
#include "core/m2kd/snapshot.h"
#include "core/model/retire.h"

/* Shares of the progress bar: the rest is evaluation and publication. */
#define PROGRESS_EPOCHS 0.97
#define PROGRESS_EVALUATE 0.98
#define PROGRESS_PUBLISH 0.99

/* ---- telling and asking the caller ---- */

void learner_report(struct learner *l, double fraction)
{
    struct learner_progress p = {
        .phase = l->phase,
        .fraction = PROGRESS_EPOCHS * fraction,
        .images_per_second = l->seconds > 0 ? (double)l->images_done / l->seconds : 0,
    };
    if (l->phase == PHASE_EVALUATE)
        p.fraction = PROGRESS_EVALUATE;
    if (l->phase == PHASE_PUBLISH)
        p.fraction = PROGRESS_PUBLISH;
    if (l->job->on_progress)
        l->job->on_progress(l->job->ctx, &p);
}

void learner_enter(struct learner *l, enum learner_phase phase)
{
    l->phase = phase;
    learner_report(l, l->epochs_total ? (double)l->epochs_done / l->epochs_total : 0);
}

int learner_commanded(const struct learner *l)
{
    switch ((enum learner_command)atomic_load(l->job->command)) {
    case COMMAND_RUN:
        return 0;
    case COMMAND_CANCEL:
        return ERR_CANCELLED;
    case COMMAND_STOP:
        return ERR_STOPPED;
    }
    return 0;
}

/* Whether the labels are those of classes in their range, and each new one has an image. */
static bool labels_valid(const struct learner_job *job, int old)
{
    const struct dataset *d = job->train;
    int fresh = d->count - job->exemplars;
    bool *seen = calloc((size_t)job->classes, sizeof *seen), valid = seen;
    for (int i = 0; valid && i < d->count; i++) {
        int label = d->labels[i];
        valid = label >= 0 && label < (i < fresh ? job->classes : old) &&
                !(label < old && job->base->retired[label]);
        if (valid)
            seen[label] = true;
    }
    for (int c = old; valid && c < job->classes; c++)
        valid = seen[c];
    free(seen);
    return valid;
}

/* Whether all images are of the shape the network takes. */
static bool shapes_valid(const struct learner_job *job)
{
    const struct dataset *d = job->train;
    const struct resnet_spec *s = job->base ? &job->base->net->spec : NULL;
    return dataset_has_shape(job->test, d->height, d->width, d->channels) &&
           (!s || dataset_has_shape(d, s->height, s->width, s->channels));
}

static bool job_valid(const struct learner_job *job)
{
    const struct learner_options *o = job->options;
    int old = job->base ? job->base->net->spec.classes : 0, brought = job->classes - old;
    if (o->method == METHOD_AUTO || job->exemplars < 0 || job->exemplars >= job->train->count ||
        brought < 0 || job->classes < 1 || job->classes > RESNET_MAX_CLASSES || !shapes_valid(job) ||
        !labels_valid(job, old) || !dataset_labels_below(job->test, job->classes))
        return false;
    if (brought == 0)
        return o->classifier != CLASSIFIER_HEAD;
    return brought > 1 || o->loss != LOSS_SOFTMAX || job->exemplars;
}

static struct resnet_spec job_spec(const struct learner_job *job)
{
    struct resnet_spec spec = {
        .arch = job->options->arch,
        .blocks = job->options->blocks,
        .channels = job->train->channels,
        .height = job->train->height,
        .width = job->train->width,
    };
    if (job->base)
        spec = job->base->net->spec;
    spec.classes = job->classes > job->options->head_reserve ? job->classes
                                                             : job->options->head_reserve;
    return spec;
}

void learner_retire_like(struct model *m, const struct model *known)
{
    for (int c = 0; c < m->net->spec.classes; c++)
        if (known->retired[c])
            model_retire(m, c);
}

/* What is built on: the active model; in the shared store the last snapshot and what it and those before it own. */
static int prepare_base(struct learner *l)
{
    const struct learner_job *job = l->job;
    if (!job->base)
        return 0;
    if (l->refines || l->options->store != STORE_SHARED) {
        l->base = model_hold(job->base);
        return 0;
    }
    int err = snapshot_load_owned(&l->base, &l->owned, job->snapshot_paths[l->step - 1], l->isa);
    if (err)
        return err;
    if (!model_continues(l->base, job->base, 0))
        return ERR_FORMAT;
    learner_retire_like(l->base, job->base);
    return 0;
}

/* l->owned for the model to train. What it is about, the convolutions, comes before the heads, which grew. */
static int grow_owned(struct learner *l)
{
    size_t before = l->base->net->params.count, count = l->model->net->params.count;
    uint8_t *grown = realloc(l->owned, count);
    if (!grown)
        return ERR_NOMEM;
    l->owned = grown;
    memset(grown + before, MASK_KEPT, count - before);
    return 0;
}

static int trained_heads(const struct learner *l)
{
    return l->options->aux ? l->model->net->head_count : 1;
}

/* Rows that nobody trains are zeros, which a snapshot has for nothing. */
static void clear_idle_heads(struct learner *l)
{
    const struct resnet *net = l->model->net;
    size_t old = (size_t)l->old_classes, brought = (size_t)net->spec.classes - old;
    for (int head = trained_heads(l); head < net->head_count; head++) {
        size_t features = (size_t)net->head_features[head];
        float *weight = l->model->params + net->params.entries[net->head_weight[head]].offset;
        float *bias = l->model->params + net->params.entries[net->head_bias[head]].offset;
        memset(weight + old * features, 0, brought * features * sizeof *weight);
        memset(bias + old, 0, brought * sizeof *bias);
    }
}

/* Each new output begins at the probability it has of an image of any new class. From 1/2 the sigmoid form's sum of losses would first
 * turn all of them down at once, through the features too, from which a deep network takes epochs to recover (Lin et al. 2017,
 * section 3.3). LwF.MC's head of fixed size begins at 1/2. */
static void begin_at_prior(struct learner *l)
{
    const struct resnet *net = l->model->net;
    int brought = net->spec.classes - l->old_classes;
    if (l->options->loss != LOSS_SIGMOID || l->options->head_reserve || brought < 2)
        return;
    for (int head = 0; head < trained_heads(l); head++) {
        float *bias = l->model->params + net->params.entries[net->head_bias[head]].offset;
        for (int c = l->old_classes; c < net->spec.classes; c++)
            bias[c] = -logf((float)(brought - 1));
    }
}

/* The model to train: initialised, or the base with rows for the new classes and those in reserve. */
static int prepare_model(struct learner *l)
{
    const struct learner_job *job = l->job;
    struct resnet_spec spec = job_spec(job);
    int *step_end, err;
    step_end = malloc(((size_t)l->step + 1) * sizeof *step_end);
    if (!step_end)
        return ERR_NOMEM;
    if (job->base)
        memcpy(step_end, job->base->step_end, (size_t)l->step * sizeof *step_end);
    step_end[l->step] = spec.classes;
    err = model_new(&l->model, &spec, step_end, l->step + 1, l->isa);
    free(step_end);
    if (err)
        return err;
    l->model->classifier = l->options->classifier;
    if (l->base) {
        resnet_grow(l->base->net, l->base->params, l->model->net, l->options->seed + l->step,
                    l->model->params);
        model_inherit(l->model, l->base);
    } else {
        resnet_initialise(l->model->net, l->options->seed, l->model->params);
        dataset_statistics(job->train, l->model->mean, l->model->std);
        l->model->view.mirrored = learner_mirrors(l->options);
        l->model->view.power = l->options->feature_power;
    }
    clear_idle_heads(l);
    begin_at_prior(l);
    return 0;
}

/* A hash of all that determines the result but kernel and gang: what a checkpoint must match. */
static uint64_t job_fingerprint(const struct learner_job *job)
{
    const struct learner_options *o = job->options;
    const struct dataset *d = job->train;
    size_t pixels = (size_t)d->count * d->height * d->width * d->channels;
    uint64_t base = job->base ? XXH3_64bits(job->base->params, job->base->net->params.count *
                                                                   sizeof(float)) : 0;
    char text[1024];
    int n = snprintf(
        text, sizeof text,
        "%d %d %d %d %d %d %d %d %a %a %a %a %a %d %d %d %d %d %d %d %d %d %a %a %a %d %a %d %d %d "
        "%a %a %d %d %d %llu | "
        "%d %d %d %d %d %d %llx %llx %llx",
        (int)o->method, (int)o->loss, (int)o->teachers, o->teachers_per_image,
        (int)o->teachers_precision, (int)o->classifier, (int)o->precision, o->aux,
        o->logit_weight, o->lambda,
        o->feature_weight, o->aux_weight, o->temperature, o->head_reserve,
        o->experts, o->exemplars_total, (int)o->exemplars_select, o->weight_align, (int)o->arch, o->blocks,
        o->epochs, o->batch, o->sgd.lr, o->sgd.momentum, o->sgd.weight_decay,
        (int)o->sgd.schedule, o->lr_later, o->view.pad, o->view.flip, o->mirror, o->feature_power,
        o->prune_keep,
        o->prune_epochs, o->prune_bits, (int)o->store, (unsigned long long)o->seed, job->classes, job->exemplars,
        d->count,
        d->height, d->width, d->channels, (unsigned long long)XXH3_64bits(d->pixels, pixels),
        (unsigned long long)XXH3_64bits(d->labels, (size_t)d->count * sizeof *d->labels),
        (unsigned long long)base);
    return XXH3_64bits(text, (size_t)n);
}

/* The images of a batch at most. */
static int batch_images(const struct learner *l)
{
    int count = l->job->train->count;
    return l->options->batch < count ? l->options->batch : count;
}

static int prepare_workspace(struct learner *l)
{
    const struct learner_options *o = l->options;
    size_t count = l->model->net->params.count;
    int batch = batch_images(l);
    l->velocity = calloc(count, sizeof *l->velocity);
    l->order = malloc((size_t)l->job->train->count * sizeof *l->order);
    l->labels = malloc((size_t)batch * sizeof *l->labels);
    if (!l->velocity || !l->order || !l->labels)
        return ERR_NOMEM;
    int err = resnet_new(&l->net, &l->model->net->spec, l->isa);
    if (!err)
        err = resnet_set_precision(l->net, o->precision);
    return err ? err : train_new(&l->train, l->net, l->gang, batch, l->job->command);
}

/*
 * Goes on from the checkpoint where there is one. A missing, damaged or foreign one means starting
 * from the beginning: that is correct, only slower, and result.resumed says so.
 */
static int resume(struct learner *l)
{
    size_t count = l->model->net->params.count;
    bool has_dense = false;
    struct checkpoint c = {.fingerprint = l->fingerprint, .param_count = count};
    int err = ERR_NOMEM;
    c.params = malloc(count * sizeof(float));
    c.velocity = malloc(count * sizeof(float));
    c.dense = malloc(count * sizeof(float));
    if (!c.params || !c.velocity || !c.dense)
        goto out;
    err = 0;
    if (checkpoint_load(&c, l->job->checkpoint_path, &has_dense))
        goto out;
    memcpy(l->model->params, has_dense ? c.dense : c.params, count * sizeof(float));
    memcpy(l->velocity, c.velocity, count * sizeof(float));
    l->epochs_done = c.epochs_done;
    l->resumed = true;
    l->reproducible = !c.mixed && c.gang == l->options->gang &&
                      !strcmp(c.kernel, conv_isa_name(l->isa));
    if (has_dense) {
        err = model_copy(&l->pruned, l->model, l->isa);
        if (!err)
            memcpy(l->pruned->params, c.params, count * sizeof(float));
    }
out:
    free(c.params);
    free(c.velocity);
    free(c.dense);
    return err;
}

int learner_save_checkpoint(struct learner *l, float *params)
{
    struct checkpoint c = {
        .fingerprint = l->fingerprint,
        .gang = l->options->gang,
        .epochs_done = l->epochs_done,
        .mixed = !l->reproducible,
        .param_count = l->model->net->params.count,
        .params = params,
        .velocity = l->velocity,
        .dense = l->pruned ? l->model->params : NULL,
    };
    snprintf(c.kernel, sizeof c.kernel, "%s", conv_isa_name(l->isa));
    return checkpoint_save(&c, l->job->checkpoint_path);
}

static int prepare(struct learner *l)
{
    learner_enter(l, PHASE_PREPARE);
    if (!job_valid(l->job))
        return ERR_INVALID;
    int err = gang_new(&l->gang, l->options->gang, l->options->nice_level);
    if (!err)
        err = prepare_base(l);
    if (!err)
        err = learner_prepare_origin(l);
    if (err || l->refines)
        return err;
    err = prepare_model(l);
    if (!err && l->owned)
        err = grow_owned(l);
    if (!err)
        err = prepare_workspace(l);
    if (!err)
        err = resume(l);
    return err;
}

static int distil(struct learner *l)
{
    const struct learner_options *o = l->options;
    learner_enter(l, PHASE_DISTIL);
    if (o->method != METHOD_M2KD || !l->job->base)
        return 0;
    const struct teachers_options options = {
        .which = o->teachers,
        .per_image = o->teachers_per_image,
        .precision = o->teachers_precision,
        .student = l->model->net,
        .old_classes = l->old_classes,
        .base = o->feature_weight > 0 ? l->base : NULL,
        .member_count = o->gang,
        .batch_max = batch_images(l),
        .isa = l->isa,
        .command = l->job->command,
    };
    return teachers_new(&l->teachers, l->job->snapshot_paths, l->step, &options);
}

float learner_rate(const struct learner *l)
{
    return l->options->sgd.lr * (l->job->base ? l->options->lr_later : 1.0f);
}

static int fit_dense(struct learner *l)
{
    learner_enter(l, PHASE_TRAIN);
    return fit_epochs(l, 0, l->epochs_dense, learner_rate(l), l->model->params,
                      l->owned);
}

/* ---- evaluate, publish ---- */

/* Measures the dense model and the snapshot, and fits their scales on the same images where they are enough: those they were trained on
 * make them too sure of themselves. */
static int evaluate_both(struct learner *l, struct learner_result *r)
{
    struct model *models[2] = {l->model, l->pruned};
    struct frozen *frozen[2] = {NULL, NULL};
    struct evaluation made[2] = {0};
    learner_enter(l, PHASE_EVALUATE);
    int err = frozen_new(&frozen[0], models[0]);
    if (!err)
        err = (model_same_experts(models[0], models[1]) ? frozen_new_alone : frozen_new)(&frozen[1], models[1]);
    if (!err)
        err = evaluate(2, made, frozen, l->job->test, l->gang, l->job->command);
    for (int k = 0; k < 2; k++) {
        if (!err && learner_scales_on_test(l))
            err = calibrate_scale(made[k].sampled, made[k].classes, made[k].scores, made[k].labels,
                                  l->job->command, &models[k]->score_scale);
        frozen_free(frozen[k]);
    }
    r->dense = made[0];
    r->pruned = made[1];
    return err ? err : learner_commanded(l);
}

static int publish(struct learner *l, struct learner_result *r)
{
    learner_enter(l, PHASE_PUBLISH);
    int err = model_save(l->model, l->job->model_path, &r->model_bytes);
    if (!err)
        err = learner_save_snapshot(l, &r->snapshot_bytes);
    if (err)
        return err;
    r->model = model_hold(l->model);
    r->dense_bytes = model_dense_bytes(l->model);
    r->sparsity = learner_sparsity(l);
    r->resumed = l->resumed;
    r->reproducible = l->reproducible;
    r->kernel = conv_isa_name(l->isa);
    r->train_seconds = l->seconds;
    r->kept = l->kept;
    r->kept_count = l->kept_count;
    l->kept = NULL;
    return 0;
}

static void learner_release(struct learner *l)
{
    train_free(l->train);
    resnet_free(l->net);
    teachers_free(l->teachers);
    model_release(l->model);
    model_release(l->pruned);
    model_release(l->base);
    model_release(l->origin);
    free(l->owned);
    gang_free(l->gang);
    free(l->velocity);
    free(l->mask);
    free(l->kept);
    free(l->order);
    free(l->labels);
}

int learner_run(const struct learner_job *job, struct learner_result *out)
{
    const char *bad_option;
    int err = learner_options_check(job->options, &bad_option);
    if (err)
        return err;
    struct learner_result result = {0};
    int old_classes = job->base ? job->base->net->spec.classes : 0;
    bool refines = job->base && job->classes == old_classes;
    bool still = refines || (job->options->method == METHOD_FROZEN && job->base);
    struct learner l = {
        .job = job,
        .options = job->options,
        .isa = conv_isa_best(),
        .refines = refines,
        .old_classes = old_classes,
        .step = job->base ? job->base->step_count - refines : 0,
        .epochs_dense = still ? 0 : job->options->epochs,
        .epochs_total = still ? 0 : job->options->epochs + job->options->prune_epochs,
        .fingerprint = job_fingerprint(job),
        .reproducible = true,
    };
    int (*const learning[])(struct learner *) = {prepare, distil, fit_dense, learner_prune, NULL};
    int (*const refining[])(struct learner *) = {prepare, learner_refine, NULL};
    for (int (*const *phase)(struct learner *) = refines ? refining : learning; !err && *phase;
         phase++) {
        err = learner_commanded(&l);
        if (!err)
            err = (*phase)(&l);
    }
    if (!err)
        err = evaluate_both(&l, &result);
    if (!err)
        err = publish(&l, &result);
    err = err == ERR_CANCELLED ? learner_commanded(&l) : err; /* the word has changed: to what? */
    if (err == ERR_CANCELLED)
        unlink(job->checkpoint_path);
    if (!err)
        *out = result;
    else
        learner_result_release(&result);
    learner_release(&l);
    return err;
}

void learner_result_release(struct learner_result *r)
{
    model_release(r->model);
    evaluation_release(&r->dense);
    evaluation_release(&r->pruned);
    free(r->kept);
    memset(r, 0, sizeof *r);
}
