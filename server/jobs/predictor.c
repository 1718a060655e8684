/*
 * predictor.c - see predictor.h.
 */
#include "server/jobs/predictor.h"

#include <inttypes.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "core/err.h"
#include "server/app.h"
#include "server/jobs/data.h"
#include "server/log.h"
#include "server/store/versions.h"

struct predictor {
    struct app *app;
    struct serving *active; /* one reference; NULL before the first version */
};

/* ---- servings ---- */

static void serving_free(struct serving *s)
{
    for (int i = 0; s->class_names && i < s->class_count; i++)
        free(s->class_names[i]);
    free(s->class_names);
    frozen_free(s->frozen);
    free(s);
}

int serving_new(struct serving **out, int64_t version, struct model *model,
                const char *const *class_names)
{
    struct serving *s = calloc(1, sizeof *s);
    int err = ERR_NOMEM;
    if (!s)
        return err;
    s->version = version;
    atomic_init(&s->references, 1);
    s->class_count = model->net->spec.classes;
    s->class_names = calloc((size_t)s->class_count, sizeof *s->class_names);
    if (!s->class_names)
        goto out;
    for (int i = 0; i < s->class_count; i++) {
        s->class_names[i] = strdup(class_names[i]);
        if (!s->class_names[i])
            goto out;
    }
    err = frozen_new(&s->frozen, model);
    if (!err)
        *out = s;
out:
    if (err)
        serving_free(s);
    return err;
}

void serving_release(struct serving *s)
{
    if (s && atomic_fetch_sub(&s->references, 1) == 1)
        serving_free(s);
}

/* The best `k` of n scores by falling value; the lower index first among equals. */
static void pick_top(const float *scores, int n, int k, struct prediction *top)
{
    int held = 0;
    for (int c = 0; c < n; c++) {
        int place = held;
        while (place > 0 && top[place - 1].score < scores[c])
            place--;
        if (place == k)
            continue;
        held += held < k;
        memmove(&top[place + 1], &top[place], (size_t)(held - place - 1) * sizeof *top);
        top[place] = (struct prediction){.class_index = c, .score = scores[c]};
    }
}

int serving_classify(const struct serving *s, const struct image *img, int k,
                     struct prediction *top, int *count)
{
    const struct resnet_spec *spec = &frozen_model(s->frozen)->net->spec;
    size_t values = (size_t)spec->height * (size_t)spec->width * (size_t)spec->channels;
    struct frozen_workspace *workspace = NULL;
    uint8_t *pixels = malloc(values);
    float *x = malloc(values * sizeof *x);
    float *scores = malloc((size_t)s->class_count * sizeof *scores);
    int err = pixels && x && scores ? frozen_workspace_new(&workspace, s->frozen) : ERR_NOMEM;
    if (!err)
        err = image_fit(img, spec->height, spec->width, spec->channels, pixels);
    if (err)
        goto out;
    frozen_normalise(s->frozen, pixels, x);
    frozen_probabilities(s->frozen, workspace, 1, x, scores);
    k = k < s->class_count ? k : s->class_count;
    pick_top(scores, s->class_count, k, top);
    *count = k;
out:
    frozen_workspace_free(workspace);
    free(scores);
    free(x);
    free(pixels);
    return err;
}

/* ---- the active one ---- */

int predictor_new(struct predictor **out, struct app *app)
{
    struct predictor *p = calloc(1, sizeof *p);
    if (!p)
        return ERR_NOMEM;
    p->app = app;
    *out = p;
    return 0;
}

void predictor_free(struct predictor *p)
{
    if (!p)
        return;
    serving_release(p->active);
    free(p);
}

static int load_active(struct predictor *p, const struct version *v)
{
    char path[4400];
    struct model *model = NULL;
    struct class_row *classes = NULL;
    const char **names = NULL;
    int count = 0;
    data_path_number(path, sizeof path, p->app->config.data_dir, "models", v->version);
    int err = model_load(&model, path, p->app->isa);
    if (!err)
        err = classes_list(db_reader(p->app->db), &classes, &count);
    if (!err && (count < v->classes || model->net->spec.classes != v->classes))
        err = ERR_CORRUPT;
    if (err)
        goto out;
    names = malloc((size_t)count * sizeof *names);
    if (!names) {
        err = ERR_NOMEM;
        goto out;
    }
    for (int i = 0; i < count; i++)
        names[i] = classes[i].name;
    err = serving_new(&p->active, v->version, model, names);
out:
    if (err)
        log_error("model version %" PRId64 " (%s) cannot be loaded: %s", v->version, path,
                  err_str(err));
    free(names);
    free(classes);
    model_release(model);
    return err;
}

int predictor_start(struct predictor *p)
{
    struct version active;
    int err = versions_active(db_reader(p->app->db), &active);
    if (err == ERR_MISSING)
        return 0;
    return err ? err : load_active(p, &active);
}

void predictor_swap(struct predictor *p, struct serving *s)
{
    serving_release(p->active);
    p->active = s;
    log_info("version %" PRId64 " serves %d classes", s->version, s->class_count);
}

struct serving *predictor_active(struct predictor *p)
{
    if (p->active)
        atomic_fetch_add(&p->active->references, 1);
    return p->active;
}
