/*
 * onnx_pieces.c - see onnx_pieces.h. Field numbers are those of onnx.proto3.
 */
#include "server/export/onnx_pieces.h"

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

static void put_tensor(struct protobuf *p, const char *name, enum tensor_type type, const int *dims,
                       int dim_count, const void *data)
{
    size_t bytes = type == TENSOR_FLOAT ? sizeof(float) : sizeof(int64_t);
    size_t begin = protobuf_begin(p, ONNX_GRAPH_INITIALIZER);
    for (int i = 0; i < dim_count; i++) {
        protobuf_varint(p, TENSOR_DIMS, (uint64_t)dims[i]);
        bytes *= (size_t)dims[i];
    }
    protobuf_varint(p, TENSOR_TYPE, type);
    protobuf_text(p, TENSOR_NAME, name);
    protobuf_bytes(p, TENSOR_RAW, data, bytes);
    protobuf_end(p, begin);
}

void onnx_floats(struct protobuf *p, const char *name, const int *dims, int dim_count,
                 const float *values)
{
    put_tensor(p, name, TENSOR_FLOAT, dims, dim_count, values);
}

void onnx_vector(struct protobuf *p, const char *name, int count, const float *values)
{
    put_tensor(p, name, TENSOR_FLOAT, &count, 1, values);
}

void onnx_int64s(struct protobuf *p, const char *name, int count, const int64_t *values)
{
    put_tensor(p, name, TENSOR_INT64, &count, 1, values);
}

size_t onnx_node_begin(struct protobuf *p, const char *type, const char *output, const char *a,
                       const char *b, const char *c)
{
    const char *inputs[] = {a, b, c};
    size_t begin = protobuf_begin(p, ONNX_GRAPH_NODE);
    for (int i = 0; i < 3 && inputs[i]; i++)
        onnx_input(p, inputs[i]);
    protobuf_text(p, NODE_OUTPUT, output);
    protobuf_text(p, NODE_NAME, output);
    protobuf_text(p, NODE_TYPE, type);
    return begin;
}

void onnx_input(struct protobuf *p, const char *name)
{
    protobuf_text(p, NODE_INPUT, name);
}

void onnx_node_end(struct protobuf *p, size_t begin)
{
    protobuf_end(p, begin);
}

void onnx_node(struct protobuf *p, const char *type, const char *output, const char *a,
               const char *b, const char *c)
{
    onnx_node_end(p, onnx_node_begin(p, type, output, a, b, c));
}

void onnx_int(struct protobuf *p, const char *name, int value)
{
    size_t begin = protobuf_begin(p, NODE_ATTRIBUTE);
    protobuf_text(p, ATTRIBUTE_NAME, name);
    protobuf_varint(p, ATTRIBUTE_INT, (uint64_t)value);
    protobuf_varint(p, ATTRIBUTE_TYPE, ATTRIBUTE_IS_INT);
    protobuf_end(p, begin);
}

void onnx_ints(struct protobuf *p, const char *name, int count, const int *values)
{
    size_t begin = protobuf_begin(p, NODE_ATTRIBUTE);
    protobuf_text(p, ATTRIBUTE_NAME, name);
    for (int i = 0; i < count; i++)
        protobuf_varint(p, ATTRIBUTE_INTS, (uint64_t)values[i]);
    protobuf_varint(p, ATTRIBUTE_TYPE, ATTRIBUTE_IS_INTS);
    protobuf_end(p, begin);
}

void onnx_value(struct protobuf *p, enum onnx_graph_field field, const char *name, int dim_count,
                const int *dims)
{
    size_t value = protobuf_begin(p, field);
    protobuf_text(p, VALUE_NAME, name);
    size_t type = protobuf_begin(p, VALUE_TYPE);
    size_t tensor = protobuf_begin(p, TYPE_TENSOR);
    protobuf_varint(p, TENSOR_ELEMENT, TENSOR_FLOAT);
    size_t shape = protobuf_begin(p, TENSOR_SHAPE);
    for (int i = -1; i < dim_count; i++) {
        size_t dim = protobuf_begin(p, SHAPE_DIM);
        if (i < 0)
            protobuf_text(p, DIM_NAME, "N");
        else
            protobuf_varint(p, DIM_VALUE, (uint64_t)dims[i]);
        protobuf_end(p, dim);
    }
    protobuf_end(p, shape);
    protobuf_end(p, tensor);
    protobuf_end(p, type);
    protobuf_end(p, value);
}
