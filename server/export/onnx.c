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
#include "server/export/onnx_pieces.h"
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

struct writer {
    struct protobuf p;
    const struct export_source *source;
    const struct model *at; /* whose network is written: the source's or an expert's */
    char prefix[24];        /* of all its names; empty for the source's */
    float *folded; /* room for the largest convolution's weights */
};

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
    onnx_floats(&w->p, "normalisation.scale", dims, 3, scale);
    onnx_floats(&w->p, "normalisation.shift", dims, 3, shift);
    onnx_node(&w->p, "Mul", "normalisation.scaled", "image", "normalisation.scale", NULL);
    onnx_node(&w->p, "Add", output, "normalisation.scaled", "normalisation.shift", NULL);
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
    onnx_floats(&w->p, weight, kernel, 4, w->folded);
    onnx_vector(&w->p, bias, c->cout, shift);
    size_t node = onnx_node_begin(&w->p, "Conv", output, input, weight, bias);
    onnx_ints(&w->p, "kernel_shape", 2, kernel + 2);
    onnx_ints(&w->p, "strides", 2, stride);
    onnx_ints(&w->p, "pads", 4, pads);
    onnx_node_end(&w->p, node);
}

/* What slices and pads of all shortcuts share. */
static void put_shortcut_constants(struct writer *w)
{
    onnx_int64s(&w->p, "shortcut.starts", 2, (const int64_t[]){0, 0});
    onnx_int64s(&w->p, "shortcut.ends", 2, (const int64_t[]){INT32_MAX, INT32_MAX});
    onnx_int64s(&w->p, "shortcut.axes", 2, (const int64_t[]){2, 3});
    onnx_int64s(&w->p, "shortcut.steps", 2, (const int64_t[]){2, 2});
}

/* Every second pixel, with channels of zeros before and after (pool.h, pool_shortcut). */
static void put_shortcut(struct writer *w, int layer, const char *input, const char *output)
{
    const struct conv *c = &w->at->net->layers[layer].conv;
    char sliced[NAME_BYTES], pads[NAME_BYTES];
    layer_name(w, layer, ".shortcut.sliced", sliced);
    layer_name(w, layer, ".shortcut.pads", pads);
    int before = (c->cout - c->cin) / 2, after = c->cout - c->cin - before;
    size_t node =
        onnx_node_begin(&w->p, "Slice", sliced, input, "shortcut.starts", "shortcut.ends");
    onnx_input(&w->p, "shortcut.axes");
    onnx_input(&w->p, "shortcut.steps");
    onnx_node_end(&w->p, node);
    onnx_int64s(&w->p, pads, 8, (const int64_t[]){0, before, 0, 0, 0, after, 0, 0});
    onnx_node(&w->p, "Pad", output, sliced, pads, NULL);
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
    onnx_node(&w->p, "Relu", name, conv, NULL, NULL);
    put_conv(w, b->last, name);
    put_any_shortcut(w, b, value, name);
    layer_name(w, b->last, "", conv);
    layer_name(w, b->last, ".sum", value);
    onnx_node(&w->p, "Add", value, conv, name, NULL);
    layer_name(w, b->last, ".sum", name);
    layer_name(w, b->last, ".relu", value);
    onnx_node(&w->p, "Relu", value, name, NULL, NULL);
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
    onnx_floats(&w->p, "mirror.reversal", dims, 2, reversal);
    free(reversal);
    onnx_node(&w->p, "MatMul", "mirrored", "normalised", "mirror.reversal", NULL);
    size_t node = onnx_node_begin(&w->p, "Concat", "views", "normalised", "mirrored", NULL);
    onnx_int(&w->p, "axis", 0);
    onnx_node_end(&w->p, node);
    onnx_int64s(&w->p, "views.pairs", 3, (const int64_t[]){2, -1, net->feature_count});
    onnx_int64s(&w->p, "views.rows", 2, (const int64_t[]){-1, net->feature_count});
    return 0;
}

