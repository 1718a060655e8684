/*
 * model.c - the life of a model and its dense file; see model.h.
 */
#include "core/model/model.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "core/err.h"
#include "core/m2kd/prototypes.h"
#include "core/model/model_file.h"
#include "core/model/retire.h"
#include "core/storage/container.h"

/* How far the covariance is drawn towards a multiple of the identity (prototypes_discriminant). */
#define DISCRIMINANT_SHRINK 0.1
#define SECTION_PARAMS CONTAINER_ID('P', 'A', 'R', 'M')

static bool steps_valid(const int *step_end, int step_count, int classes)
{
    if (step_count < 1 || step_count > MODEL_MAX_STEPS || step_end[step_count - 1] != classes)
        return false;
    for (int i = 0, before = 0; i < step_count; before = step_end[i++])
        if (step_end[i] <= before)
            return false;
    return true;
}

int model_width(const struct model *m)
{
    return (m->expert_count + 1) * m->net->feature_count;
}

static int allocate(struct model *m)
{
    size_t prototype_floats = (size_t)m->net->spec.classes * (size_t)m->net->feature_count;
    m->params = calloc(m->net->params.count, sizeof *m->params);
    m->prototypes = calloc(prototype_floats, sizeof *m->prototypes);
    m->covariance = calloc(COVARIANCE_FLOATS(m->net->feature_count), sizeof *m->covariance);
    m->step_end = calloc((size_t)m->step_count, sizeof *m->step_end);
    m->retired = calloc((size_t)m->net->spec.classes, sizeof *m->retired);
    m->images = calloc((size_t)m->net->spec.classes, sizeof *m->images);
    bool all = m->params && m->prototypes && m->covariance && m->step_end && m->retired &&
               m->images;
    return all ? 0 : ERR_NOMEM;
}

int model_new(struct model **out, const struct resnet_spec *spec, const int *step_end,
              int step_count, enum conv_isa isa)
{
    if (!steps_valid(step_end, step_count, spec->classes))
        return ERR_INVALID;
    struct model *m = calloc(1, sizeof *m);
    if (!m)
        return ERR_NOMEM;
    atomic_init(&m->references, 1);
    m->step_count = step_count;
    m->score_scale = 1.0f;
    m->view.power = 1.0f;
    for (int c = 0; c < MODEL_MAX_CHANNELS; c++)
        m->std[c] = 1.0f;
    int err = resnet_new(&m->net, spec, isa);
    if (!err)
        err = allocate(m);
    if (err) {
        model_release(m);
        return err;
    }
    memcpy(m->step_end, step_end, (size_t)step_count * sizeof *step_end);
    *out = m;
    return 0;
}

int model_set_experts(struct model *m, const model_expert_name *names, struct model *const *experts,
                      int count)
{
    size_t number = (size_t)count, width = (number + 1) * (size_t)m->net->feature_count;
    if (count == 0)
        return 0;
    if (count < 0 || width > MODEL_MAX_WIDTH)
        return ERR_FORMAT;
    model_expert_name *own_names = malloc(number * sizeof *own_names);
    struct model **held = experts ? malloc(number * sizeof(struct model *)) : NULL;
    float *prototypes = calloc((size_t)m->net->spec.classes * width, sizeof *prototypes);
    float *covariance = calloc(COVARIANCE_FLOATS(width), sizeof *covariance);
    if (!own_names || (experts && !held) || !prototypes || !covariance) {
        free(own_names);
        free(held);
        free(prototypes);
        free(covariance);
        return ERR_NOMEM;
    }
    memcpy(own_names, names, number * sizeof *own_names);
    for (int i = 0; experts && i < count; i++)
        held[i] = model_hold(experts[i]);
    free(m->prototypes);
    free(m->covariance);
    m->expert_count = count;
    m->expert_names = own_names;
    m->experts = held;
    m->prototypes = prototypes;
    m->covariance = covariance;
    return 0;
}

void model_copy_statistics(struct model *to, const struct model *from)
{
    size_t classes = (size_t)from->net->spec.classes, width = (size_t)model_width(from);
    memcpy(to->prototypes, from->prototypes, classes * width * sizeof *to->prototypes);
    memcpy(to->images, from->images, classes * sizeof *to->images);
    memcpy(to->covariance, from->covariance, COVARIANCE_FLOATS(width) * sizeof *to->covariance);
}

int model_copy_network(struct model **out, const struct model *from, enum conv_isa isa)
{
    struct model *m;
    int err = model_new(&m, &from->net->spec, from->step_end, from->step_count, isa);
    if (err)
        return err;
    memcpy(m->params, from->params, m->net->params.count * sizeof *m->params);
    model_inherit(m, from);
    m->classifier = from->classifier;
    m->score_scale = from->score_scale;
    *out = m;
    return 0;
}

int model_copy(struct model **out, const struct model *from, enum conv_isa isa)
{
    struct model *m;
    int err = model_copy_network(&m, from, isa);
    if (err)
        return err;
    err = model_set_experts(m, from->expert_names, from->experts, from->expert_count);
    if (err) {
        model_release(m);
        return err;
    }
    model_copy_statistics(m, from);
    *out = m;
    return 0;
}

void model_drop_statistics(struct model *m)
{
    free(m->prototypes);
    free(m->covariance);
    m->prototypes = NULL;
    m->covariance = NULL;
}

