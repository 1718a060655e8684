/*
 * serving.c - see serving.h.
 */
#include "server/jobs/serving.h"

#include <math.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/err.h"
#include "core/m2kd/experts.h"
#include "core/m2kd/snapshot.h"
#include "core/model/retire.h"
#include "server/jobs/data.h"
#include "server/store/versions.h"

/* ---- life ---- */

static void serving_free(struct serving *s)
{
    for (int i = 0; s->class_names && i < s->class_count; i++)
        free(s->class_names[i]);
    free(s->class_names);
    frozen_free(s->frozen);
    free(s);
}

int retire_unnamed(struct model *model, const char *const *class_names, int count)
{
    if (model->net->spec.classes != count)
        return ERR_CORRUPT;
    for (int i = 0; i < count; i++)
        if (!class_names[i])
            model_retire(model, i);
    return 0;
}

int serving_new(struct serving **out, int64_t version, struct model *model,
                const char *const *class_names)
{
    struct serving *s = calloc(1, sizeof *s);
    struct model *live = NULL;
    int outputs = model->net->spec.classes, err = ERR_NOMEM;
    if (!s)
        return err;
    s->version = version;
    atomic_init(&s->references, 1);
    s->class_names = calloc((size_t)outputs, sizeof *s->class_names);
    if (!s->class_names)
        goto out;
    retire_unnamed(model, class_names, outputs);
    for (int i = 0; i < outputs; i++) {
        if (!class_names[i])
            continue;
        s->class_names[s->class_count] = strdup(class_names[i]);
        if (!s->class_names[s->class_count++])
            goto out;
    }
    err = model_live(&live, model);
    if (!err)
        err = frozen_new(&s->frozen, live);
    if (!err)
        *out = s;
out:
    model_release(live);
    if (err)
        serving_free(s);
    return err;
}

int version_load(struct model **out, const char *data_dir, int64_t version, enum conv_isa isa,
                 bool *from_snapshot)
{
    char path[4400];
    struct model *m = NULL;
    data_path_number(path, sizeof path, data_dir, "models", version);
    int err = model_load(&m, path, isa);
    if (from_snapshot)
        *from_snapshot = err == ERR_MISSING;
    if (err == ERR_MISSING) {
        data_path_number(path, sizeof path, data_dir, "snapshots", version);
        err = snapshot_load(&m, path, isa);
    }
    snprintf(path, sizeof path, "%s/snapshots", data_dir);
    if (!err)
        err = experts_load(m, path, isa);
    if (err)
        model_release(m);
    else
        *out = m;
    return err;
}

int serving_load(struct serving **out, const char *data_dir, int64_t version,
                 const char *const *class_names, int class_count, enum conv_isa isa)
{
    struct model *model = NULL;
    int err = version_load(&model, data_dir, version, isa, NULL);
    if (!err && model->net->spec.classes != class_count)
        err = ERR_CORRUPT;
    if (!err)
        err = serving_new(out, version, model, class_names);
    model_release(model);
    return err;
}

struct serving *serving_hold(struct serving *s)
{
    atomic_fetch_add(&s->references, 1);
    return s;
}

void serving_release(struct serving *s)
{
    if (s && atomic_fetch_sub(&s->references, 1) == 1)
        serving_free(s);
}

bool serving_current(const struct serving *s, struct db_txn *t)
{
    struct class_row *rows;
    int count;
    if (!versions_exists(t, s->version) || classes_of(t, s->version, &rows, &count))
        return false;
    bool same = classes_live(rows, count) == s->class_count;
    for (int i = 0; i < count && same; i++)
        same = rows[i].position < 0 ||
               strcmp(rows[i].name, s->class_names[rows[i].position]) == 0;
    free(rows);
    return same;
}

/* ---- input ---- */

const struct resnet_spec *serving_spec(const struct serving *s)
{
    return &frozen_model(s->frozen)->net->spec;
}

size_t serving_image_floats(const struct serving *s)
{
    const struct resnet_spec *spec = serving_spec(s);
    return (size_t)spec->height * (size_t)spec->width * (size_t)spec->channels;
}

size_t serving_feature_count(const struct serving *s)
{
    return (size_t)model_width(frozen_model(s->frozen));
}

void serving_join_features(const struct serving *s, int n, float *features)
{
    float scale = 1 / sqrtf((float)(frozen_model(s->frozen)->expert_count + 1));
    for (size_t i = 0; i < (size_t)n * serving_feature_count(s); i++)
        features[i] *= scale;
}

int serving_fit(const struct serving *s, const struct image *img, float *x)
{
    const struct resnet_spec *spec = serving_spec(s);
    uint8_t *pixels = malloc(serving_image_floats(s));
    int err = pixels ? image_fit(img, spec->height, spec->width, spec->channels, pixels)
                     : ERR_NOMEM;
    if (!err)
        frozen_normalise(s->frozen, pixels, x);
    free(pixels);
    return err;
}

void serving_fit_planes(const struct serving *s, const float *planes, float *x)
{
    const struct model *m = frozen_model(s->frozen);
    const struct resnet_spec *spec = &m->net->spec;
    int area = spec->height * spec->width;
    for (int i = 0; i < area; i++)
        for (int c = 0; c < spec->channels; c++, x++)
            *x = (planes[c * area + i] / 255.0f - m->mean[c]) / m->std[c];
}

/* ---- output ---- */

int serving_top(const struct serving *s, const float *probabilities, int k, struct prediction *top)
{
    int held = 0;
    k = k < s->class_count ? k : s->class_count;
    for (int c = 0; c < s->class_count; c++) {
        int place = held;
        while (place > 0 && top[place - 1].score < probabilities[c])
            place--;
        if (place == k)
            continue;
        held += held < k;
        memmove(&top[place + 1], &top[place], (size_t)(held - place - 1) * sizeof *top);
        top[place] = (struct prediction){.class_index = c, .score = probabilities[c]};
    }
    return held;
}
