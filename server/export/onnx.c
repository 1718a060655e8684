/*
 * onnx.c - see onnx.h. Field numbers are those of onnx.proto3 (https://github.com/onnx/onnx).
 *
 * The graph is written as it is walked: every node right after the weights it takes. A value is
 * named after the parameters of the layer that makes it: "stage1.block0.conv2".
 */
#include "server/export/onnx.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/err.h"
#include "core/nn/norm.h"
#include "server/app.h"
#include "server/export/protobuf.h"

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "raw tensors are little-endian");

enum { IR_VERSION = 8, OPSET = 13, NAME_BYTES = 64 };

enum model_field {
    MODEL_IR_VERSION = 1,
    MODEL_PRODUCER_NAME = 2,
    MODEL_PRODUCER_VERSION = 3,
    MODEL_VERSION = 5,
    MODEL_GRAPH = 7,
    MODEL_OPSET_IMPORT = 8,
    MODEL_METADATA = 14,
};
enum graph_field {
    GRAPH_NODE = 1,
    GRAPH_NAME = 2,
    GRAPH_INITIALIZER = 5,
    GRAPH_INPUT = 11,
    GRAPH_OUTPUT = 12,
};
enum node_field {
    NODE_INPUT = 1,
    NODE_OUTPUT = 2,
    NODE_NAME = 3,
    NODE_TYPE = 4,
    NODE_ATTRIBUTE = 5,
};
enum attribute_field {
    ATTRIBUTE_NAME = 1,
    ATTRIBUTE_INT = 3,
    ATTRIBUTE_INTS = 8,
    ATTRIBUTE_TYPE = 20,
};
enum attribute_type { ATTRIBUTE_IS_INT = 2, ATTRIBUTE_IS_INTS = 7 };
enum tensor_field { TENSOR_DIMS = 1, TENSOR_TYPE = 2, TENSOR_NAME = 8, TENSOR_RAW = 9 };
enum tensor_type { TENSOR_FLOAT = 1, TENSOR_INT64 = 7 };
enum value_field { VALUE_NAME = 1, VALUE_TYPE = 2, TYPE_TENSOR = 1 };
enum shape_field {
    TENSOR_ELEMENT = 1,
    TENSOR_SHAPE = 2,
    SHAPE_DIM = 1,
    DIM_VALUE = 1,
    DIM_NAME = 2,
};

struct writer {
    struct protobuf p;
    const struct export_source *source;
    const struct model *at; /* whose network is written: the source's or an expert's */
    char prefix[24];        /* of all its names; empty for the source's */
    float *folded; /* room for the largest convolution's weights */
};

/* ---- pieces of a graph ---- */

static void put_tensor(struct writer *w, const char *name, enum tensor_type type, const int *dims,
                       int dim_count, const void *data)
{
    size_t bytes = type == TENSOR_FLOAT ? sizeof(float) : sizeof(int64_t);
    size_t begin = protobuf_begin(&w->p, GRAPH_INITIALIZER);
    for (int i = 0; i < dim_count; i++) {
        protobuf_varint(&w->p, TENSOR_DIMS, (uint64_t)dims[i]);
        bytes *= (size_t)dims[i];
    }
    protobuf_varint(&w->p, TENSOR_TYPE, type);
    protobuf_text(&w->p, TENSOR_NAME, name);
    protobuf_bytes(&w->p, TENSOR_RAW, data, bytes);
    protobuf_end(&w->p, begin);
}

static void put_vector(struct writer *w, const char *name, int count, const float *values)
{
    put_tensor(w, name, TENSOR_FLOAT, &count, 1, values);
}

static void put_int64s(struct writer *w, const char *name, int count, const int64_t *values)
{
    put_tensor(w, name, TENSOR_INT64, &count, 1, values);
}

/* A node of up to three inputs (the rest NULL) and one output, after which it is named. Attributes
 * may follow until node_end. */
