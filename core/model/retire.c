/*
 * retire.c - see retire.h.
 */
#include "core/model/retire.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/err.h"
#include "core/m2kd/prototypes.h"
#include "core/m2kd/snapshot_parts.h"
#include "core/m2kd/snapshot_statistics.h"
#include "core/model/model_file.h"

void model_retire(struct model *m, int class_index)
{
    size_t width = (size_t)model_width(m);
    m->retired[class_index] = 1;
    m->images[class_index] = 0;
    memset(m->prototypes + (size_t)class_index * width, 0, width * sizeof *m->prototypes);
}

/* How images are seen. */
static void copy_input(struct model *to, const struct model *from)
{
    memcpy(to->mean, from->mean, sizeof to->mean);
    memcpy(to->std, from->std, sizeof to->std);
    to->view = from->view;
}

void model_inherit(struct model *to, const struct model *from)
{
    int a = from->net->spec.classes, b = to->net->spec.classes;
    memcpy(to->retired, from->retired, (size_t)(a < b ? a : b));
    copy_input(to, from);
}

/* ---- the model that is left ---- */

/* Rows of `width` floats, one a class, but those that are retired. */
static void copy_rows(const struct model *from, size_t width, const float *rows, float *to)
{
    for (int c = 0; c < from->net->spec.classes; c++) {
        if (from->retired[c])
            continue;
        memcpy(to, rows + (size_t)c * width, width * sizeof *to);
        to += width;
    }
}

/* Width of the rows, one a class, that parameter entry `index` is made of; 0: it is not. */
static size_t class_row(const struct resnet *net, int index)
{
    for (int h = 0; h < net->head_count; h++) {
        if (net->head_weight[h] == index)
            return (size_t)net->head_features[h];
        if (net->head_bias[h] == index)
            return 1;
    }
    return 0;
}

static void copy_params(const struct model *from, struct model *to)
{
    for (int i = 0; i < to->net->params.entry_count; i++) {
        const struct param_entry *a = &from->net->params.entries[i];
        const struct param_entry *b = &to->net->params.entries[i];
        size_t width = class_row(from->net, i);
        if (width)
            copy_rows(from, width, from->params + a->offset, to->params + b->offset);
        else
            memcpy(to->params + b->offset, from->params + a->offset, b->count * sizeof *to->params);
    }
}

/* The live classes after each step that brought any; how many steps these are. */
static int live_steps(const struct model *m, int *step_end)
{
    int steps = 0;
    for (int s = 0, live = 0; s < m->step_count; s++) {
        int first, end, before = live;
        model_step_classes(m, s, &first, &end);
        for (int c = first; c < end; c++)
            live += !m->retired[c];
        if (live > before)
            step_end[steps++] = live;
    }
    return steps;
}

int model_live(struct model **out, struct model *m)
{
    struct resnet_spec spec = m->net->spec;
    int classes = spec.classes;
    struct model *to;
    if (!memchr(m->retired, 1, (size_t)classes)) {
        *out = model_hold(m);
        return 0;
    }
    int *step_end = malloc((size_t)m->step_count * sizeof *step_end);
    if (!step_end)
        return ERR_NOMEM;
    int steps = live_steps(m, step_end);
    spec.classes = steps ? step_end[steps - 1] : 0;
    int err = steps ? model_new(&to, &spec, step_end, steps, m->net->isa) : ERR_INVALID;
    free(step_end);
    if (err)
        return err;
    err = model_set_experts(to, m->expert_names, m->experts, m->expert_count);
    if (err) {
        model_release(to);
        return err;
    }
    copy_params(m, to);
    copy_rows(m, (size_t)model_width(m), m->prototypes, to->prototypes);
    for (int c = 0, live = 0; c < classes; c++)
        if (!m->retired[c])
            to->images[live++] = m->images[c];
    memcpy(to->covariance, m->covariance,
           COVARIANCE_FLOATS(model_width(m)) * sizeof *to->covariance);
    copy_input(to, m);
    to->classifier = m->classifier;
    to->score_scale = m->score_scale;
    *out = to;
    return 0;
}

