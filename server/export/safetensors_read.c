/*
 * safetensors_read.c - see safetensors.h. Every number of the file is a stranger's.
 */
#include "server/export/safetensors.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/err.h"
#include "server/decode/ingest.h"
#include "server/export/safetensors_layout.h"

struct reader {
    const char *tensors; /* after the header */
    size_t tensor_bytes;
    json_t *header;
    const json_t *metadata; /* borrowed from it */
    enum conv_isa isa;
    struct safetensors result;
    char *why;
    size_t why_bytes;
};

struct range {
    size_t begin, end;
};

__attribute__((format(printf, 2, 3)))
static int wrong(struct reader *r, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(r->why, r->why_bytes, format, arguments);
    va_end(arguments);
    return ERR_FORMAT;
}

/* ---- header and metadata ---- */

static int read_header(struct reader *r, const void *data, size_t size_bytes)
{
    uint64_t header_bytes;
    if (size_bytes < sizeof header_bytes)
        return wrong(r, "the file is shorter than its first number");
    memcpy(&header_bytes, data, sizeof header_bytes);
    size_t rest = size_bytes - sizeof header_bytes;
    if (header_bytes > SAFETENSORS_MAX_HEADER || header_bytes > rest)
        return wrong(r, "the header is longer than the file or 4 MiB");
    const char *text = (const char *)data + sizeof header_bytes;
    json_error_t error;
    r->header = json_loadb(text, header_bytes, JSON_REJECT_DUPLICATES, &error);
    if (!r->header && json_error_code(&error) == json_error_out_of_memory)
        return ERR_NOMEM;
    if (!json_is_object(r->header))
        return wrong(r, "the header is no JSON object");
    r->metadata = json_object_get(r->header, "__metadata__");
    r->tensors = text + header_bytes;
    r->tensor_bytes = rest - header_bytes;
    return 0;
}

static const char *metadata_text(const struct reader *r, const char *key)
{
    const char *text = json_string_value(json_object_get(r->metadata, key));
    return text ? text : "";
}

/* What JSON a metadata string holds; new reference, NULL when it holds none. */
static json_t *metadata_json(const struct reader *r, const char *key)
{
    return json_loads(metadata_text(r, key), JSON_REJECT_DUPLICATES, NULL);
}

/* The number under `key`, or -1. */
static int read_size(const json_t *object, const char *key)
{
    const json_t *value = json_object_get(object, key);
    json_int_t number = json_integer_value(value);
    return json_is_integer(value) && number >= 0 && number <= 1 << 20 ? (int)number : -1;
}

static int make_model(struct reader *r)
{
    if (strcmp(metadata_text(r, "accreted_format"), SAFETENSORS_FORMAT) != 0)
        return wrong(r, "__metadata__ must have accreted_format \"" SAFETENSORS_FORMAT "\"");
    json_t *spec = metadata_json(r, "spec");
    const struct resnet_spec s = {
        .arch = strcmp(metadata_text(r, "arch"), "resnet-18") == 0 ? RESNET_18 : RESNET_CIFAR,
        .blocks = read_size(spec, "blocks"),
        .channels = read_size(spec, "channels"),
        .height = read_size(spec, "height"),
        .width = read_size(spec, "width"),
        .classes = read_size(spec, "classes"),
    };
    json_decref(spec);
    int err = ERR_INVALID;
    if (s.channels == 1 || s.channels == 3)
        err = model_new(&r->result.model, &s, &s.classes, 1, r->isa);
    return err == ERR_INVALID
               ? wrong(r, "spec must give blocks 1 to %d (2 if arch is resnet-18), channels 1 or 3, "
                       "height and width %d to 512, classes 1 to %d", RESNET_MAX_BLOCKS,
                       resnet_min_side(s.arch), RESNET_MAX_CLASSES)
               : err;
}

/* `count` finite numbers, over zero if `positive`. */
static int read_floats(struct reader *r, const char *key, int count, bool positive, float *out)
{
    json_t *list = metadata_json(r, key);
    bool good = json_is_array(list) && json_array_size(list) == (size_t)count;
    for (int i = 0; good && i < count; i++) {
        const json_t *value = json_array_get(list, (size_t)i);
        out[i] = (float)json_number_value(value);
        good = json_is_number(value) && isfinite(out[i]) && (!positive || out[i] > 0);
    }
    json_decref(list);
    return good ? 0
                : wrong(r, "%s must be a list of %d %snumbers, one a channel", key, count,
                        positive ? "positive " : "");
}