static size_t node_begin(struct writer *w, const char *type, const char *output, const char *a,
                         const char *b, const char *c)
{
    const char *inputs[] = {a, b, c};
    size_t begin = protobuf_begin(&w->p, GRAPH_NODE);
    for (int i = 0; i < 3 && inputs[i]; i++)
        protobuf_text(&w->p, NODE_INPUT, inputs[i]);
    protobuf_text(&w->p, NODE_OUTPUT, output);
    protobuf_text(&w->p, NODE_NAME, output);
    protobuf_text(&w->p, NODE_TYPE, type);
    return begin;
}

static void node_end(struct writer *w, size_t begin)
{
    protobuf_end(&w->p, begin);
}

static void put_node(struct writer *w, const char *type, const char *output, const char *a,
                     const char *b, const char *c)
{
    node_end(w, node_begin(w, type, output, a, b, c));
}

static void put_int(struct writer *w, const char *name, int value)
{
    size_t begin = protobuf_begin(&w->p, NODE_ATTRIBUTE);
    protobuf_text(&w->p, ATTRIBUTE_NAME, name);
    protobuf_varint(&w->p, ATTRIBUTE_INT, (uint64_t)value);
    protobuf_varint(&w->p, ATTRIBUTE_TYPE, ATTRIBUTE_IS_INT);
    protobuf_end(&w->p, begin);
}

static void put_ints(struct writer *w, const char *name, int count, const int *values)
{
    size_t begin = protobuf_begin(&w->p, NODE_ATTRIBUTE);
    protobuf_text(&w->p, ATTRIBUTE_NAME, name);
    for (int i = 0; i < count; i++)
        protobuf_varint(&w->p, ATTRIBUTE_INTS, (uint64_t)values[i]);
    protobuf_varint(&w->p, ATTRIBUTE_TYPE, ATTRIBUTE_IS_INTS);
    protobuf_end(&w->p, begin);
}

/* An input or output of the graph: float (N, dims...). */
static void put_value(struct writer *w, enum graph_field field, const char *name, int dim_count,
                      const int *dims)
{
    size_t value = protobuf_begin(&w->p, field);
    protobuf_text(&w->p, VALUE_NAME, name);
    size_t type = protobuf_begin(&w->p, VALUE_TYPE);
    size_t tensor = protobuf_begin(&w->p, TYPE_TENSOR);
    protobuf_varint(&w->p, TENSOR_ELEMENT, TENSOR_FLOAT);
    size_t shape = protobuf_begin(&w->p, TENSOR_SHAPE);
    for (int i = -1; i < dim_count; i++) {
        size_t dim = protobuf_begin(&w->p, SHAPE_DIM);
        if (i < 0)
            protobuf_text(&w->p, DIM_NAME, "N");
        else
            protobuf_varint(&w->p, DIM_VALUE, (uint64_t)dims[i]);
        protobuf_end(&w->p, dim);
    }
    protobuf_end(&w->p, shape);
    protobuf_end(&w->p, tensor);
    protobuf_end(&w->p, type);
    protobuf_end(&w->p, value);
}

/* ---- the network ---- */

/* "stage1.block0.conv1", and with a suffix: "stage1.block0.conv1.relu"; of the first expert "expert1.stage1.block0.conv1". */
static void layer_name(const struct writer *w, int layer, const char *suffix,
                       char name[NAME_BYTES])
{
    const struct resnet *net = w->at->net;
    const char *weight = net->params.entries[net->layers[layer].weight].name;
    int stem = (int)(strrchr(weight, '.') - weight);
    snprintf(name, NAME_BYTES, "%s%.*s%s", w->prefix, stem, weight, suffix);
}

/* A name of the network that is no layer's. */
static void network_name(const struct writer *w, const char *name, char out[NAME_BYTES])
{
    snprintf(out, NAME_BYTES, "%s%s", w->prefix, name);
}

