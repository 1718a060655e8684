/*
 * safetensors_layout.c - see safetensors_layout.h.
 */
#include "server/export/safetensors_layout.h"

#include <stdio.h>
#include <string.h>

#include "core/m2kd/prototypes.h"

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "tensors are little-endian");

static void covariance_tensor(const struct model *m, const char *name, struct layout_tensor *out)
{
    size_t count = COVARIANCE_FLOATS(model_width(m));
    *out = (struct layout_tensor){
        .dims = {(int)count}, .ndims = 1, .count = count, .values = m->covariance};
    snprintf(out->name, sizeof out->name, "%s", name);
}

static void prototypes_tensor(const struct model *m, const char *name, struct layout_tensor *out)
{
    int classes = m->net->spec.classes, width = model_width(m);
    *out = (struct layout_tensor){.dims = {classes, width},
                                  .ndims = 2,
                                  .count = (size_t)classes * (size_t)width,
                                  .values = m->prototypes};
    snprintf(out->name, sizeof out->name, "%s", name);
}

static void param_tensor(const struct model *m, int index, const char *prefix,
                         struct layout_tensor *out)
{
    const struct param_entry *e = &m->net->params.entries[index];
    *out = (struct layout_tensor){.ndims = e->ndims,
                                  .count = e->count,
                                  .values = m->params + e->offset,
                                  .conv = e->kind == PARAM_CONV_WEIGHT ? e : NULL};
    static const int order[4] = {3, 2, 0, 1};
    for (int i = 0; i < e->ndims; i++)
        out->dims[i] = e->dims[out->conv ? order[i] : i];
    snprintf(out->name, sizeof out->name, "%s%s", prefix, e->name);
}

int layout_count(const struct model *m)
{
    return m->net->params.entry_count + 2;
}

void layout_tensor(const struct model *m, int index, struct layout_tensor *out)
{
    if (index == m->net->params.entry_count)
        covariance_tensor(m, "covariance", out);
    else if (index == m->net->params.entry_count + 1)
        prototypes_tensor(m, "prototypes", out);
    else
        param_tensor(m, index, "", out);
}

int layout_expert_count(const struct model *m)
{
    return m->expert_count ? 2 + m->expert_count * m->net->params.entry_count : 0;
}

void layout_expert_tensor(const struct model *m, int index, struct layout_tensor *out)
{
    char prefix[32];
    int entries = m->net->params.entry_count, expert = (index - 2) / entries;
    if (index == 0) {
        covariance_tensor(m, LAYOUT_EXPERT_PREFIX "s.covariance", out);
    } else if (index == 1) {
        prototypes_tensor(m, LAYOUT_EXPERT_PREFIX "s.prototypes", out);
    } else {
        snprintf(prefix, sizeof prefix, LAYOUT_EXPERT_PREFIX "%d.", expert + 1);
        param_tensor(m->experts[expert], (index - 2) % entries, prefix, out);
    }
}

/* Where element `i` of the file's convolution lies in the model's. */
static size_t model_place(const struct param_entry *e, size_t i)
{
    size_t taps = (size_t)e->dims[0] * (size_t)e->dims[1], cin = (size_t)e->dims[2],
           cout = (size_t)e->dims[3];
    size_t tap = i % taps, in = i / taps % cin, out = i / taps / cin;
    return (tap * cin + in) * cout + out;
}

void layout_to_file(const struct layout_tensor *t, void *file)
{
    if (!t->conv) {
        memcpy(file, t->values, t->count * sizeof(float));
        return;
    }
    for (size_t i = 0; i < t->count; i++)
        memcpy((char *)file + i * sizeof(float), &t->values[model_place(t->conv, i)],
               sizeof(float));
}

void layout_from_file(const struct layout_tensor *t, const void *file)
{
    if (!t->conv) {
        memcpy(t->values, file, t->count * sizeof(float));
        return;
    }
    for (size_t i = 0; i < t->count; i++)
        memcpy(&t->values[model_place(t->conv, i)], (const char *)file + i * sizeof(float),
               sizeof(float));
}
