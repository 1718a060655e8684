#!/usr/bin/python3
"""Judges an exported ONNX file for test_export.c: onnx's checker must take it, and OpenCV, a runtime that shares no code with
accreted, must compute the same. Argument: a folder with model.onnx, pixels (N, height, width, channels) as bytes, and the
logits and probabilities (N, classes) accreted gives them, as floats."""

import json
import pathlib
import sys

import cv2
import numpy
import onnx

folder = pathlib.Path(sys.argv[1])
model = onnx.load(folder / "model.onnx")
onnx.checker.check_model(model, full_check=True)

assert model.ir_version == 8 and [(o.domain, o.version) for o in model.opset_import] == [("", 13)]


def shape(value):
    return [d.dim_param or d.dim_value for d in value.type.tensor_type.shape.dim]


assert [value.name for value in model.graph.input] == ["image"]
n, channels, height, width = shape(model.graph.input[0])
metadata = {p.key: p.value for p in model.metadata_props}
labels = json.loads(metadata["labels"])
assert labels[:2] == ["cat", "dog"] and metadata["version"] == "3" and json.loads(metadata["steps"])[-1] == len(labels)
assert n == "N" and {v.name: shape(v) for v in model.graph.output} == {
    "logits": ["N", len(labels)], "probabilities": ["N", len(labels)]}
# What the checker infers from the nodes is what the file declares.
inferred = onnx.shape_inference.infer_shapes(model, strict_mode=True, data_prop=True)
assert [shape(v) for v in inferred.graph.output] == [["N", len(labels)]] * 2

pixels = numpy.fromfile(folder / "pixels", numpy.uint8).reshape(-1, height, width, channels)
images = numpy.ascontiguousarray(pixels.transpose(0, 3, 1, 2), dtype=numpy.float32)
ours = {name: numpy.fromfile(folder / name, numpy.float32).reshape(len(images), -1)
        for name in ("logits", "probabilities")}
net = cv2.dnn.readNetFromONNX(str(folder / "model.onnx"))
got = {"logits": [], "probabilities": []}
for at in range(0, len(images), 50):
    net.setInput(images[at:at + 50], "image")
    for name, value in zip(got, net.forward(list(got))):
        got[name].append(value)
got = {name: numpy.concatenate(values) for name, values in got.items()}

difference = abs(got["logits"] - ours["logits"])
limit = 1e-4 * abs(ours["logits"]).max()
same = got["logits"].argmax(1) == ours["logits"].argmax(1)
print(f"# {len(images)} images, {len(set(ours['logits'].argmax(1)))} of {len(labels)} classes: logits differ by "
      f"{difference.max():.2e} of {abs(ours['logits']).max():.2f}, top-1 equal in {same.sum()}")
assert numpy.isfinite(got["logits"]).all() and difference.max() <= limit
assert same.all()
assert abs(got["probabilities"] - ours["probabilities"]).max() <= 1e-4