/* x = (pixels / 255 - mean) / std, as one multiplication and one addition. */
static void put_normalisation(struct writer *w, const char *output)
{
    const struct model *m = w->source->model;
    int channels = m->net->spec.channels;
    float scale[MODEL_MAX_CHANNELS], shift[MODEL_MAX_CHANNELS];
    for (int c = 0; c < channels; c++) {
        scale[c] = 1 / (255 * m->std[c]);
        shift[c] = -m->mean[c] / m->std[c];
    }
    const int dims[3] = {channels, 1, 1};
    put_tensor(w, "normalisation.scale", TENSOR_FLOAT, dims, 3, scale);
    put_tensor(w, "normalisation.shift", TENSOR_FLOAT, dims, 3, shift);
    put_node(w, "Mul", "normalisation.scaled", "image", "normalisation.scale", NULL);
    put_node(w, "Add", output, "normalisation.scaled", "normalisation.shift", NULL);
}

/* Weights (K,K,Cin,Cout) to (Cout,Cin,K,K), each times its output's batch-norm scale. */
static void fold_weights(const struct conv *c, const float *weights, const float *scale, float *out)
{
    for (int o = 0; o < c->cout; o++)
        for (int i = 0; i < c->cin; i++)
            for (int k = 0; k < c->k * c->k; k++)
                *out++ = scale[o] * weights[((size_t)k * c->cin + i) * c->cout + o];
}

/* Convolution and batch norm, as one Conv with a bias; its output bears the layer's name. */
static void put_conv(struct writer *w, int layer, const char *input)
{
    const struct model *m = w->at;
    const struct resnet_layer *l = &m->net->layers[layer];
    const struct param_entry *e = m->net->params.entries;
    const struct conv *c = &l->conv;
    char output[NAME_BYTES], weight[NAME_BYTES], bias[NAME_BYTES];
    float inv[NORM_MAX_CHANNELS], scale[NORM_MAX_CHANNELS], shift[NORM_MAX_CHANNELS];
    layer_name(w, layer, "", output);
    layer_name(w, layer, ".weight", weight);
    layer_name(w, layer, ".bias", bias);
    for (int i = 0; i < c->cout; i++)
        inv[i] = 1 / sqrtf(m->params[e[l->var].offset + i] + NORM_EPSILON);
    norm_affine(c->cout, m->params + e[l->gamma].offset, m->params + e[l->beta].offset,
                m->params + e[l->mean].offset, inv, scale, shift);
    fold_weights(c, m->params + e[l->weight].offset, scale, w->folded);

    const int kernel[4] = {c->cout, c->cin, c->k, c->k}, stride[2] = {c->stride, c->stride};
    const int pads[4] = {c->k / 2, c->k / 2, c->k / 2, c->k / 2};
    put_tensor(w, weight, TENSOR_FLOAT, kernel, 4, w->folded);
    put_vector(w, bias, c->cout, shift);
    size_t node = node_begin(w, "Conv", output, input, weight, bias);
    put_ints(w, "kernel_shape", 2, kernel + 2);
    put_ints(w, "strides", 2, stride);
    put_ints(w, "pads", 4, pads);
    node_end(w, node);
}

/* What slices and pads of all shortcuts share. */
static void put_shortcut_constants(struct writer *w)
{
    put_int64s(w, "shortcut.starts", 2, (const int64_t[]){0, 0});
    put_int64s(w, "shortcut.ends", 2, (const int64_t[]){INT32_MAX, INT32_MAX});
    put_int64s(w, "shortcut.axes", 2, (const int64_t[]){2, 3});
    put_int64s(w, "shortcut.steps", 2, (const int64_t[]){2, 2});
}

