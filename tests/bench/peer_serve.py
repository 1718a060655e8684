#!/usr/bin/python3
"""The peer of bench_serve: FastAPI, uvicorn and PyTorch answering with the same network.

    peer_serve.py PORT THREADS

POST /predict with an encoded image as the body. Written as such servers are: one process, the
model in a thread of uvicorn's pool, THREADS threads of PyTorch. Needs Debian's python3-fastapi,
python3-uvicorn, python3-torch and python3-pil.
"""
import io
import sys

import fastapi
import numpy
import torch
import torch.nn.functional as F
import uvicorn
from PIL import Image
from starlette.concurrency import run_in_threadpool
from torch import nn


class Block(nn.Module):
    """Two convolutions and a shortcut without weights, as in the CIFAR ResNets."""

    def __init__(self, cin, cout):
        super().__init__()
        self.stride, self.more = (1, 0) if cin == cout else (2, cout - cin)
        self.body = nn.Sequential(
            nn.Conv2d(cin, cout, 3, self.stride, 1, bias=False), nn.BatchNorm2d(cout), nn.ReLU(),
            nn.Conv2d(cout, cout, 3, 1, 1, bias=False), nn.BatchNorm2d(cout))

    def forward(self, x):
        shortcut = x[:, :, ::self.stride, ::self.stride]
        return F.relu(self.body(x) + F.pad(shortcut, (0, 0, 0, 0, 0, self.more)))


def resnet32(classes=10):
    widths = [16] * 6 + [32] * 5 + [64] * 5
    return nn.Sequential(
        nn.Conv2d(3, 16, 3, 1, 1, bias=False), nn.BatchNorm2d(16), nn.ReLU(),
        *(Block(cin, cout) for cin, cout in zip(widths, widths[1:])),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, classes))


app = fastapi.FastAPI()
net = resnet32().to(memory_format=torch.channels_last).eval()


def classify(body):
    image = Image.open(io.BytesIO(body)).convert("RGB").resize((32, 32))
    x = torch.from_numpy(numpy.asarray(image, dtype=numpy.float32) / 255 - 0.5)
    x = x.permute(2, 0, 1)[None].to(memory_format=torch.channels_last)
    with torch.inference_mode():
        top = torch.softmax(net(x)[0], 0).topk(5)
    return {"predictions": [{"index": i, "score": s} for s, i in zip(top.values.tolist(), top.indices.tolist())]}


@app.post("/predict")
async def predict(request: fastapi.Request):
    return await run_in_threadpool(classify, await request.body())


if __name__ == "__main__":
    torch.set_num_threads(int(sys.argv[2]))
    uvicorn.run(app, host="127.0.0.1", port=int(sys.argv[1]), log_level="error", access_log=False)
