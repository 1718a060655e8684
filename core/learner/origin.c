/*
 * origin.c - where the statistics of old classes come from, and how they come into what is learned: experts, and what is carried
 * over into the new network's features (m2kd/experts.h, m2kd/prototypes.h).
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/err.h"
#include "core/learner/learner_state.h"
#include "core/m2kd/experts.h"
#include "core/m2kd/prototypes.h"
#include "core/m2kd/snapshot.h"

/* Strength with which carried prototypes stay put, in images (prototypes_fit_map). */
#define PROTOTYPE_RIDGE 0.1
/* What of the map's residual on all images is taken for the spread of old classes, few or none of whose images are among them
 * (prototypes_carry_covariance). */
#define RESIDUAL_SHARE 0.5
/* Kept images of a class that move its carried mean half as far as they say (prototypes_correct). */
#define CORRECTION_PRIOR 10

/* ---- before training ---- */

/* Experts that what is learned may have. */
static int expert_limit(const struct learner *l)
{
    const struct learner_options *o = l->options;
    int room = MODEL_MAX_WIDTH / l->base->net->feature_count - 1;
    if (o->classifier == CLASSIFIER_HEAD || o->method == METHOD_FROZEN)
        return 0;
    return o->experts < room ? o->experts : room;
}

/* The folder of the snapshots, in `out`. Errors: ERR_INVALID (too long). */
static int snapshot_folder(const struct learner *l, char *out, size_t room)
{
    const char *path = l->job->snapshot_paths[0], *slash = strrchr(path, '/');
    int length = slash ? (int)(slash - path) : 0;
    int n = slash ? snprintf(out, room, "%.*s", length, path) : snprintf(out, room, ".");
    return n >= 0 && (size_t)n < room ? 0 : ERR_INVALID;
}

int learner_load_experts(const struct learner *l, struct model *m)
{
    char folder[4400];
    int err = snapshot_folder(l, folder, sizeof folder);
    return err ? err : experts_load(m, folder, l->isa);
}

/* With experts the last snapshot: in it, what it measured stays. */
int learner_prepare_origin(struct learner *l)
{
    const struct learner_job *job = l->job;
    if (!l->base || l->refines)
        return 0;
    if (expert_limit(l) == 0) {
        l->origin = model_hold(l->base);
        return l->owned ? learner_load_experts(l, l->origin) : 0;
    }
    int err = snapshot_load(&l->origin, job->snapshot_paths[l->step - 1], l->isa);
    if (err)
        return err;
    if (!model_continues(l->origin, job->base, 0))
        return ERR_FORMAT;
    learner_retire_like(l->origin, job->base);
    return learner_load_experts(l, l->origin);
}

/* ---- after it ---- */

/* The file's name in a path, as experts are called. */
static int expert_name(const char *path, model_expert_name name)
{
    const char *slash = strrchr(path, '/'), *file = slash ? slash + 1 : path;
    if (strlen(file) >= MODEL_EXPERT_NAME)
        return ERR_INVALID;
    memset(name, 0, MODEL_EXPERT_NAME);
    memcpy(name, file, strlen(file));
    return 0;
}

/* Those of the origin, and the origin itself, which is the last step's snapshot, while there is room. */
static int give_experts(struct learner *l, struct model *m)
{
    struct model *origin = l->origin;
    int limit = expert_limit(l), known = origin->expert_count;
    int count = known < limit ? known + 1 : limit, err = 0;
    if (count == 0)
        return 0;
    struct model **experts = malloc((size_t)count * sizeof(struct model *));
    model_expert_name *names = malloc((size_t)count * sizeof *names);
    if (!experts || !names)
        err = ERR_NOMEM;
    for (int i = 0; !err && i < count; i++) {
        experts[i] = i < known ? origin->experts[i] : origin;
        if (i < known)
            memcpy(names[i], origin->expert_names[i], sizeof names[i]);
        else
            err = expert_name(l->job->snapshot_paths[l->step - 1], names[i]);
    }
    if (!err)
        err = model_set_experts(m, names, experts, count);
    free(experts);
    free(names);
    return err;
}

