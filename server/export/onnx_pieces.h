/*
 * onnx_pieces.h - what an ONNX graph is made of: tensors, nodes, inputs and outputs, as fields of its message.
 *
 * Each is appended to a protobuf (protobuf.h), which notes what fails. Field numbers are those of onnx.proto3
 * (https://github.com/onnx/onnx).
 */
#ifndef ACCRETED_SERVER_EXPORT_ONNX_PIECES_H
#define ACCRETED_SERVER_EXPORT_ONNX_PIECES_H

#include <stddef.h>
#include <stdint.h>

#include "server/export/protobuf.h"

enum onnx_graph_field {
    ONNX_GRAPH_NODE = 1,
    ONNX_GRAPH_NAME = 2,
    ONNX_GRAPH_INITIALIZER = 5,
    ONNX_GRAPH_INPUT = 11,
    ONNX_GRAPH_OUTPUT = 12,
};

/* Constants: floats of the shape `dims`, in row order; a vector of floats; one of integers. */
void onnx_floats(struct protobuf *p, const char *name, const int *dims, int dim_count,
                 const float *values);
void onnx_vector(struct protobuf *p, const char *name, int count, const float *values);
void onnx_int64s(struct protobuf *p, const char *name, int count, const int64_t *values);

/* A node of up to three inputs (the rest NULL) and one output, after which it is named. More inputs and attributes may follow until
 * onnx_node_end, which takes what this returns. */
size_t onnx_node_begin(struct protobuf *p, const char *type, const char *output, const char *a,
                       const char *b, const char *c);
void onnx_input(struct protobuf *p, const char *name);
void onnx_int(struct protobuf *p, const char *name, int value);
void onnx_ints(struct protobuf *p, const char *name, int count, const int *values);
void onnx_node_end(struct protobuf *p, size_t begin);
/* One without either. */
void onnx_node(struct protobuf *p, const char *type, const char *output, const char *a,
               const char *b, const char *c);

/* An input or output of the graph: float (N, dims...). */
void onnx_value(struct protobuf *p, enum onnx_graph_field field, const char *name, int dim_count,
                const int *dims);

#endif
