/*
 * model_file.c - see model_file.h.
 */
#include "core/model/model_file.h"

#include <math.h>
#include <string.h>

#include "core/err.h"
#include "core/m2kd/prototypes.h"

#define SECTION_SPEC CONTAINER_ID('S', 'P', 'E', 'C')
#define SECTION_STEPS CONTAINER_ID('S', 'T', 'E', 'P')
#define SECTION_IMAGES CONTAINER_ID('S', 'E', 'E', 'N')
#define SECTION_VIEW CONTAINER_ID('V', 'I', 'E', 'W')
#define SECTION_EXPERTS CONTAINER_ID('E', 'X', 'P', 'T')

_Static_assert(sizeof(struct model_file_spec) == 68, "SPEC is 68 bytes in the file");
_Static_assert(sizeof(struct model_view) == 8, "VIEW is 8 bytes in the file");
_Static_assert(sizeof(int) == sizeof(int32_t), "step ends are written as they stand in memory");

bool model_file_finite(const float *values, size_t count)
{
    for (size_t i = 0; i < count; i++)
        if (!isfinite(values[i]))
            return false;
    return true;
}

bool model_file_params_valid(const struct resnet *net, const float *params)
{
    for (int l = 0; l < net->layer_count; l++) {
        const struct param_entry *e = &net->params.entries[net->layers[l].var];
        for (size_t i = 0; i < e->count; i++)
            if (params[e->offset + i] < 0)
                return false;
    }
    return model_file_finite(params, net->params.count);
}

static bool positive(float x)
{
    return isfinite(x) && x > 0;
}

static bool view_valid(const struct model_view *v)
{
    return (v->mirrored == 0 || v->mirrored == 1) && v->power >= MODEL_POWER_MIN && v->power <= 1;
}

/* What a model must satisfy beyond what model_new sees to. */
static bool scores_valid(const struct model_file_spec *s)
{
    if (!positive(s->score_scale) || !model_file_finite(s->mean, MODEL_MAX_CHANNELS))
        return false;
    for (int c = 0; c < s->channels; c++)
        if (!positive(s->std[c]))
            return false;
    return s->classifier >= CLASSIFIER_HEAD && s->classifier <= CLASSIFIER_DISCRIMINANT;
}

size_t model_file_prototypes(const struct model *m)
{
    return (size_t)m->net->spec.classes * (size_t)model_width(m);
}

bool model_file_name_valid(const char name[MODEL_EXPERT_NAME])
{
    size_t length = strnlen(name, MODEL_EXPERT_NAME);
    if (length == 0 || length == MODEL_EXPERT_NAME || name[0] == '.')
        return false;
    for (size_t i = 0; i < MODEL_EXPERT_NAME; i++) {
        char c = name[i];
        if (i < length ? c <= ' ' || c > '~' || c == '/' : c != '\0')
            return false;
    }
    return true;
}

static bool names_valid(const model_expert_name *names, int count)
{
    for (int i = 0; i < count; i++)
        if (!model_file_name_valid(names[i]))
            return false;
    return true;
}

int model_file_describe(const struct model *m, struct model_file_spec *spec,
                        struct container_section *sections, int *count)
{
    const struct resnet_spec *net = &m->net->spec;
    struct model_file_spec s = {
        .arch = (int32_t)net->arch,
        .blocks = net->blocks,
        .channels = net->channels,
        .height = net->height,
        .width = net->width,
        .classes = net->classes,
        .step_count = m->step_count,
        .classifier = m->classifier,
        .score_scale = m->score_scale,
    };
    memcpy(s.mean, m->mean, (size_t)net->channels * sizeof *s.mean);
    memcpy(s.std, m->std, (size_t)net->channels * sizeof *s.std);
    size_t covariance_floats = COVARIANCE_FLOATS(model_width(m));
    if (!scores_valid(&s) || !view_valid(&m->view) ||
        !model_file_finite(m->prototypes, model_file_prototypes(m)) ||
        !model_file_finite(m->covariance, covariance_floats) ||
        !model_file_params_valid(m->net, m->params) ||
        !names_valid(m->expert_names, m->expert_count))
        return ERR_INVALID;

