/*
 * predictor.h - the model that serves, and how it is swapped.
 *
 * A `serving` is one version made ready: frozen model, class names, version number; immutable and
 * reference-counted. The predictor holds the active one; predictions hold the one they started
 * with, so a swap never fails a request. Swapping and looking up happen on the loop; classifying on
 * a worker.
 */
#ifndef ACCRETED_SERVER_JOBS_PREDICTOR_H
#define ACCRETED_SERVER_JOBS_PREDICTOR_H

#include <stdint.h>

#include "core/model/frozen.h"
#include "server/decode/image.h"

struct app;
struct predictor;

struct serving {
    int64_t version;
    struct frozen *frozen;
    int class_count;
    char **class_names; /* by output index */
    _Atomic int references;
};

struct prediction {
    int class_index;
    float score;
};

int predictor_new(struct predictor **out, struct app *app);
void predictor_free(struct predictor *p);

/* Loads the active version's model file, if there is one; blocks; start-up only. */
int predictor_start(struct predictor *p);
/* Makes `s` the one that serves; takes the reference. Loop. */
void predictor_swap(struct predictor *p, struct serving *s);
/* The active one, held for the caller, or NULL when nothing is published yet. Loop. */
struct serving *predictor_active(struct predictor *p);

/* Builds a serving from a loaded model and its class names (copied). Any thread. */
int serving_new(struct serving **out, int64_t version, struct model *model,
                const char *const *class_names);
void serving_release(struct serving *s); /* any thread */

/* Classifies one image: fits it to the model's input, top `k` by falling score into top[0..k-1]; k
 * is clipped to the number of classes, the count returned in *count. Any thread but the loop.
 * Errors: ERR_NOMEM. */
int serving_classify(const struct serving *s, const struct image *img, int k,
                     struct prediction *top, int *count);

#endif
