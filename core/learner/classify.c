/*
 * classify.c - the end of an increment: prototypes, covariance and score scale of a model whose
 * parameters are final, the images worth keeping, and the alignment of the head.
 */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "core/err.h"
#include "core/learner/calibrate.h"
#include "core/learner/learner_state.h"
#include "core/m2kd/prototypes.h"

/* Strength with which carried prototypes stay put (prototypes_fit_map). */
#define PROTOTYPE_RIDGE 3e-4

/* Old prototypes and their covariance carried from the base's feature space into m's, on the current images. */
static int carry_over(struct learner *l, const float *features, struct model *m)
{
    const struct dataset *d = l->job->train;
    struct model *base = l->base;
    int width = m->net->feature_count;
    struct frozen *f = NULL;
    float *old = malloc((size_t)d->count * width * sizeof *old);
    float *map = malloc((size_t)width * width * sizeof *map);
    int err = old && map ? frozen_new(&f, base) : ERR_NOMEM;
    if (!err)
        err = evaluate_features(f, d, l->gang, l->job->command, old);
    if (!err)
        err = prototypes_fit_map(d->count, width, old, features, PROTOTYPE_RIDGE, map);
    if (err)
        goto out;
    memcpy(m->prototypes, base->prototypes,
           (size_t)l->old_classes * width * sizeof *m->prototypes);
    memcpy(m->covariance, base->covariance, COVARIANCE_FLOATS(width) * sizeof *m->covariance);
    err = prototypes_carry(l->old_classes, width, map, m->prototypes);
    if (!err)
        err = prototypes_carry_covariance(d->count, width, old, features, map, m->covariance);
out:
    frozen_free(f);
    free(map);
    free(old);
    return err;
}

static int fit_score_scale(struct learner *l, const struct frozen *f, struct model *m)
{
    const struct dataset *d = l->job->train;
    float *scores = malloc((size_t)d->count * l->job->classes * sizeof *scores);
    int err = scores ? evaluate_scores(f, d, l->gang, l->job->command, scores) : ERR_NOMEM;
    if (!err)
        m->score_scale = calibrate_scale(d->count, l->job->classes, scores, d->labels);
    free(scores);
    return err;
}

/* Takes the new classes into prototypes and covariance; in the covariance every class counts the same. */
static int add_statistics(struct learner *l, const float *features, struct model *m)
{
    const struct dataset *d = l->job->train;
    int width = m->net->feature_count, classes = l->job->classes;
    float share = (float)(classes - l->old_classes) / (float)classes;
    int first = l->job->exemplars ? 0 : l->old_classes; /* of whom there are images: those say more than what was carried */
    size_t count = COVARIANCE_FLOATS(width);
    float *added = malloc(count * sizeof *added);
    if (!added)
        return ERR_NOMEM;
    prototypes_mean(d->count, width, features, d->labels, first, classes, m->prototypes);
    int err = prototypes_covariance(d->count, width, features, d->labels, l->old_classes, classes,
                                    m->prototypes, added);
    for (size_t i = 0; !err && i < count; i++)
        m->covariance[i] = (1 - share) * m->covariance[i] + share * added[i];
    free(added);
    return err;
}

/* The images to keep: the same number of each class that has any, the best first. Old classes' are in that order. */
static int pick_exemplars(struct learner *l, const float *features)
{
    const struct dataset *d = l->job->train;
    int fresh = d->count - l->job->exemplars, each = l->options->exemplars_total / l->job->classes;
    if (each == 0)
        return 0;
    l->kept = malloc((size_t)d->count * sizeof *l->kept);
    if (!l->kept)
        return ERR_NOMEM;
    for (int c = 0; c < l->old_classes; c++)
        for (int i = fresh, taken = 0; i < d->count && taken < each; i++)
            if (d->labels[i] == c) {
                l->kept[l->kept_count++] = i;
                taken++;
            }
    for (int c = l->old_classes; c < l->job->classes; c++) {
        int count, err = exemplars_pick(l->options->exemplars_select, fresh,
                                        l->model->net->feature_count, features, d->labels, c, each,
                                        l->options->seed, l->kept + l->kept_count, &count);
        if (err)
            return err;
        l->kept_count += count;
    }
    return 0;
}

/* Prototypes, covariance and score scale of m, whose parameters are final; of the dense model, the images to keep. */
int learner_finish_classifier(struct learner *l, struct model *m)
{
    const struct dataset *d = l->job->train;
    int width = m->net->feature_count;
    struct frozen *f = NULL;
    float *features = malloc((size_t)d->count * width * sizeof *features);
    int err = features ? frozen_new(&f, m) : ERR_NOMEM;
    if (!err)
        err = evaluate_features(f, d, l->gang, l->job->command, features);
    if (!err && l->base)
        err = carry_over(l, features, m);
    if (!err)
        err = add_statistics(l, features, m);
    if (!err && m == l->model)
        err = pick_exemplars(l, features);
    frozen_free(f); /* it was made without them */
    f = NULL;
    if (!err)
        err = frozen_new(&f, m);
    if (!err)
        err = fit_score_scale(l, f, m);
    frozen_free(f);
    free(features);
    return err;
}

/* Mean length of the main head's rows [first, end). */
static double mean_norm(const float *rows, int width, int first, int end)
{
    double sum = 0;
    for (int c = first; c < end; c++) {
        double squares = 0;
        for (int f = 0; f < width; f++)
            squares += pow(rows[(size_t)c * width + f], 2);
        sum += sqrt(squares);
    }
    return sum / (end - first);
}

void learner_align_head(const struct learner *l, struct model *m)
{
    const struct learner_options *o = l->options;
    int width = m->net->head_features[0];
    float *rows = m->params + m->net->params.entries[m->net->head_weight[0]].offset;
    if (!l->job->exemplars || !o->weight_align || o->loss != LOSS_SOFTMAX ||
        o->classifier != CLASSIFIER_HEAD)
        return;
    float scale = (float)(mean_norm(rows, width, 0, l->old_classes) /
                          mean_norm(rows, width, l->old_classes, l->job->classes));
    for (size_t i = (size_t)l->old_classes * width; i < (size_t)l->job->classes * width; i++)
        rows[i] *= scale;
}