/* ---- files ---- */

/* Zeroes those rows; whether one was not zero. */
static bool zero_rows(uint8_t *rows, size_t row_bytes, const int *classes, int count)
{
    bool changed = false;
    for (int i = 0; i < count; i++) {
        uint8_t *row = rows + (size_t)classes[i] * row_bytes;
        for (size_t k = 0; k < row_bytes; k++) {
            changed |= row[k] != 0;
            row[k] = 0;
        }
    }
    return changed;
}

/* The section with `id`, or NULL. */
static struct container_section *section(struct container_section *sections, int count, uint32_t id)
{
    for (int i = 0; i < count; i++)
        if (sections[i].id == id)
            return &sections[i];
    return NULL;
}

/* Of the floats, of whatever precision, in a copy that the section then borrows. */
static int forget_rows(struct container_section *prototypes, const int *classes, int count,
                       int known, void **copy, bool *changed)
{
    if (prototypes->size_bytes % (uint64_t)known != 0)
        return ERR_FORMAT;
    *copy = malloc(prototypes->size_bytes + 1);
    if (!*copy)
        return ERR_NOMEM;
    memcpy(*copy, prototypes->data, prototypes->size_bytes);
    prototypes->data = *copy;
    *changed = zero_rows(*copy, prototypes->size_bytes / (uint64_t)known, classes, count);
    return 0;
}

/* Zeroes prototypes in a section that borrows *copy afterwards, which is the caller's to free. */
static int forget_prototypes(const struct container *c, struct container_section *sections,
                             int section_count, const int *classes, int count, void **copy,
                             bool *changed)
{
    struct container_section *means = section(sections, section_count, SECTION_MEANS);
    struct container_section *rows = section(sections, section_count, MODEL_FILE_PROTOTYPES);
    int known;
    int err = model_file_classes(c, &known);
    for (int i = 0; i < count && !err; i++)
        err = classes[i] >= 0 && classes[i] < known ? 0 : ERR_FORMAT;
    if (err)
        return err;
    if (means)
        return statistics_forget(c, classes, count, means, copy, changed);
    return rows ? forget_rows(rows, classes, count, known, copy, changed) : ERR_FORMAT;
}

/* What a snapshot of the shared store says of the file below, true again; it borrows *base. */
static int follow_base(const char *path, struct container_section *s, struct base *base,
                       bool *changed)
{
    char below[4400];
    struct container *c;
    if (s->size_bytes != sizeof *base)
        return ERR_FORMAT;
    memcpy(base, s->data, sizeof *base);
    if (!model_file_name_valid(base->name))
        return ERR_FORMAT;
    snprintf(below, sizeof below, "%.*s%s", (int)base_folder(path), path, base->name);
    int err = container_read(&c, below, CONTAINER_SNAPSHOT);
    if (err)
        return err == ERR_MISSING ? ERR_CORRUPT : err;
    *changed |= base->identity != container_identity(c);
    base->identity = container_identity(c);
    s->data = base;
    container_free(c);
    return 0;
}

int model_file_forget(const char *path, enum container_kind kind, const int *classes, int count,
                      bool *changed)
{
    struct container_section sections[CONTAINER_MAX_SECTIONS], *below;
    struct container *c;
    struct base base;
    void *copy = NULL;
    bool any = false;
    int err = container_read(&c, path, kind);
    if (err)
        return err;
    int section_count = container_sections(c, sections);
    err = forget_prototypes(c, sections, section_count, classes, count, &copy, &any);
    if (!err && kind == CONTAINER_SNAPSHOT &&
        (below = section(sections, section_count, SECTION_BASE)) != NULL)
        err = follow_base(path, below, &base, &any);
    if (!err && any)
        err = container_write(path, kind, sections, section_count, NULL);
    if (!err)
        *changed = any;
    free(copy);
    container_free(c);
    return err;
}
