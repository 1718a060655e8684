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
#include "core/nn/linear.h"

enum { SCORE_BLOCK = 256 }; /* images scored between two looks at the command word */

/* *features = those of the training images by m, new, owned by the caller; scores: as
 * evaluate_features, of m's classifier as it is now. */
static int features_of(struct learner *l, struct model *m, float *scores, float **features)
{
    const struct dataset *d = l->job->train;
    struct frozen *f = NULL;
    float *made = malloc((size_t)d->count * (size_t)model_width(m) * sizeof *made);
    int err = made ? frozen_new(&f, m) : ERR_NOMEM;
    if (!err)
        err = evaluate_features(f, d, l->gang, l->job->command, made, scores);
    frozen_free(f);
    if (!err)
        *features = made;
    else
        free(made);
    return err;
}

static int fit_scale(struct learner *l, const float *scores, struct model *m)
{
    const struct dataset *d = l->job->train;
    return calibrate_scale(d->count, l->job->classes, scores, d->labels, l->job->command,
                           &m->score_scale);
}

/* Room for the scores of all training images. */
static float *scores_new(const struct learner *l)
{
    return malloc((size_t)l->job->train->count * (size_t)l->job->classes * sizeof(float));
}

/* The scores (count, classes) of a classifier of means, which are linear in the features:
 * those of frozen_scores without another pass over the images. */
static int score_features(struct learner *l, const struct model *m, const float *features,
                          float *scores)
{
    int n = l->job->train->count, classes = l->job->classes, width = model_width(m);
    float *rows = malloc((size_t)classes * (size_t)width * sizeof *rows);
    float *bias = malloc((size_t)classes * sizeof *bias);
    int err = rows && bias ? model_classifier_rows(m, rows, bias) : ERR_NOMEM;
    for (int c = 0; c < classes && !err; c++)
        if (m->retired[c]) {
            memset(rows + (size_t)c * (size_t)width, 0, (size_t)width * sizeof *rows);
            bias[c] = FROZEN_RETIRED_SCORE;
        }
    for (int at = 0; at < n && !err; at += SCORE_BLOCK) {
        err = learner_commanded(l);
        linear_forward(n - at < SCORE_BLOCK ? n - at : SCORE_BLOCK, width, classes,
                       features + (size_t)at * (size_t)width, rows, bias,
                       scores + (size_t)at * (size_t)classes);
    }
    free(rows);
    free(bias);
    return err;
}

static int fit_means_scale(struct learner *l, const float *features, struct model *m)
{
    float *scores = scores_new(l);
    int err = scores ? score_features(l, m, features, scores) : ERR_NOMEM;
    if (!err)
        err = fit_scale(l, scores, m);
    free(scores);
    return err;
}

static int fresh_images(const struct learner *l)
{
    return l->job->train->count - l->job->exemplars;
}

/* How many of the new images are of class c. */
static uint32_t count_fresh(const struct learner *l, int c)
{
    uint32_t count = 0;
    for (int i = 0; i < fresh_images(l); i++)
        count += l->job->train->labels[i] == c;
    return count;
}

/* The share of `fresh` new images in all there were of a class; where nobody counted those before, they are taken to be as many. */
static double fresh_share(uint32_t before, uint32_t fresh)
{
    return before ? (double)fresh / ((double)before + fresh) : fresh ? 0.5 : 0;
}

/* Class c, of mean p in the prototypes, takes in its new images, of mean q, their `share` s of all: its mean becomes r = p + s (q - p),
 * and the covariance of all about r is (1 - s) that of the old about p + s that of the new about r + s^2 (1 - s) (q - p)(q - p)'. Adds
 * all but the first term to the covariance, times `weight`. apart (F) and scratch (COVARIANCE_FLOATS(F)) are for it to write on. */
static int take_in(struct learner *l, const float *features, struct model *m, int c, double share,
                   double weight, float *apart, float *scratch)
{
    const struct dataset *d = l->job->train;
    int width = model_width(m), fresh = fresh_images(l);
    float *p = m->prototypes + (size_t)c * (size_t)width;
    memcpy(apart, p, (size_t)width * sizeof *apart);
    prototypes_mean(fresh, width, features, d->labels, c, c + 1, m->prototypes);
    for (int f = 0; f < width; f++) {
        float before = apart[f];
        apart[f] = p[f] - before;
        p[f] = (float)(before + share * apart[f]);
    }
    int err = prototypes_covariance(fresh, width, features, d->labels, c, c + 1, m->prototypes,
                                    l->job->command, scratch);
    size_t at = 0;
    for (int r = 0; !err && r < width; r++)
        for (int k = 0; k <= r; k++, at++)
            m->covariance[at] += (float)(weight * share *
                                         (scratch[at] + share * (1 - share) * apart[r] * apart[k]));
    return err;
}

/* Known classes with new images, one by one. How the old images of a class lay around their mean is not known: the covariance of all
 * stands for it, which the caller has scaled by what is left of it. */
static int add_known(struct learner *l, const float *features, struct model *m, float *scratch)
{
    int classes = l->job->classes, err = 0;
    float *apart = malloc((size_t)model_width(m) * sizeof *apart);
    if (!apart)
        return ERR_NOMEM;
    for (int c = 0; c < l->old_classes && !err; c++) {
        uint32_t count = count_fresh(l, c), before = m->images[c] ? m->images[c] : count;
        if (count == 0)
            continue;
        err = take_in(l, features, m, c, fresh_share(before, count), 1.0 / classes, apart, scratch);
        m->images[c] = before < UINT32_MAX - count ? before + count : UINT32_MAX;
    }
    free(apart);
    return err;
}

