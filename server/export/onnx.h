/*
 * onnx.h - a model as an ONNX file that any runtime can run.
 *
 * Opset 13, ir_version 8, checked by onnx's own checker and run by OpenCV in the tests.
 *   image          float (N, channels, height, width), the pixels as they are, 0 to 255; of colour
 *                  images the order is red, green, blue. Normalisation is part of the graph.
 *   logits         float (N, classes), of the model's own classifier: score_scale times the main
 *                  head's outputs, or times the cosines or discriminants of the features, those of its experts too, whose networks are
 *                  part of the graph ("expert1." before their names). What these see of an image (model_view) is part of it too: of
 *                  mirrored models the networks run on 2N rows, the images and then their mirror images
 *   probabilities  float (N, classes), their softmax: what /api/v1/predict answers
 * Batch normalisation is folded into the convolutions. Labels and origin stand in metadata_props.
 */
#ifndef ACCRETED_SERVER_EXPORT_ONNX_H
#define ACCRETED_SERVER_EXPORT_ONNX_H

#include <stddef.h>

#include "server/export/export.h"

/* The file's bytes, to be freed by the caller. Any thread. Errors: ERR_NOMEM. */
int onnx_write(const struct export_source *s, void **out, size_t *out_bytes);

#endif