static int read_scoring(struct reader *r)
{
    struct model *m = r->result.model;
    const char *classifier = metadata_text(r, "classifier");
    const char *scale = metadata_text(r, "score_scale");
    char *end;
    int err = read_floats(r, "mean", m->net->spec.channels, false, m->mean);
    if (!err)
        err = read_floats(r, "std", m->net->spec.channels, true, m->std);
    if (err)
        return err;
    if (strcmp(classifier, "head") == 0)
        m->classifier = CLASSIFIER_HEAD;
    else if (strcmp(classifier, "prototypes") == 0)
        m->classifier = CLASSIFIER_PROTOTYPES;
    else if (strcmp(classifier, "discriminant") == 0)
        m->classifier = CLASSIFIER_DISCRIMINANT;
    else
        return wrong(r, "classifier must be \"head\", \"prototypes\" or \"discriminant\"");
    m->score_scale = strtof(scale, &end);
    if (end == scale || *end || !isfinite(m->score_scale) || m->score_scale <= 0)
        return wrong(r, "score_scale must be a positive number");
    return 0;
}

/* Where nothing is said, the view is that of a new model. */
static int read_view(struct reader *r)
{
    struct model_view *v = &r->result.model->view;
    if (json_object_get(r->metadata, "mirrored")) {
        const char *mirrored = metadata_text(r, "mirrored");
        v->mirrored = strcmp(mirrored, "true") == 0;
        if (!v->mirrored && strcmp(mirrored, "false") != 0)
            return wrong(r, "mirrored must be \"true\" or \"false\"");
    }
    if (json_object_get(r->metadata, "feature_power")) {
        const char *power = metadata_text(r, "feature_power");
        char *end;
        v->power = strtof(power, &end);
        if (end == power || *end || !(v->power >= MODEL_POWER_MIN && v->power <= 1))
            return wrong(r, "feature_power must be a number of %.1f to 1", (double)MODEL_POWER_MIN);
    }
    return 0;
}