/* The mean of both views' features (2N, F), as `features` (N, F). */
static void put_mean_of_views(struct writer *w, const char *of_views, const char *features)
{
    char pairs[NAME_BYTES], mean[NAME_BYTES];
    network_name(w, "features.pairs", pairs);
    network_name(w, "features.mean", mean);
    onnx_node(&w->p, "Reshape", pairs, of_views, "views.pairs", NULL);
    size_t node = onnx_node_begin(&w->p, "ReduceMean", mean, pairs, NULL, NULL);
    onnx_ints(&w->p, "axes", 1, (const int[]){0});
    onnx_int(&w->p, "keepdims", 1);
    onnx_node_end(&w->p, node);
    onnx_node(&w->p, "Reshape", features, mean, "views.rows", NULL);
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
    onnx_node(&w->p, "Relu", relu, conv, NULL, NULL);
    snprintf(value, NAME_BYTES, "%s", relu);
    if (!net->blocks[0].max_pool)
        return;
    layer_name(w, 0, ".pooled", value);
    size_t node = onnx_node_begin(&w->p, "MaxPool", value, relu, NULL, NULL);
    onnx_ints(&w->p, "kernel_shape", 2, (const int[]){3, 3});
    onnx_ints(&w->p, "strides", 2, (const int[]){2, 2});
    onnx_ints(&w->p, "pads", 4, (const int[]){1, 1, 1, 1});
    onnx_node_end(&w->p, node);
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
    onnx_node(&w->p, "GlobalAveragePool", pooled, value, NULL, NULL);
    size_t node = onnx_node_begin(&w->p, "Flatten", flat, pooled, NULL, NULL);
    onnx_int(&w->p, "axis", 1);
    onnx_node_end(&w->p, node);
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
    onnx_floats(&w->p, "classifier.weight", dims, 2, scaled);
    onnx_vector(&w->p, "classifier.bias", dims[0], scaled + count);
    free(scaled);
    size_t node =
        onnx_node_begin(&w->p, "Gemm", output, input, "classifier.weight", "classifier.bias");
    onnx_int(&w->p, "transB", 1);
    onnx_node_end(&w->p, node);
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
    onnx_vector(&w->p, "norm.smallest", 1, &smallest);
    onnx_vector(&w->p, "norm.power", 1, &w->source->model->view.power);
    onnx_floats(&w->p, "norm.column", column, 2, ones);
    onnx_floats(&w->p, "norm.row", row, 2, ones);
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
    onnx_node(&w->p, "Pow", n[RAISED], n[FEATURES], "norm.power", NULL);
    onnx_node(&w->p, "Mul", n[SQUARES], n[RAISED], n[RAISED], NULL);
    onnx_node(&w->p, "MatMul", n[SUM], n[SQUARES], "norm.column", NULL);
    onnx_node(&w->p, "Add", n[POSITIVE], n[SUM], "norm.smallest", NULL);
    onnx_node(&w->p, "Sqrt", n[NORM], n[POSITIVE], NULL, NULL);
    onnx_node(&w->p, "MatMul", n[SPREAD], n[NORM], "norm.row", NULL);
    onnx_node(&w->p, "Div", n[UNIT], n[RAISED], n[SPREAD], NULL);
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
    size_t node = onnx_node_begin(&w->p, "Concat", "features.all", NULL, NULL, NULL);
    for (int i = 0; i <= count; i++) {
        set_network(w, i);
        network_name(w, "features.unit", unit);
        onnx_input(&w->p, unit);
    }
    onnx_int(&w->p, "axis", 1);
    onnx_node_end(&w->p, node);
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
    size_t node = onnx_node_begin(&w->p, "Softmax", "probabilities", "logits", NULL, NULL);
    onnx_int(&w->p, "axis", 1);
    onnx_node_end(&w->p, node);
    return err;
}

static int put_graph(struct writer *w)
{
    const struct resnet_spec *s = &w->source->model->net->spec;
    size_t graph = protobuf_begin(&w->p, MODEL_GRAPH);
    protobuf_text(&w->p, ONNX_GRAPH_NAME, "accreted");
    put_normalisation(w, "normalised");
    put_shortcut_constants(w);
    int err = w->source->model->view.mirrored ? put_views(w) : 0;
    put_network(w);
    if (!err)
        err = put_classifier(w);
    onnx_value(&w->p, ONNX_GRAPH_INPUT, "image", 3,
               (const int[]){s->channels, s->height, s->width});
    onnx_value(&w->p, ONNX_GRAPH_OUTPUT, "logits", 1, &s->classes);
    onnx_value(&w->p, ONNX_GRAPH_OUTPUT, "probabilities", 1, &s->classes);
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