/* What the kept images, which are the last ones, say of carried means. The nearest mean of the exemplars, iCaRL's rule, is classify.c's. */
static int correct_means(struct learner *l, const float *old, const float *own, const float *map,
                         struct model *m)
{
    size_t fresh = (size_t)(l->job->train->count - l->job->exemplars);
    int from = model_width(l->origin), to = m->net->feature_count;
    if (l->options->classifier == CLASSIFIER_PROTOTYPES)
        return 0;
    return prototypes_correct(l->job->exemplars, from, to, model_width(m) - to,
                              old + fresh * (size_t)from, own + fresh * (size_t)to,
                              l->job->train->labels + fresh, map, CORRECTION_PRIOR,
                              l->job->command, l->old_classes, m->prototypes);
}

/* What one kept image counts for in the map, that an old class which has any counts in it as much as a new one, of which an image is 1. */
static double kept_weight(const struct learner *l)
{
    const struct dataset *d = l->job->train;
    int fresh = d->count - l->job->exemplars, of_new = 0, kept_classes = 0;
    if (l->job->exemplars == 0)
        return 1;
    for (int i = 0; i < fresh; i++)
        of_new += d->labels[i] >= l->old_classes;
    for (int c = 0; c < l->old_classes; c++)
        kept_classes += learner_has_exemplar(d, l->job->exemplars, c);
    double a_new_class = (double)of_new / (l->job->classes - l->old_classes);
    return a_new_class * kept_classes / l->job->exemplars;
}

/* Old prototypes and their covariance carried from the origin's feature space into m's, on the
 * current images, which are `old` in the one and in m's network `own`. */
static int carry_over(struct learner *l, const float *old, const float *own, struct model *m)
{
    int n = l->job->train->count, from = model_width(l->origin), to = m->net->feature_count;
    int keep = model_width(m) - to;
    float *map = malloc((size_t)from * (size_t)to * sizeof *map);
    int err = map ? prototypes_fit_map(n, from, to, old, own, l->job->exemplars, kept_weight(l),
                                       PROTOTYPE_RIDGE, l->job->command, map)
                  : ERR_NOMEM;
    if (!err)
        err = prototypes_carry_covariance(n, from, to, keep, old, own, map, RESIDUAL_SHARE,
                                          l->job->command, l->origin->covariance, m->covariance);
    if (!err) {
        prototypes_carry(l->old_classes, from, to, keep, map, l->origin->prototypes,
                         m->prototypes);
        memcpy(m->images, l->origin->images, (size_t)l->old_classes * sizeof *m->images);
        err = correct_means(l, old, own, map, m);
    }
    free(map);
    return err;
}

/* *features (n, feature_count) of m's network become those of its experts too, which are the first of `old`. */
static int join_features(struct learner *l, const float *old, const struct model *m,
                         float **features)
{
    size_t n = (size_t)l->job->train->count, from = (size_t)model_width(l->origin);
    size_t own = (size_t)m->net->feature_count, width = (size_t)model_width(m);
    if (width == own)
        return 0;
    float *joined = malloc(n * width * sizeof *joined);
    if (!joined)
        return ERR_NOMEM;
    for (size_t i = 0; i < n; i++) {
        memcpy(joined + i * width, old + i * from, (width - own) * sizeof *joined);
        memcpy(joined + (i + 1) * width - own, *features + i * own, own * sizeof *joined);
    }
    free(*features);
    *features = joined;
    return 0;
}

int learner_carry_over(struct learner *l, const float *old, struct model *m, float **features)
{
    int err = give_experts(l, m);
    if (!err)
        err = carry_over(l, old, *features, m);
    return err ? err : join_features(l, old, m, features);
}