static int compare_labels(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

static bool labels_differ(char *const *labels, int count, char **sorted)
{
    memcpy(sorted, labels, (size_t)count * sizeof *sorted);
    qsort(sorted, (size_t)count, sizeof *sorted, compare_labels);
    for (int i = 1; i < count; i++)
        if (strcmp(sorted[i - 1], sorted[i]) == 0)
            return false;
    return true;
}

/* Into the result; *good when there are as many as classes and each is valid. */
static int copy_labels(struct safetensors *result, const json_t *list, bool *good)
{
    int count = result->model->net->spec.classes;
    *good = json_is_array(list) && json_array_size(list) == (size_t)count;
    if (!*good)
        return 0;
    result->labels = calloc((size_t)count, sizeof *result->labels);
    if (!result->labels)
        return ERR_NOMEM;
    for (int i = 0; i < count; i++) {
        const char *label = json_string_value(json_array_get(list, (size_t)i));
        if (!label || !label_valid(label)) {
            *good = false;
            return 0;
        }
        result->labels[i] = strdup(label);
        if (!result->labels[i])
            return ERR_NOMEM;
        result->label_count++;
    }
    char **sorted = malloc((size_t)count * sizeof *sorted);
    if (!sorted)
        return ERR_NOMEM;
    *good = labels_differ(result->labels, count, sorted);
    free(sorted);
    return 0;
}

static int read_labels(struct reader *r)
{
    bool good;
    json_t *list = metadata_json(r, "labels");
    int err = copy_labels(&r->result, list, &good);
    json_decref(list);
    if (!err && !good)
        err = wrong(r, "labels must be a list of %d different names of classes",
                    r->result.model->net->spec.classes);
    return err;
}

/* ---- tensors ---- */

static bool shape_equal(const json_t *shape, const struct layout_tensor *t)
{
    if (!json_is_array(shape) || json_array_size(shape) != (size_t)t->ndims)
        return false;
    for (int i = 0; i < t->ndims; i++) {
        const json_t *dim = json_array_get(shape, (size_t)i);
        if (!json_is_integer(dim) || json_integer_value(dim) != t->dims[i])
            return false;
    }
    return true;
}

/* Where the tensor that `o` describes lies. */
static int read_offsets(struct reader *r, const char *name, const json_t *o, struct range *out)
{
    const json_t *offsets = json_object_get(o, "data_offsets");
    const json_t *first = json_array_get(offsets, 0), *last = json_array_get(offsets, 1);
    json_int_t begin = json_integer_value(first), end = json_integer_value(last);
    if (json_array_size(offsets) != 2 || !json_is_integer(first) || !json_is_integer(last) ||
        begin < 0 || end < begin || (uint64_t)end > r->tensor_bytes)
        return wrong(r, "the data_offsets of tensor '%s' do not fit its shape or the file", name);
    *out = (struct range){(size_t)begin, (size_t)end};
    return 0;
}

static int read_range(struct reader *r, const struct layout_tensor *t, struct range *out)
{
    const json_t *o = json_object_get(r->header, t->name);
    const char *dtype = json_string_value(json_object_get(o, "dtype"));
    if (!o)
        return wrong(r, "there is no tensor '%s'", t->name);
    if (!dtype || strcmp(dtype, "F32") != 0)
        return wrong(r, "tensor '%s' must be of dtype F32", t->name);
    if (!shape_equal(json_object_get(o, "shape"), t))
        return wrong(r, "tensor '%s' has another shape than the spec gives it", t->name);
    int err = read_offsets(r, t->name, o, out);
    if (!err && out->end - out->begin != t->count * sizeof(float))
        err = wrong(r, "the data_offsets of tensor '%s' do not fit its shape or the file",
                    t->name);
    return err;
}

static int read_values(struct reader *r, const struct layout_tensor *t, size_t begin)
{
    layout_from_file(t, r->tensors + begin);
    size_t length = strlen(t->name);
    bool variance = length > 4 && strcmp(t->name + length - 4, ".var") == 0;
    for (size_t i = 0; i < t->count; i++)
        if (!isfinite(t->values[i]) || (variance && t->values[i] < 0))
            return wrong(r, "tensor '%s' holds a number that is not finite%s", t->name,
                         variance ? ", or a negative variance" : "");
    return 0;
}

static int compare_ranges(const void *a, const void *b)
{
    const struct range *x = a, *y = b;
    return (x->begin > y->begin) - (x->begin < y->begin);
}

static bool is_of_expert(const char *name)
{
    return strncmp(name, LAYOUT_EXPERT_PREFIX, strlen(LAYOUT_EXPERT_PREFIX)) == 0;
}

/* Tensors of experts: what they are is not asked, for nothing is taken from them, but they have their place in the file. */
static int skip_experts(struct reader *r, struct range *ranges, int *count)
{
    const char *name;
    json_t *o;
    json_object_foreach(r->header, name, o) {
        if (!is_of_expert(name))
            continue;
        int err = read_offsets(r, name, o, &ranges[*count]);
        if (err)
            return err;
        ++*count;
    }
    return 0;
}

/* Whether the ranges are the whole file together, no byte twice or unused. */
static int check_ranges(struct reader *r, struct range *ranges, int count)
{
    size_t at = 0;
    qsort(ranges, (size_t)count, sizeof *ranges, compare_ranges);
    for (int i = 0; i < count; at = ranges[i++].end)
        if (ranges[i].begin != at)
            return wrong(r, "the tensors overlap or leave a gap");
    return at == r->tensor_bytes ? 0 : wrong(r, "there are bytes after the last tensor");
}

/* Every tensor of the model. */
static int read_tensors(struct reader *r)
{
    const struct model *m = r->result.model;
    int count = layout_count(m), err = 0;
    struct range *ranges = calloc(json_object_size(r->header) + (size_t)count, sizeof *ranges);
    if (!ranges)
        return ERR_NOMEM;
    for (int i = 0; i < count && !err; i++) {
        struct layout_tensor t;
        layout_tensor(m, i, &t);
        err = read_range(r, &t, &ranges[i]);
        if (!err)
            err = read_values(r, &t, ranges[i].begin);
    }
    if (!err)
        err = skip_experts(r, ranges, &count);
    if (!err && json_object_size(r->header) != (size_t)count + 1)
        err = wrong(r, "the file must hold %d tensors, those of experts, and __metadata__; it holds %zu entries",
                    layout_count(m), json_object_size(r->header));
    if (!err)
        err = check_ranges(r, ranges, count);
    free(ranges);
    return err;
}

/* That the classifier can be computed from what was read: any numbers do, but for a covariance. */
static int check_classifier(struct reader *r)
{
    const struct model *m = r->result.model;
    size_t classes = (size_t)m->net->spec.classes, count = classes * (size_t)m->net->feature_count;
    if (m->classifier == CLASSIFIER_HEAD)
        return 0;
    float *rows = malloc((count + classes) * sizeof *rows);
    int err = rows ? model_classifier_rows(m, rows, rows + count) : ERR_NOMEM;
    free(rows);
    return err == ERR_NUMERIC ? wrong(r, "covariance must be positive semidefinite") : err;
}

int safetensors_read(struct safetensors *out, const void *data, size_t size_bytes,
                     enum conv_isa isa, char *why, size_t why_bytes)
{
    struct reader r = {.isa = isa, .why = why, .why_bytes = why_bytes};
    int err = read_header(&r, data, size_bytes);
    if (!err)
        err = make_model(&r);
    if (!err)
        err = read_scoring(&r);
    if (!err)
        err = read_view(&r);
    if (!err)
        err = read_labels(&r);
    if (!err)
        err = read_tensors(&r);
    if (!err)
        err = check_classifier(&r);
    json_decref(r.header);
    if (err)
        safetensors_release(&r.result);
    else
        *out = r.result;
    return err;
}

void safetensors_release(struct safetensors *s)
{
    for (int i = 0; i < s->label_count; i++)
        free(s->labels[i]);
    free(s->labels);
    model_release(s->model);
    *s = (struct safetensors){0};
}