    *spec = s;
    sections[0] = (struct container_section){SECTION_SPEC, sizeof *spec, spec};
    sections[1] = (struct container_section){
        SECTION_STEPS, (uint64_t)m->step_count * sizeof *m->step_end, m->step_end};
    sections[2] = (struct container_section){
        SECTION_IMAGES, (uint64_t)net->classes * sizeof *m->images, m->images};
    sections[3] = (struct container_section){SECTION_VIEW, sizeof m->view, &m->view};
    sections[4] = (struct container_section){
        SECTION_EXPERTS, (uint64_t)m->expert_count * sizeof *m->expert_names, m->expert_names};
    *count = m->expert_count ? 5 : 4;
    return 0;
}

int model_file_floats(const struct container *c, uint32_t section, size_t count, float *out)
{
    const void *data;
    int err = container_find_sized(c, section, count * sizeof *out, &data);
    if (err)
        return err;
    if (!model_file_finite(data, count))
        return ERR_CORRUPT;
    memcpy(out, data, count * sizeof *out);
    return 0;
}

/* Files written before there was such a section lack it: then nothing is known. */
static int restore_images(const struct container *c, struct model *m)
{
    size_t bytes = (size_t)m->net->spec.classes * sizeof *m->images;
    struct container_section s;
    if (container_find(c, SECTION_IMAGES, &s) != 0)
        return 0;
    if (s.size_bytes != bytes)
        return ERR_FORMAT;
    memcpy(m->images, s.data, bytes);
    return 0;
}

/* Files written before there was such a section lack it: then it is the features as they are. */
static int restore_view(const struct container *c, struct model *m)
{
    struct container_section s;
    if (container_find(c, SECTION_VIEW, &s) != 0)
        return 0;
    if (s.size_bytes != sizeof m->view)
        return ERR_FORMAT;
    memcpy(&m->view, s.data, sizeof m->view);
    return view_valid(&m->view) ? 0 : ERR_FORMAT;
}

/* A model without experts has no such section. */
static int restore_experts(const struct container *c, struct model *m)
{
    struct container_section s;
    if (container_find(c, SECTION_EXPERTS, &s) != 0)
        return 0;
    int count = (int)(s.size_bytes / MODEL_EXPERT_NAME);
    if (s.size_bytes > MODEL_MAX_WIDTH * MODEL_EXPERT_NAME || count == 0 ||
        s.size_bytes % MODEL_EXPERT_NAME != 0 || !names_valid(s.data, count))
        return ERR_FORMAT;
    return model_set_experts(m, s.data, NULL, count);
}

static int restore_empty(struct model **out, const struct container *c,
                         const struct model_file_spec *spec, enum conv_isa isa)
{
    const void *step_end;
    if (spec->step_count < 1 || spec->step_count > MODEL_MAX_STEPS)
        return ERR_FORMAT;
    int err = container_find_sized(c, SECTION_STEPS,
                                   (uint64_t)spec->step_count * sizeof(int32_t), &step_end);
    if (err)
        return err;
    const struct resnet_spec net = {
        .arch = (enum resnet_arch)spec->arch,
        .blocks = spec->blocks,
        .channels = spec->channels,
        .height = spec->height,
        .width = spec->width,
        .classes = spec->classes,
    };
    err = model_new(out, &net, step_end, spec->step_count, isa);
    return err == ERR_INVALID ? ERR_FORMAT : err; /* the file's numbers, not the caller's */
}

int model_file_classes(const struct container *c, int *classes)
{
    const void *data;
    struct model_file_spec spec;
    int err = container_find_sized(c, SECTION_SPEC, sizeof spec, &data);
    if (err)
        return err;
    memcpy(&spec, data, sizeof spec);
    if (spec.classes < 1)
        return ERR_FORMAT;
    *classes = spec.classes;
    return 0;
}

int model_file_restore(struct model **out, const struct container *c, enum conv_isa isa)
{
    const void *data;
    struct model_file_spec spec;
    struct model *m;
    int err = container_find_sized(c, SECTION_SPEC, sizeof spec, &data);
    if (err)
        return err;
    memcpy(&spec, data, sizeof spec);
    err = restore_empty(&m, c, &spec, isa);
    if (err)
        return err;

    /* From here the channel count is known to be in range. */
    err = scores_valid(&spec) ? 0 : ERR_FORMAT;
    if (!err)
        err = restore_images(c, m);
    if (!err)
        err = restore_view(c, m);
    if (!err)
        err = restore_experts(c, m);
    if (err) {
        model_release(m);
        return err;
    }
    memcpy(m->mean, spec.mean, sizeof m->mean);
    memcpy(m->std, spec.std, sizeof m->std);
    m->classifier = (enum classifier)spec.classifier;
    m->score_scale = spec.score_scale;
    *out = m;
    return 0;
}
