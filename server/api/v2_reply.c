/*
 * v2_reply.c - see v2_reply.h.
 */
#include "server/api/v2_reply.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/err.h"

struct writer {
    const struct v2_request *request;
    const struct serving *serving;
    const float *scores, *probabilities;
    uint8_t *binary; /* tensors, one behind the other */
    size_t used, room;
};

/* ---- binary tensors ---- */

static int put(struct writer *w, const void *data, size_t bytes)
{
    if (w->room - w->used < bytes) {
        size_t room = 2 * w->room + bytes + 1024;
        uint8_t *more = realloc(w->binary, room);
        if (!more)
            return ERR_NOMEM;
        w->binary = more;
        w->room = room;
    }
    memcpy(w->binary + w->used, data, bytes);
    w->used += bytes;
    return 0;
}

static int put_text(struct writer *w, const char *text)
{
    uint32_t bytes = (uint32_t)strlen(text);
    const uint8_t length[4] = {(uint8_t)bytes, (uint8_t)(bytes >> 8), (uint8_t)(bytes >> 16),
                               (uint8_t)(bytes >> 24)};
    int err = put(w, length, sizeof length);
    return err ? err : put(w, text, bytes);
}

/* ---- elements, binary or to the list `data` ---- */

static int add_text(struct writer *w, json_t *data, const char *text)
{
    if (!data)
        return put_text(w, text);
    return json_array_append_new(data, json_string(text)) == 0 ? 0 : ERR_NOMEM;
}

static int add_floats(struct writer *w, json_t *data, const float *values, size_t count)
{
    if (!data) /* little-endian, as every machine we build for is */
        return put(w, values, count * sizeof *values);
    for (size_t i = 0; i < count; i++) {
        if (json_array_append_new(data, json_real((double)values[i])) != 0)
            return isfinite(values[i]) ? ERR_NOMEM : ERR_NUMERIC;
    }
    return 0;
}

static int add_labels(struct writer *w, json_t *data)
{
    const struct serving *s = w->serving;
    int err = 0;
    for (int i = 0; i < w->request->count && !err; i++) {
        struct prediction top;
        serving_top(s, w->probabilities + (size_t)i * (size_t)s->class_count, 1, &top);
        err = add_text(w, data, s->class_names[top.class_index]);
    }
    return err;
}

/* The classification extension: the k best of `values` as "value:index:label". */
static int add_classes(struct writer *w, json_t *data, const float *values, int k)
{
    const struct serving *s = w->serving;
    char text[64 + 256];
    int err = 0;
    struct prediction *top = malloc((size_t)k * sizeof *top);
    if (!top)
        return ERR_NOMEM;
    for (int i = 0; i < w->request->count && !err; i++) {
        serving_top(s, values + (size_t)i * (size_t)s->class_count, k, top);
        for (int j = 0; j < k && !err; j++) {
            snprintf(text, sizeof text, "%f:%d:%s", (double)top[j].score, top[j].class_index,
                     s->class_names[top[j].class_index]);
            err = add_text(w, data, text);
        }
    }
    free(top);
    return err;
}

/* ---- outputs ---- */

static int add_elements(struct writer *w, const struct v2_output *o, json_t *data)
{
    const float *values = o->tensor == V2_LOGITS ? w->scores : w->probabilities;
    int classes = w->serving->class_count, k = o->classification;
    if (o->tensor == V2_LABEL)
        return add_labels(w, data);
    if (k > 0)
        return add_classes(w, data, values, k < classes ? k : classes);
    return add_floats(w, data, values, (size_t)w->request->count * (size_t)classes);
}

static json_t *make_shape(const struct writer *w, const struct v2_output *o)
{
    int classes = w->serving->class_count;
    if (o->tensor == V2_LABEL)
        classes = 1;
    else if (o->classification && o->classification < classes)
        classes = o->classification;
    return json_pack("[i, i]", w->request->count, classes);
}

static int add_output(struct writer *w, const struct v2_output *o, json_t *outputs)
{
    bool floats = o->tensor != V2_LABEL && !o->classification;
    size_t before = w->used;
    json_t *data = o->binary ? NULL : json_array();
    json_t *output = json_pack("{s:s, s:s, s:o}", "name", v2_tensor_name(o->tensor), "datatype",
                               floats ? "FP32" : "BYTES", "shape", make_shape(w, o));
    int err = output && (data || o->binary) ? add_elements(w, o, data) : ERR_NOMEM;
    if (!err && o->binary)
        json_object_set_new(output, "parameters", json_pack("{s:I}", "binary_data_size",
                                                            (json_int_t)(w->used - before)));
    else if (!err)
        json_object_set(output, "data", data);
    json_decref(data);
    if (err)
        json_decref(output);
    else if (json_array_append_new(outputs, output) != 0)
        err = ERR_NOMEM;
    return err;
}

static json_t *make_head(const struct writer *w, const char *model, json_t *outputs)
{
    char version[24];
    snprintf(version, sizeof version, "%" PRId64, w->serving->version);
    json_t *head = json_pack("{s:s, s:s}", "model_name", model, "model_version", version);
    if (head && w->request->id)
        json_object_set(head, "id", w->request->id);
    if (head)
        json_object_set(head, "outputs", outputs);
    return head;
}

/* JSON and binary part in one block. */
static int join(struct v2_reply *out, const struct writer *w, const char *json)
{
    struct v2_reply reply = {.json_bytes = strlen(json)};
    reply.size_bytes = reply.json_bytes + w->used;
    reply.bytes = malloc(reply.size_bytes);
    if (!reply.bytes)
        return ERR_NOMEM;
    memcpy(reply.bytes, json, reply.json_bytes);
    if (w->used)
        memcpy(reply.bytes + reply.json_bytes, w->binary, w->used);
    for (int i = 0; i < w->request->output_count; i++)
        reply.binary |= w->request->outputs[i].binary;
    *out = reply;
    return 0;
}

int v2_reply_build(struct v2_reply *out, const struct v2_request *r, const char *model,
                   const struct serving *s, const float *scores, const float *probabilities)
{
    struct writer w = {.request = r, .serving = s, .scores = scores,
                       .probabilities = probabilities};
    json_t *outputs = json_array();
    int err = outputs ? 0 : ERR_NOMEM;
    for (int i = 0; i < r->output_count && !err; i++)
        err = add_output(&w, &r->outputs[i], outputs);
    json_t *head = err ? NULL : make_head(&w, model, outputs);
    /* 9 digits bring every float back */
    char *json = head ? json_dumps(head, JSON_COMPACT | JSON_REAL_PRECISION(9)) : NULL;
    if (!err)
        err = json ? join(out, &w, json) : ERR_NOMEM;
    free(json);
    free(w.binary);
    json_decref(head);
    json_decref(outputs);
    return err;
}

void v2_reply_release(struct v2_reply *reply)
{
    free(reply->bytes);
    *reply = (struct v2_reply){0};
}