/* Every second pixel, with channels of zeros before and after (pool.h, pool_shortcut). */
static void put_shortcut(struct writer *w, int layer, const char *input, const char *output)
{
    const struct conv *c = &w->at->net->layers[layer].conv;
    char sliced[NAME_BYTES], pads[NAME_BYTES];
    layer_name(w, layer, ".shortcut.sliced", sliced);
    layer_name(w, layer, ".shortcut.pads", pads);
    int before = (c->cout - c->cin) / 2, after = c->cout - c->cin - before;
    size_t node = node_begin(w, "Slice", sliced, input, "shortcut.starts", "shortcut.ends");
    protobuf_text(&w->p, NODE_INPUT, "shortcut.axes");
    protobuf_text(&w->p, NODE_INPUT, "shortcut.steps");
    node_end(w, node);
    put_int64s(w, pads, 8, (const int64_t[]){0, before, 0, 0, 0, after, 0, 0});
    put_node(w, "Pad", output, sliced, pads, NULL);
}

/* What a block adds to its second convolution: `name` becomes that value's name. */
static void put_any_shortcut(struct writer *w, const struct resnet_block *b, const char *input,
                             char name[NAME_BYTES])
{
    switch (b->shortcut) {
    case SHORTCUT_NONE:
    case SHORTCUT_IDENTITY:
        snprintf(name, NAME_BYTES, "%s", input);
        break;
    case SHORTCUT_SUBSAMPLE:
        layer_name(w, b->first, ".shortcut", name);
        put_shortcut(w, b->first, input, name);
        break;
    case SHORTCUT_PROJECTION:
        put_conv(w, b->projection, input);
        layer_name(w, b->projection, "", name);
        break;
    }
}

/* relu(conv2(relu(conv1(x))) + shortcut(x)), from `value` to `value`. */
static void put_block(struct writer *w, const struct resnet_block *b, char value[NAME_BYTES])
{
    char name[NAME_BYTES], conv[NAME_BYTES];
    put_conv(w, b->first, value);
    layer_name(w, b->first, "", conv);
    layer_name(w, b->first, ".relu", name);
    put_node(w, "Relu", name, conv, NULL, NULL);
    put_conv(w, b->last, name);
    put_any_shortcut(w, b, value, name);
    layer_name(w, b->last, "", conv);
    layer_name(w, b->last, ".sum", value);
    put_node(w, "Add", value, conv, name, NULL);
    layer_name(w, b->last, ".sum", name);
    layer_name(w, b->last, ".relu", value);
    put_node(w, "Relu", value, name, NULL, NULL);
}

/* From "normalised" (N, ...) to "views" (2N, ...): the images, then their mirror images. A product with a matrix of zeros and ones, as
 * some runtimes have no slices that go backwards. Features of pairs come back from (2N, F) to (N, F) in put_mean_of_views. */
static int put_views(struct writer *w)
{
    const struct resnet *net = w->at->net;
    const int width = net->spec.width, dims[2] = {width, width};
    float *reversal = calloc((size_t)width * (size_t)width, sizeof *reversal);
    if (!reversal)
        return ERR_NOMEM;
    for (int i = 0; i < width; i++)
        reversal[i * width + width - 1 - i] = 1;
    put_tensor(w, "mirror.reversal", TENSOR_FLOAT, dims, 2, reversal);
    free(reversal);
    put_node(w, "MatMul", "mirrored", "normalised", "mirror.reversal", NULL);
    size_t node = node_begin(w, "Concat", "views", "normalised", "mirrored", NULL);
    put_int(w, "axis", 0);
    node_end(w, node);
    put_int64s(w, "views.pairs", 3, (const int64_t[]){2, -1, net->feature_count});
    put_int64s(w, "views.rows", 2, (const int64_t[]){-1, net->feature_count});
    return 0;
}

/* The mean of both views' features (2N, F), as `features` (N, F). */
static void put_mean_of_views(struct writer *w, const char *of_views, const char *features)
{
    char pairs[NAME_BYTES], mean[NAME_BYTES];
    network_name(w, "features.pairs", pairs);
    network_name(w, "features.mean", mean);
    put_node(w, "Reshape", pairs, of_views, "views.pairs", NULL);
    size_t node = node_begin(w, "ReduceMean", mean, pairs, NULL, NULL);
    put_ints(w, "axes", 1, (const int[]){0});
    put_int(w, "keepdims", 1);
    node_end(w, node);
    put_node(w, "Reshape", features, mean, "views.rows", NULL);
}

