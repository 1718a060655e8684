/*
 * v2_request.c - see v2_request.h.
 */
#include "server/api/v2_request.h"

#include <math.h>
#include <sodium.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/err.h"

enum { MAX_RANK = 4 };

struct reader {
    struct v2_request *out;
    const struct v2_shape *shape;
    const uint8_t *binary, *end; /* what of the binary part is not read yet */
    char *why;
};

struct tensor { /* an input */
    int rank;
    int64_t dims[MAX_RANK];
    const char *name, *datatype;
    const uint8_t *bytes; /* binary data, or NULL */
    size_t size_bytes;
    json_t *data; /* else */
};

static int refuse(struct reader *r, const char *format, ...) __attribute__((format(printf, 2, 3)));
static int refuse(struct reader *r, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    vsnprintf(r->why, V2_WHY_BYTES, format, args);
    va_end(args);
    return ERR_FORMAT;
}

const char *v2_tensor_name(enum v2_tensor tensor)
{
    switch (tensor) {
    case V2_LOGITS:
        return "logits";
    case V2_PROBABILITIES:
        return "probabilities";
    case V2_LABEL:
        return "label";
    case V2_TENSORS:
        break;
    }
    return "";
}

bool v2_header_length(const char *text, int64_t *out)
{
    *out = V2_NO_HEADER;
    if (!text)
        return true;
    size_t digits = strspn(text, "0123456789");
    if (digits == 0 || digits > 12 || text[digits] != '\0')
        return false;
    *out = strtoll(text, NULL, 10);
    return true;
}

/* ---- images, encoded ---- */

static int keep_image(struct reader *r, const void *data, size_t size_bytes)
{
    r->out->images[r->out->count++] = (struct v2_image){data, size_bytes};
    return 0;
}

static uint32_t get_u32(const uint8_t *p)
{
    return (uint32_t)p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
}

static int read_binary_images(struct reader *r, const struct tensor *t)
{
    const uint8_t *at = t->bytes, *end = t->bytes + t->size_bytes;
    for (int64_t i = 0; i < t->dims[0]; i++) {
        if (end - at < 4 || get_u32(at) > (size_t)(end - at) - 4)
            return refuse(r, "Element %d of `image` reaches beyond the binary data.", (int)i);
        keep_image(r, at + 4, get_u32(at));
        at += 4 + get_u32(at);
    }
    return at == end ? 0 : refuse(r, "The binary data of `image` is longer than its elements.");
}

/* The text at `index` of the data, which may be flat or, for [N,1], one list an image. */
static json_t *text_at(const struct tensor *t, size_t index)
{
    json_t *element = json_array_get(t->data, index);
    if (t->rank == 2 && json_is_array(element) && json_array_size(element) == 1)
        element = json_array_get(element, 0);
    return json_is_string(element) ? element : NULL;
}

static int read_text_images(struct reader *r, const struct tensor *t)
{
    size_t room = 0, used = 0;
    if (json_array_size(t->data) != (size_t)t->dims[0])
        return refuse(r, "The data of `image` does not have as many elements as its shape.");
    for (size_t i = 0; i < (size_t)t->dims[0]; i++) {
        if (!text_at(t, i))
            return refuse(r, "Element %zu of `image` is no string.", i);
        room += json_string_length(text_at(t, i)); /* base64 is longer than what it means */
    }
    r->out->decoded = malloc(room + 1);
    if (!r->out->decoded)
        return ERR_NOMEM;
    for (size_t i = 0; i < (size_t)t->dims[0]; i++) {
        json_t *text = text_at(t, i);
        size_t bytes;
        if (sodium_base642bin(r->out->decoded + used, room - used, json_string_value(text),
                              json_string_length(text), "\r\n", &bytes, NULL,
                              sodium_base64_VARIANT_ORIGINAL) != 0)
            return refuse(r, "Element %zu of `image` is not base64; send images as binary data, or "
                             "in JSON as base64.", i);
        keep_image(r, r->out->decoded + used, bytes);
        used += bytes;
    }
    return 0;
}

