/*
 * safetensors_write.c - see safetensors.h.
 */
#include "server/export/safetensors.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/err.h"
#include "server/app.h"
#include "server/export/safetensors_layout.h"

enum { HEADER_ALIGNMENT = 8 };

/* A value that is text in __metadata__, made of JSON; takes the reference. False without memory. */
static bool set_json(json_t *metadata, const char *key, json_t *value)
{
    char *text = export_text(value);
    bool done = text && json_object_set_new(metadata, key, json_string(text)) == 0;
    free(text);
    return done;
}

static json_t *make_metadata(const struct export_source *s)
{
    const struct model *m = s->model;
    const struct resnet_spec *spec = &m->net->spec;
    char arch[32], version[32], scale[32], experts[16], power[32];
    snprintf(arch, sizeof arch, "%s-%d", spec->arch == RESNET_18 ? "resnet" : "cifar-resnet",
             resnet_depth(spec->arch, spec->blocks));
    snprintf(version, sizeof version, "%lld", (long long)s->version);
    snprintf(scale, sizeof scale, "%.9g", (double)m->score_scale);
    snprintf(experts, sizeof experts, "%d", m->expert_count);
    snprintf(power, sizeof power, "%.9g", (double)m->view.power);
    json_t *o = json_pack("{s:s, s:s, s:s, s:s, s:s, s:s, s:s, s:s, s:s, s:s, s:s, s:s}",
                          "format", "pt", "accreted_format", SAFETENSORS_FORMAT, "accreted_version",
                          ACCRETED_VERSION, "arch", arch, "version", version, "weights",
                          s->from_snapshot ? "snapshot" : "dense", "licence", EXPORT_LICENCE,
                          "classifier", export_classifier(s), "score_scale", scale, "experts",
                          experts, "mirrored", m->view.mirrored ? "true" : "false",
                          "feature_power", power);
    json_t *shape = json_pack("{s:i, s:i, s:i, s:i, s:i}", "blocks", spec->blocks, "channels",
                              spec->channels, "height", spec->height, "width", spec->width,
                              "classes", spec->classes);
    bool done = set_json(o, "spec", shape) & set_json(o, "labels", export_labels(s)) &
                set_json(o, "steps", export_steps(s)) &
                set_json(o, "mean", export_floats(m->mean, spec->channels)) &
                set_json(o, "std", export_floats(m->std, spec->channels));
    if (done)
        return o;
    json_decref(o);
    return NULL;
}

static json_t *describe_tensor(const struct layout_tensor *t, size_t begin)
{
    json_t *shape = json_array();
    for (int i = 0; i < t->ndims; i++)
        json_array_append_new(shape, json_integer(t->dims[i]));
    return json_pack("{s:s, s:o, s:[I, I]}", "dtype", "F32", "shape", shape, "data_offsets",
                     (json_int_t)begin, (json_int_t)(begin + t->count * sizeof(float)));
}

/* The tensors of a file: those of the network alone, then those of the experts. */
struct contents {
    const struct model *alone, *whole;
};

static int tensor_count(const struct contents *c)
{
    return layout_count(c->alone) + layout_expert_count(c->whole);
}

static void tensor_at(const struct contents *c, int index, struct layout_tensor *out)
{
    int own = layout_count(c->alone);
    if (index < own)
        layout_tensor(c->alone, index, out);
    else
        layout_expert_tensor(c->whole, index - own, out);
}

/* The header's text, to be freed; the size of all tensors together. NULL without memory. */
static char *make_header(const struct export_source *s, const struct contents *c,
                         size_t *tensor_bytes)
{
    json_t *header = json_object();
    size_t at = 0;
    int failed = json_object_set_new(header, "__metadata__", make_metadata(s));
    for (int i = 0; i < tensor_count(c) && !failed; i++) {
        struct layout_tensor t;
        tensor_at(c, i, &t);
        failed = json_object_set_new(header, t.name, describe_tensor(&t, at));
        at += t.count * sizeof(float);
    }
    *tensor_bytes = at;
    if (!failed)
        return export_text(header);
    json_decref(header);
    return NULL;
}

static int write_contents(const struct export_source *s, const struct contents *c, void **out,
                          size_t *out_bytes)
{
    size_t tensor_bytes;
    char *header = make_header(s, c, &tensor_bytes);
    if (!header)
        return ERR_NOMEM;
    size_t text_bytes = strlen(header);
    uint64_t header_bytes =
        (text_bytes + HEADER_ALIGNMENT - 1) / HEADER_ALIGNMENT * HEADER_ALIGNMENT;
    size_t size = sizeof header_bytes + header_bytes + tensor_bytes;
    char *file = malloc(size);
    if (!file) {
        free(header);
        return ERR_NOMEM;
    }
    memcpy(file, &header_bytes, sizeof header_bytes);
    char *at = file + sizeof header_bytes;
    memset(at, ' ', header_bytes);
    memcpy(at, header, text_bytes);
    free(header);
    at += header_bytes;
    for (int i = 0; i < tensor_count(c); i++) {
        struct layout_tensor t;
        tensor_at(c, i, &t);
        layout_to_file(&t, at);
        at += t.count * sizeof(float);
    }
    *out = file;
    *out_bytes = size;
    return 0;
}

int safetensors_write(const struct export_source *s, void **out, size_t *out_bytes)
{
    struct model *alone;
    int err = model_alone(&alone, s->model);
    if (err)
        return err;
    err = write_contents(s, &(struct contents){alone, s->model}, out, out_bytes);
    model_release(alone);
    return err;
}