/* What goes into the networks. */
static const char *network_input(const struct writer *w)
{
    return w->source->model->view.mirrored ? "views" : "normalised";
}

/* From the network's input to `value`. */
static void put_stem(struct writer *w, char value[NAME_BYTES])
{
    const struct resnet *net = w->at->net;
    char conv[NAME_BYTES], relu[NAME_BYTES];
    put_conv(w, 0, network_input(w));
    layer_name(w, 0, "", conv);
    layer_name(w, 0, ".relu", relu);
    put_node(w, "Relu", relu, conv, NULL, NULL);
    snprintf(value, NAME_BYTES, "%s", relu);
    if (!net->blocks[0].max_pool)
        return;
    layer_name(w, 0, ".pooled", value);
    size_t node = node_begin(w, "MaxPool", value, relu, NULL, NULL);
    put_ints(w, "kernel_shape", 2, (const int[]){3, 3});
    put_ints(w, "strides", 2, (const int[]){2, 2});
    put_ints(w, "pads", 4, (const int[]){1, 1, 1, 1});
    node_end(w, node);
}

/* From its input to "features" (N, F). */
static void put_network(struct writer *w)
{
    const struct resnet *net = w->at->net;
    bool mirrored = w->source->model->view.mirrored;
    char value[NAME_BYTES], pooled[NAME_BYTES], flat[NAME_BYTES], features[NAME_BYTES];
    network_name(w, "pooled", pooled);
    network_name(w, "features", features);
    network_name(w, mirrored ? "features.views" : "features", flat);
    put_stem(w, value);
    for (int k = 1; k < net->block_count; k++)
        put_block(w, &net->blocks[k], value);
    put_node(w, "GlobalAveragePool", pooled, value, NULL, NULL);
    size_t node = node_begin(w, "Flatten", flat, pooled, NULL, NULL);
    put_int(w, "axis", 1);
    node_end(w, node);
    if (mirrored)
        put_mean_of_views(w, flat, features);
}

/* ---- the classifiers ---- */

/* output (N, classes) = input (N, width) times the transposed rows, plus bias, all scaled. */
static int put_linear(struct writer *w, const char *output, const char *input, int width,
                      const float *rows, const float *bias)
{
    const struct model *m = w->source->model;
    const int dims[2] = {m->net->spec.classes, width};
    size_t count = (size_t)dims[0] * (size_t)dims[1];
    float *scaled = malloc((count + (size_t)dims[0]) * sizeof *scaled);
    if (!scaled)
        return ERR_NOMEM;
    for (size_t i = 0; i < count; i++)
        scaled[i] = m->score_scale * rows[i];
    for (int i = 0; i < dims[0]; i++)
        scaled[count + (size_t)i] = m->score_scale * bias[i];
    put_tensor(w, "classifier.weight", TENSOR_FLOAT, dims, 2, scaled);
    put_vector(w, "classifier.bias", dims[0], scaled + count);
    free(scaled);
    size_t node = node_begin(w, "Gemm", output, input, "classifier.weight", "classifier.bias");
    put_int(w, "transB", 1);
    node_end(w, node);
    return 0;
}

static int put_head(struct writer *w)
{
    const struct model *m = w->source->model;
    const struct param_entry *e = m->net->params.entries;
    return put_linear(w, "logits", "features", m->net->head_features[0],
                      m->params + e[m->net->head_weight[0]].offset,
                      m->params + e[m->net->head_bias[0]].offset);
}

/* What the norms of all networks' features share. Products with ones sum the squares up and spread the norm over the row again:
 * matrices that all runtimes take, whatever N is. What is added to the squares changes none but those of a row of zeros,
 * which stays one: its cosines are 0, as they are in frozen.c. */