static int read_images(struct reader *r, const struct tensor *t)
{
    if (strcmp(t->datatype, "BYTES") != 0)
        return refuse(r, "The datatype of `image` is BYTES.");
    if (t->rank < 1 || t->rank > 2 || (t->rank == 2 && t->dims[1] != 1))
        return refuse(r, "The shape of `image` is [N] or [N,1].");
    r->out->encoded = true;
    return t->bytes ? read_binary_images(r, t) : read_text_images(r, t);
}

/* ---- pixels ---- */

static bool is_pixel(double value)
{
    return value >= 0 && value <= 255; /* false for NaN */
}

static int refuse_pixel(struct reader *r)
{
    return refuse(r, "The values of `pixels` are numbers from 0 to 255; the model normalises them "
                     "itself.");
}

static int read_binary_pixels(struct reader *r, const struct tensor *t, size_t count, bool bytes)
{
    float *pixels = r->out->pixels;
    if (t->size_bytes != count * (bytes ? 1 : sizeof(float)))
        return refuse(r, "The binary data of `pixels` is not as long as its shape says.");
    if (bytes) {
        for (size_t i = 0; i < count; i++)
            pixels[i] = t->bytes[i];
        return 0;
    }
    memcpy(pixels, t->bytes, count * sizeof *pixels);
    for (size_t i = 0; i < count; i++) {
        if (!is_pixel((double)pixels[i]))
            return refuse_pixel(r);
    }
    return 0;
}

static int read_number(struct reader *r, json_t *value, bool whole, float *out)
{
    double number = json_number_value(value);
    if (!json_is_number(value) || !is_pixel(number) || (whole && number != floor(number)))
        return refuse_pixel(r);
    *out = (float)number;
    return 0;
}

/* Nested lists, each as long as its dimension. */
static int read_nested(struct reader *r, const struct tensor *t, json_t *list, int depth,
                       bool whole, float **at)
{
    json_t *element;
    size_t i;
    if (!json_is_array(list) || json_array_size(list) != (size_t)t->dims[depth])
        return refuse(r, "The nested data of `pixels` does not fit its shape.");
    json_array_foreach(list, i, element) {
        int err = depth + 1 < t->rank ? read_nested(r, t, element, depth + 1, whole, at)
                                      : read_number(r, element, whole, (*at)++);
        if (err)
            return err;
    }
    return 0;
}

static int read_json_pixels(struct reader *r, const struct tensor *t, size_t count, bool whole)
{
    float *at = r->out->pixels;
    json_t *element;
    size_t i;
    if (json_is_array(json_array_get(t->data, 0)))
        return read_nested(r, t, t->data, 0, whole, &at);
    if (json_array_size(t->data) != count)
        return refuse(r, "The data of `pixels` has %zu values, its shape %zu.",
                      json_array_size(t->data), count);
    json_array_foreach(t->data, i, element) {
        int err = read_number(r, element, whole, at++);
        if (err)
            return err;
    }
    return 0;
}

static int read_pixels(struct reader *r, const struct tensor *t)
{
    const struct v2_shape *s = r->shape;
    bool bytes = strcmp(t->datatype, "UINT8") == 0;
    if (!bytes && strcmp(t->datatype, "FP32") != 0)
        return refuse(r, "The datatype of `pixels` is UINT8 or FP32.");
    if (t->rank != 4 || t->dims[1] != s->channels || t->dims[2] != s->height ||
        t->dims[3] != s->width)
        return refuse(r, "The shape of `pixels` is [N,%d,%d,%d].", s->channels, s->height,
                      s->width);
    size_t count = (size_t)t->dims[0] * (size_t)s->channels * (size_t)s->height * (size_t)s->width;
    r->out->pixels = malloc(count * sizeof(float));
    if (!r->out->pixels)
        return ERR_NOMEM;
    int err = t->bytes ? read_binary_pixels(r, t, count, bytes)
                       : read_json_pixels(r, t, count, bytes);
    r->out->count = (int)t->dims[0];
    return err;
}

