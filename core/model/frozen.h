/*
 * frozen.h - a model made ready for inference: weights packed, batch norm reduced to one
 * multiply-add a value, which the passes between convolutions make anyway.
 *
 * For serving, for evaluation and for teachers. Immutable and shared between threads; each thread
 * brings its own workspace. Batches are walked a few images at a time so that activations stay in
 * the cache while weights are used more than once.
 */
#ifndef ACCRETED_CORE_MODEL_FROZEN_H
#define ACCRETED_CORE_MODEL_FROZEN_H

#include <stdint.h>

#include "core/model/model.h"

struct frozen;
struct frozen_workspace; /* scratch of one thread */

/* Score of a class that is retired: its probability is 0, and no finite scale makes it infinite. */
#define FROZEN_RETIRED_SCORE (-1e9f)

/* What to compute; NULL members are skipped. All rows are images. */
struct frozen_output {
    float *logits[RESNET_MAX_HEADS]; /* (n, classes) each; main, aux1, ...: as many as there are */
    float *features;                 /* (n, feature_count), not normalised */
};

/* New, owned by the caller; holds a reference on `m`. While m's experts are not loaded it has no scores: frozen_forward is all it
 * is good for. Errors: ERR_NOMEM, ERR_NUMERIC (model_classifier_rows). */
int frozen_new(struct frozen **out, struct model *m);
/* The same, which asks no experts of its own: frozen_classify with `known` is what it is good for, as frozen_forward is. */
int frozen_new_alone(struct frozen **out, struct model *m);
void frozen_free(struct frozen *f);
const struct model *frozen_model(const struct frozen *f); /* borrowed */

/* A workspace fits every model of the same architecture and input, with no more experts, whose convolutions are computed in the same
 * precision (resnet_set_precision), for its scratch follows the algorithm. Errors: ERR_NOMEM. */
int frozen_workspace_new(struct frozen_workspace **out, const struct frozen *f);
void frozen_workspace_free(struct frozen_workspace *ws);

/* Of the network alone, without experts, and of the image as it is, whatever model_view says. x: (n, height, width, channels),
 * normalised. On the calling thread; nothing fails. */
void frozen_forward(const struct frozen *f, struct frozen_workspace *ws, int n, const float *x,
                    const struct frozen_output *out);

/* Raw scores (n, classes) of the model's classifier, which sees images as model_view says: the main head's logits, the cosines of the
 * features with the prototypes, or their discriminants; FROZEN_RETIRED_SCORE for what is retired. */
void frozen_scores(const struct frozen *f, struct frozen_workspace *ws, int n, const float *x,
                   float *scores);
/* The same, and the features those come from (n, model_width), a unit vector of each expert and of the network; `features` may be
 * NULL. `known`: what another model of the same experts (model_same_experts) made of these images, (n, model_width), whose
 * experts' part is taken from there; NULL: they are asked. */
void frozen_classify(const struct frozen *f, struct frozen_workspace *ws, int n, const float *x,
                     const float *known, float *scores, float *features);
/* Those features alone. */
void frozen_features(const struct frozen *f, struct frozen_workspace *ws, int n, const float *x,
                     float *features);
/* Turns raw scores (n, classes) into the probabilities of frozen_probabilities, in place. */
void frozen_softmax(const struct frozen *f, int n, float *scores);

/* Probabilities (n, classes), rows sum to 1: softmax(score_scale * score). */
void frozen_probabilities(const struct frozen *f, struct frozen_workspace *ws, int n,
                          const float *x, float *probabilities);

/* uint8 pixels (height, width, channels) of one image to the normalised floats frozen_forward
 * takes. */
void frozen_normalise(const struct frozen *f, const uint8_t *pixels, float *x);

#endif
