/*
 * compress.c - from the dense model to its snapshot: prune, retrain, round, save; and the snapshot of before where no class is new.
 */
#include <stdlib.h>
#include <string.h>

#include "core/err.h"
#include "core/learner/learner_state.h"
#include "core/m2kd/mask.h"
#include "core/m2kd/snapshot.h"
#include "core/model/retire.h"

/* The pruned copy is retrained at this share of the learning rate. */
#define RETRAIN_RATE 0.1f

/* Replaces *m by itself without the rows of classes yet to come. The mask stays good: what it is asked about, the
 * convolutions, comes before the heads. */
static int drop_reserve(struct learner *l, struct model **m)
{
    struct model *from = *m, *to;
    struct resnet_spec spec = from->net->spec;
    if (spec.classes == l->job->classes)
        return 0;
    spec.classes = l->job->classes;
    from->step_end[l->step] = spec.classes;
    int err = model_new(&to, &spec, from->step_end, from->step_count, l->isa);
    if (err)
        return err;
    for (int i = 0; i < to->net->params.entry_count; i++) {
        const struct param_entry *a = &from->net->params.entries[i];
        const struct param_entry *b = &to->net->params.entries[i];
        memcpy(to->params + b->offset, from->params + a->offset, b->count * sizeof *to->params);
    }
    to->classifier = from->classifier;
    model_inherit(to, from);
    model_release(from);
    *m = to;
    return 0;
}

int learner_prune(struct learner *l)
{
    const struct learner_options *o = l->options;
    struct resnet *net = l->model->net;
    learner_enter(l, PHASE_PRUNE);
    l->mask = malloc(net->params.count);
    if (!l->mask)
        return ERR_NOMEM;
    int err = mask_by_magnitude(net, l->model->params, l->owned, o->prune_keep, l->mask);
    if (!err && !l->pruned) { /* else resumed while retraining it */
        learner_align_head(l, l->model);
        err = model_copy(&l->pruned, l->model, l->isa);
        if (err)
            return err;
        mask_apply(l->mask, net->params.count, l->pruned->params);
        memset(l->velocity, 0, net->params.count * sizeof *l->velocity);
    }
    if (!err)
        err = fit_epochs(l, l->epochs_dense, l->epochs_total, learner_rate(l) * RETRAIN_RATE,
                         l->pruned->params, l->mask);
    if (err)
        return err;
    learner_align_head(l, l->pruned);
    err = snapshot_round(l->pruned, l->mask, o->prune_bits);
    if (err)
        return err;
    train_free(l->train); /* the largest part of the memory, which what is left to do wants */
    l->train = NULL;
    err = drop_reserve(l, &l->model);
    if (!err)
        err = drop_reserve(l, &l->pruned);
    if (!err)
        err = learner_finish_classifiers(l);
    if (!err) /* once more, for its prototypes */
        err = snapshot_round(l->pruned, l->mask, o->prune_bits);
    return err;
}

/* ---- in place of training, where no class is new ---- */

/* l->pruned: the base's snapshot; l->mask, which weights it has. */
static int load_twin(struct learner *l)
{
    int err = snapshot_load_owned(&l->pruned, &l->mask, l->job->snapshot_paths[l->step], l->isa);
    if (err)
        return err;
    if (!model_continues(l->pruned, l->base, 0))
        return ERR_FORMAT;
    for (size_t i = 0; i < l->base->net->params.count; i++)
        l->mask[i] = l->mask[i] == MASK_OWNED ? MASK_KEPT : MASK_PRUNED;
    learner_retire_like(l->pruned, l->base);
    return learner_load_experts(l, l->pruned);
}

int learner_refine(struct learner *l)
{
    int err = model_copy(&l->model, l->base, l->isa);
    if (!err)
        err = load_twin(l);
    if (!err)
        err = learner_finish_classifiers(l);
    return err ? err : snapshot_round_refined(l->pruned);
}

double learner_sparsity(const struct learner *l)
{
    const struct param_table *t = &l->model->net->params;
    double weights = 0, kept = 0;
    for (int i = 0; i < t->entry_count; i++) {
        const struct param_entry *e = &t->entries[i];
        if (e->kind != PARAM_CONV_WEIGHT)
            continue;
        weights += (double)e->count;
        for (size_t j = 0; j < e->count; j++)
            kept += l->mask[e->offset + j] != MASK_PRUNED;
    }
    return 1 - kept / weights;
}

int learner_save_snapshot(struct learner *l, uint64_t *bytes)
{
    const struct learner_job *job = l->job;
    int bits = l->options->prune_bits;
    if (l->refines)
        return snapshot_save_refined(l->pruned, job->snapshot_paths[l->step], job->snapshot_path,
                                     bytes);
    if (l->owned)
        return snapshot_save_shared(l->pruned, l->mask, bits, job->snapshot_paths[l->step - 1],
                                    job->snapshot_path, bytes);
    return snapshot_save(l->pruned, l->mask, bits, job->snapshot_path, bytes);
}