/* The share of the covariance, in which every class counts the same, that new images renew: all of a new class's. */
static float renewed(const struct learner *l, const struct model *m)
{
    float classes = (float)l->job->classes, sum = (classes - (float)l->old_classes) / classes;
    for (int c = 0; c < l->old_classes; c++)
        sum += (float)fresh_share(m->images[c], count_fresh(l, c)) / classes;
    return sum;
}

/* Means of the classes in [first, end) over `count` images from `at` on, where they have any. */
static int fit_means(struct learner *l, const float *features, int at, int count, int first,
                     int end, struct model *m)
{
    int width = model_width(m), err = 0;
    for (int c = first; c < end && !err; c++) {
        err = learner_commanded(l);
        prototypes_mean(count, width, features + (size_t)at * (size_t)width,
                        l->job->train->labels + at, c, c + 1, m->prototypes);
    }
    return err;
}

/* iCaRL's rule: the means of old classes are those of the images kept of them. What the experts see needs no carrying, and is of all
 * images there were. */
static int fit_exemplar_means(struct learner *l, const float *features, struct model *m)
{
    size_t width = (size_t)model_width(m), own = (size_t)m->net->feature_count;
    int err = fit_means(l, features, fresh_images(l), l->job->exemplars, 0, l->old_classes, m);
    for (size_t c = 0; width > own && c < (size_t)l->old_classes; c++)
        memcpy(m->prototypes + c * width,
               l->origin->prototypes + c * (size_t)model_width(l->origin),
               (width - own) * sizeof *m->prototypes);
    return err;
}

/* Takes the new images into prototypes, covariance and counts. */
static int add_statistics(struct learner *l, const float *features, struct model *m)
{
    const struct dataset *d = l->job->train;
    int width = model_width(m), classes = l->job->classes, fresh = fresh_images(l), err = 0;
    float share = (float)(classes - l->old_classes) / (float)classes;
    float kept = 1 - renewed(l, m);
    size_t count = COVARIANCE_FLOATS(width);
    float *added = malloc(count * sizeof *added);
    if (!added)
        return ERR_NOMEM;
    if (!l->refines && m->classifier == CLASSIFIER_PROTOTYPES)
        err = fit_exemplar_means(l, features, m);
    if (!err)
        err = fit_means(l, features, 0, fresh, l->old_classes, classes, m);
    if (!err)
        err = prototypes_covariance(fresh, width, features, d->labels, l->old_classes, classes,
                                    m->prototypes, l->job->command, added);
    for (size_t i = 0; !err && i < count; i++)
        m->covariance[i] = kept * m->covariance[i] + share * added[i];
    for (int c = l->old_classes; c < classes; c++)
        m->images[c] = count_fresh(l, c);
    if (!err)
        err = add_known(l, features, m, added);
    free(added);
    return err;
}

/* The images to keep: the same number of each class that has any, the best first. Old classes' are in that order, but where
 * there are new images too: then they are picked anew. */
static int pick_exemplars(struct learner *l, const float *features)
{
    const struct dataset *d = l->job->train;
    int fresh = fresh_images(l), each = l->options->exemplars_total / l->job->classes;
    if (each == 0)
        return 0;
    l->kept = malloc((size_t)d->count * sizeof *l->kept);
    if (!l->kept)
        return ERR_NOMEM;
    for (int c = 0; c < l->job->classes; c++) {
        int *to = l->kept + l->kept_count, count = 0, err = 0;
        if (count_fresh(l, c) > 0)
            err = exemplars_pick(l->options->exemplars_select, d->count,
                                 model_width(l->model), features, d->labels, c, each,
                                 l->options->seed, l->job->command, to, &count);
        else
            for (int i = fresh; i < d->count && count < each; i++)
                if (d->labels[i] == c)
                    to[count++] = i;
        if (err)
            return err;
        l->kept_count += count;
    }
    return 0;
}

/* One of the models; `old` as learner_carry_over, or NULL: there is nothing to carry. */
static int finish_classifier(struct learner *l, const float *old, struct model *m)
{
    bool head = l->options->classifier == CLASSIFIER_HEAD;
    /* Images of a few classes say nothing of how sure the others may be: the base's scale stays, if it is of these scores. */
    bool keeps = l->refines && m->classifier == l->options->classifier;
    bool fits = !keeps && !learner_scales_on_test(l);
    float *features = NULL, *scores = head && fits ? scores_new(l) : NULL;
    m->classifier = l->options->classifier;
    int err = head && fits && !scores ? ERR_NOMEM : features_of(l, m, scores, &features);
    if (!err && scores)
        err = fit_scale(l, scores, m);
    free(scores);
    if (!err && old)
        err = learner_carry_over(l, old, m, &features);
    if (!err)
        err = add_statistics(l, features, m);
    if (!err && m == l->model)
        err = pick_exemplars(l, features);
    if (!err && !head && fits)
        err = fit_means_scale(l, features, m);
    free(features);
    return err;
}

int learner_finish_classifiers(struct learner *l)
{
    float *old = NULL;
    int err = l->origin ? features_of(l, l->origin, NULL, &old) : 0;
    if (!err)
        err = finish_classifier(l, old, l->model);
    if (!err)
        err = finish_classifier(l, old, l->pruned);
    free(old);
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
