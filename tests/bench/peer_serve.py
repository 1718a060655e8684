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
import uvicorn
from PIL import Image
from starlette.concurrency import run_in_threadpool

from peer_network import network

app = fastapi.FastAPI()
net = network(32).eval()


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