/* ---- inputs ---- */

static int read_shape(struct reader *r, json_t *shape, struct tensor *t)
{
    json_t *dim;
    size_t i;
    if (!json_is_array(shape) || json_array_size(shape) < 1 || json_array_size(shape) > MAX_RANK)
        return refuse(r, "An input needs a `shape` of 1 to %d dimensions.", MAX_RANK);
    t->rank = (int)json_array_size(shape);
    json_array_foreach(shape, i, dim) {
        t->dims[i] = json_integer_value(dim);
        if (!json_is_integer(dim) || t->dims[i] < 1)
            return refuse(r, "The dimensions of a `shape` are whole numbers from 1 on.");
    }
    if (t->dims[0] > V2_MAX_IMAGES)
        return refuse(r, "A request takes at most %d images.", V2_MAX_IMAGES);
    return 0;
}

/* Where the tensor's data lies: in the JSON, or the next bytes of the binary part. */
static int find_data(struct reader *r, json_t *input, struct tensor *t)
{
    json_t *parameters = json_object_get(input, "parameters");
    json_t *size = json_object_get(parameters, "binary_data_size");
    t->data = json_object_get(input, "data");
    if (json_object_get(parameters, "shared_memory_region"))
        return refuse(r, "Shared memory is not supported; send the data in the body.");
    if (!size) {
        if (!json_is_array(t->data))
            return refuse(r, "Input `%.40s` has neither a list `data` nor a parameter "
                             "`binary_data_size`.", t->name);
        return 0;
    }
    json_int_t bytes = json_integer_value(size);
    if (!json_is_integer(size) || t->data)
        return refuse(r, "Input `%.40s`: `binary_data_size` is a whole number and excludes `data`.",
                      t->name);
    if (bytes < 0 || bytes > r->end - r->binary)
        return refuse(r, "Input `%.40s`: `binary_data_size` is more than the body holds.", t->name);
    t->bytes = r->binary;
    t->size_bytes = (size_t)bytes;
    r->binary += bytes;
    return 0;
}

static int read_input(struct reader *r, json_t *input)
{
    struct tensor t = {.name = json_string_value(json_object_get(input, "name")),
                       .datatype = json_string_value(json_object_get(input, "datatype"))};
    if (!t.name || !t.datatype)
        return refuse(r, "An input is an object with `name`, `shape`, `datatype` and its data.");
    bool image = strcmp(t.name, "image") == 0;
    if (!image && strcmp(t.name, "pixels") != 0)
        return refuse(r, "There is no input `%.40s`; there are `image` and `pixels`.", t.name);
    int err = read_shape(r, json_object_get(input, "shape"), &t);
    if (!err)
        err = find_data(r, input, &t);
    if (err)
        return err;
    return image ? read_images(r, &t) : read_pixels(r, &t);
}

static int read_inputs(struct reader *r, json_t *root)
{
    json_t *inputs = json_object_get(root, "inputs");
    if (!json_is_array(inputs) || json_array_size(inputs) != 1)
        return refuse(r, "`inputs` is a list of one input: `image` or `pixels`.");
    int err = read_input(r, json_array_get(inputs, 0));
    if (!err && r->binary != r->end)
        err = refuse(r, "The body has %zu bytes that belong to no input.",
                     (size_t)(r->end - r->binary));
    return err;
}

/* ---- outputs ---- */

/* A parameter that is true or false; `standard` where it is absent. */
static int read_flag(struct reader *r, json_t *parameters, const char *name, bool standard,
                     bool *out)
{
    json_t *value = json_object_get(parameters, name);
    *out = value ? json_is_true(value) : standard;
    if (value && !json_is_boolean(value))
        return refuse(r, "The parameter `%s` is true or false.", name);
    return 0;
}