/* Of from's own network. */
static void copy_own_statistics(const struct model *from, struct model *to)
{
    size_t width = (size_t)model_width(from), own = (size_t)to->net->feature_count;
    size_t first = width - own;
    for (size_t c = 0; c < (size_t)to->net->spec.classes; c++)
        memcpy(to->prototypes + c * own, from->prototypes + c * width + first,
               own * sizeof *to->prototypes);
    for (size_t r = 0, at = 0; r < own; at += ++r)
        memcpy(to->covariance + at, from->covariance + COVARIANCE_FLOATS(first + r) + first,
               (r + 1) * sizeof *to->covariance);
    memcpy(to->images, from->images, (size_t)to->net->spec.classes * sizeof *to->images);
}

int model_alone(struct model **out, struct model *m)
{
    struct model *to;
    if (m->expert_count == 0) {
        *out = model_hold(m);
        return 0;
    }
    int err = model_copy_network(&to, m, m->net->isa);
    if (err)
        return err;
    copy_own_statistics(m, to);
    *out = to;
    return 0;
}

static bool see_alike(const struct model *a, const struct model *b)
{
    size_t used = (size_t)a->net->spec.channels * sizeof *a->mean; /* beyond these, memory and files differ */
    return memcmp(a->mean, b->mean, used) == 0 && memcmp(a->std, b->std, used) == 0 &&
           memcmp(&a->view, &b->view, sizeof a->view) == 0;
}

bool model_continues(const struct model *m, const struct model *from, int more)
{
    return resnet_same_network(m->net, from->net) && m->step_count == from->step_count + more &&
           see_alike(m, from) &&
           memcmp(m->step_end, from->step_end,
                  (size_t)from->step_count * sizeof *from->step_end) == 0;
}

bool model_same_experts(const struct model *a, const struct model *b)
{
    return see_alike(a, b) && a->expert_count == b->expert_count &&
           (a->expert_count == 0 || memcmp(a->expert_names, b->expert_names,
                                           (size_t)a->expert_count * sizeof *a->expert_names) == 0);
}

struct model *model_hold(struct model *m)
{
    atomic_fetch_add_explicit(&m->references, 1, memory_order_relaxed);
    return m;
}

void model_release(struct model *m)
{
    /* Release, so that this thread's reads are over; acquire, so that the freeing thread comes
     * after all of them. */
    if (!m || atomic_fetch_sub_explicit(&m->references, 1, memory_order_acq_rel) != 1)
        return;
    for (int i = 0; m->experts && i < m->expert_count; i++)
        model_release(m->experts[i]);
    free(m->experts);
    free(m->expert_names);
    resnet_free(m->net);
    free(m->params);
    free(m->step_end);
    free(m->prototypes);
    free(m->covariance);
    free(m->retired);
    free(m->images);
    free(m);
}

void model_step_classes(const struct model *m, int step, int *first, int *end)
{
    *first = step == 0 ? 0 : m->step_end[step - 1];
    *end = m->step_end[step];
}

uint64_t model_dense_bytes(const struct model *m)
{
    return (uint64_t)m->net->params.count * sizeof *m->params;
}

int model_classifier_rows(const struct model *m, float *rows, float *bias)
{
    int classes = m->net->spec.classes, width = model_width(m);
    switch (m->classifier) {
    case CLASSIFIER_HEAD:
        return ERR_INVALID;
    case CLASSIFIER_PROTOTYPES:
        prototypes_cosine(classes, width, m->prototypes, rows, bias);
        return 0;
    case CLASSIFIER_DISCRIMINANT:
        return prototypes_discriminant(classes, width, m->prototypes, m->covariance,
                                       DISCRIMINANT_SHRINK, rows, bias);
    }
    return ERR_INVALID;
}

int model_save(const struct model *m, const char *path, uint64_t *out_bytes)
{
    struct model_file_spec spec;
    struct container_section sections[MODEL_FILE_SECTIONS + 3];
    int count, err = model_file_describe(m, &spec, sections, &count);
    if (err)
        return err;
    struct container_section *s = sections + count;
    s[0] = (struct container_section){
        MODEL_FILE_PROTOTYPES, model_file_prototypes(m) * sizeof(float), m->prototypes};
    s[1] = (struct container_section){
        MODEL_FILE_COVARIANCE, COVARIANCE_FLOATS(model_width(m)) * sizeof(float), m->covariance};
    s[2] = (struct container_section){SECTION_PARAMS, model_dense_bytes(m), m->params};
    return container_write(path, CONTAINER_MODEL, sections, count + 3, out_bytes);
}

static int load_params(struct model *m, const struct container *c)
{
    const void *from;
    int err = container_find_sized(c, SECTION_PARAMS, model_dense_bytes(m), &from);
    if (!err && !model_file_params_valid(m->net, from))
        err = ERR_CORRUPT;
    if (!err)
        memcpy(m->params, from, model_dense_bytes(m));
    return err;
}

int model_load(struct model **out, const char *path, enum conv_isa isa)
{
    struct container *c = NULL;
    struct model *m = NULL;
    int err = container_read(&c, path, CONTAINER_MODEL);
    if (err)
        return err;
    err = model_file_restore(&m, c, isa);
    if (!err)
        err = model_file_floats(c, MODEL_FILE_PROTOTYPES, model_file_prototypes(m), m->prototypes);
    if (!err)
        err = model_file_floats(c, MODEL_FILE_COVARIANCE, COVARIANCE_FLOATS(model_width(m)),
                                m->covariance);
    if (!err)
        err = load_params(m, c);
    container_free(c);
    if (err) {
        model_release(m);
        return err;
    }
    *out = m;
    return 0;
}