static int put_norm_constants(struct writer *w)
{
    const float smallest = 1e-30f;
    const int column[2] = {w->at->net->feature_count, 1}, row[2] = {1, column[0]};
    float *ones = malloc((size_t)column[0] * sizeof *ones);
    if (!ones)
        return ERR_NOMEM;
    for (int i = 0; i < column[0]; i++)
        ones[i] = 1;
    put_vector(w, "norm.smallest", 1, &smallest);
    put_vector(w, "norm.power", 1, &w->source->model->view.power);
    put_tensor(w, "norm.column", TENSOR_FLOAT, column, 2, ones);
    put_tensor(w, "norm.row", TENSOR_FLOAT, row, 2, ones);
    free(ones);
    return 0;
}

/* The network's features, raised to the model's power, as unit vectors. */
static void put_unit_features(struct writer *w)
{
    static const char *const names[] = {"features", "features.raised", "norm.squares", "norm.sum",
                                        "norm.positive", "norm", "norm.spread", "features.unit"};
    enum { FEATURES, RAISED, SQUARES, SUM, POSITIVE, NORM, SPREAD, UNIT, NAMES };
    char n[NAMES][NAME_BYTES];
    for (int i = 0; i < NAMES; i++)
        network_name(w, names[i], n[i]);
    put_node(w, "Pow", n[RAISED], n[FEATURES], "norm.power", NULL);
    put_node(w, "Mul", n[SQUARES], n[RAISED], n[RAISED], NULL);
    put_node(w, "MatMul", n[SUM], n[SQUARES], "norm.column", NULL);
    put_node(w, "Add", n[POSITIVE], n[SUM], "norm.smallest", NULL);
    put_node(w, "Sqrt", n[NORM], n[POSITIVE], NULL, NULL);
    put_node(w, "MatMul", n[SPREAD], n[NORM], "norm.row", NULL);
    put_node(w, "Div", n[UNIT], n[RAISED], n[SPREAD], NULL);
}

static void set_network(struct writer *w, int expert)
{
    const struct model *m = w->source->model;
    bool own = expert == m->expert_count;
    w->at = own ? m : m->experts[expert];
    w->prefix[0] = '\0';
    if (!own)
        snprintf(w->prefix, sizeof w->prefix, "expert%d.", expert + 1);
}

/* The features of all experts and of the network, as unit vectors, side by side: "features.all". */
static void put_all_features(struct writer *w)
{
    int count = w->source->model->expert_count;
    char unit[NAME_BYTES];
    for (int i = 0; i <= count; i++) {
        set_network(w, i);
        if (i < count)
            put_network(w); /* the own one stands already */
        put_unit_features(w);
    }
    size_t node = node_begin(w, "Concat", "features.all", NULL, NULL, NULL);
    for (int i = 0; i <= count; i++) {
        set_network(w, i);
        network_name(w, "features.unit", unit);
        protobuf_text(&w->p, NODE_INPUT, unit);
    }
    put_int(w, "axis", 1);
    node_end(w, node);
}

static int put_means(struct writer *w)
{
    const struct model *m = w->source->model;
    int width = model_width(m);
    size_t classes = (size_t)m->net->spec.classes, count = classes * (size_t)width;
    float *rows = malloc((count + classes) * sizeof *rows);
    int err = rows ? model_classifier_rows(m, rows, rows + count) : ERR_NOMEM;
    if (!err)
        err = put_norm_constants(w);
    if (!err)
        put_all_features(w);
    if (!err)
        err = put_linear(w, "logits", "features.all", width, rows, rows + count);
    free(rows);
    return err;
}

static int put_classifier(struct writer *w)
{
    int err = 0;
    switch (w->source->model->classifier) {
    case CLASSIFIER_HEAD:
        err = put_head(w);
        break;
    case CLASSIFIER_PROTOTYPES:
    case CLASSIFIER_DISCRIMINANT:
        err = put_means(w);
        break;
    }
    size_t node = node_begin(w, "Softmax", "probabilities", "logits", NULL, NULL);
    put_int(w, "axis", 1);
    node_end(w, node);
    return err;
}