static int read_output(struct reader *r, json_t *wanted, bool binary)
{
    struct v2_output o = {.tensor = V2_LOGITS};
    const char *name = json_string_value(json_object_get(wanted, "name"));
    json_t *parameters = json_object_get(wanted, "parameters");
    json_t *classification = json_object_get(parameters, "classification");
    while (name && o.tensor < V2_TENSORS && strcmp(name, v2_tensor_name(o.tensor)) != 0)
        o.tensor++;
    if (!name || o.tensor == V2_TENSORS)
        return refuse(r, "There is no output `%.40s`; there are `logits`, `probabilities` and "
                         "`label`.", name ? name : "");
    for (int i = 0; i < r->out->output_count; i++) {
        if (r->out->outputs[i].tensor == o.tensor)
            return refuse(r, "Output `%s` is asked for twice.", name);
    }
    json_int_t k = json_integer_value(classification);
    if (classification && (!json_is_integer(classification) || k < 0 || k > INT32_MAX))
        return refuse(r, "The parameter `classification` is a number of classes.");
    if (k > 0 && o.tensor == V2_LABEL)
        return refuse(r, "`classification` goes with `logits` or `probabilities`.");
    if (json_object_get(parameters, "shared_memory_region"))
        return refuse(r, "Shared memory is not supported.");
    o.classification = (int)k;
    int err = read_flag(r, parameters, "binary_data", binary, &o.binary);
    if (!err)
        r->out->outputs[r->out->output_count++] = o;
    return err;
}

static int read_outputs(struct reader *r, json_t *root)
{
    json_t *outputs = json_object_get(root, "outputs"), *wanted;
    size_t i;
    bool binary;
    int err = read_flag(r, json_object_get(root, "parameters"), "binary_data_output", false,
                        &binary);
    if (err)
        return err;
    if (outputs && !json_is_array(outputs))
        return refuse(r, "`outputs` is a list.");
    if (json_array_size(outputs) == 0) {
        for (int t = 0; t < V2_TENSORS; t++)
            r->out->outputs[t] = (struct v2_output){(enum v2_tensor)t, binary, 0};
        r->out->output_count = V2_TENSORS;
        return 0;
    }
    json_array_foreach(outputs, i, wanted) {
        err = read_output(r, wanted, binary);
        if (err)
            return err;
    }
    return 0;
}

/* ---- the whole ---- */

/* A body without JSON: one image, all outputs. */
static int read_raw(struct reader *r)
{
    r->out->encoded = true;
    keep_image(r, r->binary, (size_t)(r->end - r->binary));
    return read_outputs(r, NULL);
}

static int read_json(struct reader *r, const void *json, size_t json_bytes)
{
    json_error_t error;
    json_t *root = json_loadb(json, json_bytes, JSON_REJECT_DUPLICATES, &error);
    r->out->root = root;
    if (!root)
        return refuse(r, "The JSON is malformed at byte %d: %.160s.", error.position, error.text);
    r->out->id = json_object_get(root, "id");
    if (!json_is_object(root))
        return refuse(r, "A request is a JSON object.");
    if (r->out->id && !json_is_string(r->out->id))
        return refuse(r, "The `id` is a string.");
    int err = read_inputs(r, root);
    return err ? err : read_outputs(r, root);
}

int v2_request_parse(struct v2_request *out, const void *body, size_t body_bytes,
                     int64_t json_bytes, const struct v2_shape *shape, char *why)
{
    struct v2_request request = {0};
    struct reader r = {.out = &request, .shape = shape, .why = why};
    size_t json = json_bytes == V2_NO_HEADER ? body_bytes : (size_t)json_bytes;
    int err;
    if (json > body_bytes) {
        err = refuse(&r, "Inference-Header-Content-Length is more than the body has.");
    } else if (body_bytes == 0) {
        err = refuse(&r, "The body is empty.");
    } else {
        r.binary = (const uint8_t *)body + json;
        r.end = (const uint8_t *)body + body_bytes;
        err = json == 0 ? read_raw(&r) : read_json(&r, body, json);
    }
    if (err)
        v2_request_release(&request);
    else
        *out = request;
    return err;
}

void v2_request_release(struct v2_request *r)
{
    json_decref(r->root);
    free(r->decoded);
    free(r->pixels);
    *r = (struct v2_request){0};
}