static int put_graph(struct writer *w)
{
    const struct resnet_spec *s = &w->source->model->net->spec;
    size_t graph = protobuf_begin(&w->p, MODEL_GRAPH);
    protobuf_text(&w->p, GRAPH_NAME, "accreted");
    put_normalisation(w, "normalised");
    put_shortcut_constants(w);
    int err = w->source->model->view.mirrored ? put_views(w) : 0;
    put_network(w);
    if (!err)
        err = put_classifier(w);
    put_value(w, GRAPH_INPUT, "image", 3, (const int[]){s->channels, s->height, s->width});
    put_value(w, GRAPH_OUTPUT, "logits", 1, &s->classes);
    put_value(w, GRAPH_OUTPUT, "probabilities", 1, &s->classes);
    protobuf_end(&w->p, graph);
    return err;
}

/* ---- the file ---- */

static void put_metadata(struct writer *w, const char *key, const char *value)
{
    enum { KEY = 1, VALUE = 2 };
    size_t begin = protobuf_begin(&w->p, MODEL_METADATA);
    protobuf_text(&w->p, KEY, key);
    protobuf_text(&w->p, VALUE, value);
    protobuf_end(&w->p, begin);
}

static int put_metadata_json(struct writer *w, const char *key, json_t *value)
{
    char *text = export_text(value);
    if (!text)
        return ERR_NOMEM;
    put_metadata(w, key, text);
    free(text);
    return 0;
}

static int put_all_metadata(struct writer *w)
{
    const struct export_source *s = w->source;
    const struct resnet_spec *spec = &s->model->net->spec;
    char input[256], version[32];
    snprintf(input, sizeof input,
             "image: float32 (N, %d, %d, %d), %s, pixel values 0 to 255; normalisation is part of "
             "the graph",
             spec->channels, spec->height, spec->width,
             spec->channels == 3 ? "channels red, green, blue" : "grey");
    snprintf(version, sizeof version, "%lld", (long long)s->version);
    int err = put_metadata_json(w, "labels", export_labels(s));
    if (!err)
        err = put_metadata_json(w, "steps", export_steps(s));
    put_metadata(w, "input", input);
    put_metadata(w, "version", version);
    put_metadata(w, "classifier", export_classifier(s));
    put_metadata(w, "weights", s->from_snapshot ? "snapshot" : "dense");
    put_metadata(w, "accreted_version", ACCRETED_VERSION);
    put_metadata(w, "licence", EXPORT_LICENCE);
    return err;
}

static void put_opset(struct writer *w)
{
    enum { DOMAIN = 1, VERSION = 2 };
    size_t begin = protobuf_begin(&w->p, MODEL_OPSET_IMPORT);
    protobuf_text(&w->p, DOMAIN, "");
    protobuf_varint(&w->p, VERSION, OPSET);
    protobuf_end(&w->p, begin);
}

int onnx_write(const struct export_source *s, void **out, size_t *out_bytes)
{
    struct writer w = {.source = s, .at = s->model};
    size_t largest = 0;
    for (int i = 0; i < s->model->net->layer_count; i++) {
        size_t floats = conv_weight_floats(&s->model->net->layers[i].conv);
        largest = floats > largest ? floats : largest;
    }
    w.folded = malloc(largest * sizeof *w.folded);
    if (!w.folded)
        return ERR_NOMEM;
    protobuf_varint(&w.p, MODEL_IR_VERSION, IR_VERSION);
    protobuf_text(&w.p, MODEL_PRODUCER_NAME, "accreted");
    protobuf_text(&w.p, MODEL_PRODUCER_VERSION, ACCRETED_VERSION);
    protobuf_varint(&w.p, MODEL_VERSION, (uint64_t)s->version);
    put_opset(&w);
    int err = put_graph(&w);
    if (!err)
        err = put_all_metadata(&w);
    free(w.folded);
    if (!err)
        err = w.p.err;
    if (err) {
        free(w.p.data);
        return err;
    }
    *out = w.p.data;
    *out_bytes = w.p.size;
    return 0;
}
