#!/usr/bin/python3
"""Writes tests/golden/v2/: requests byte for byte as the Python clients of Triton (tritonclient.http on geventhttpclient) and
KServe (InferenceRESTClient on httpx) send them, and the replies they are given.

    tests/golden/make_v2.py           the requests
    tests/golden/make_v2.py PORT      and the replies of a daemon that has learned what tests/api/test_inference_v2.py's has

In a reply `{*}` stands for bytes that differ from run to run: dates, request ids, what the model computes."""
import json
import pathlib
import re
import socket
import struct
import sys

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests/api"))
import images  # noqa: E402

FOLDER = pathlib.Path(__file__).parent / "v2"
PNG = images.png("blue", 2000)
ELEMENT = struct.pack("<I", len(PNG)) + PNG  # a BYTES tensor of one element
INFER = "/v2/models/accreted/infer"


def triton(method, path, body=None, **headers):
    lines = [f"{method} {path} HTTP/1.1", "User-Agent: python/gevent-http-client-2.0.2", "Host: localhost:8000"]
    if body is not None:
        lines.append(f"Content-Length: {len(body)}")
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + (body or b"")


def triton_infer(binary=b"", **request):
    text = json.dumps(request, separators=(",", ":")).encode()
    headers = {"Inference_Header_Content_Length": len(text)} if binary else {}
    return triton("POST", INFER, text + binary, **headers)


def kserve(method, path, body=None, **headers):
    lines = [f"{method} {path} HTTP/1.1", "Host: localhost:8000", "Accept: */*", "Accept-Encoding: gzip, deflate",
             "Connection: keep-alive", "User-Agent: python-httpx/0.27.2"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    if body is not None:
        lines.append(f"Content-Length: {len(body)}")
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + (body or b"")


def kserve_infer(request, binary=b""):
    text = json.dumps(request, separators=(",", ":")).encode()
    if binary:
        return kserve("POST", INFER, text + binary, content_type="application/octet-stream",
                      inference_header_content_length=len(text))
    return kserve("POST", INFER, text, content_type="application/json")


def image(size):
    return {"name": "image", "shape": [1, 1], "datatype": "BYTES", "parameters": {"binary_data_size": size}}


PIXELS = [[[[(7 * x + 3 * y + 50 * c) % 256 for x in range(16)] for y in range(16)] for c in range(3)]]

REQUESTS = {
    "triton-live": triton("GET", "/v2/health/live"),
    "triton-ready": triton("GET", "/v2/health/ready"),
    "triton-model-ready": triton("GET", "/v2/models/accreted/versions/1/ready"),
    "triton-server-metadata": triton("GET", "/v2"),
    "triton-model-metadata": triton("GET", "/v2/models/accreted"),
    "triton-model-config": triton("GET", "/v2/models/accreted/config"),
    "triton-repository-index": triton("POST", "/v2/repository/index", b""),
    "triton-load": triton("POST", "/v2/repository/models/accreted/load", b"{}"),
    "triton-unknown-model": triton("GET", "/v2/models/resnet50"),
    # InferInput("image").set_data_from_numpy(...), no outputs named
    "triton-infer": triton_infer(ELEMENT, id="1", inputs=[image(len(ELEMENT))], parameters={"binary_data_output": True}),
    # image_client.py: InferRequestedOutput("probabilities", class_count=4)
    "triton-infer-classification": triton_infer(
        ELEMENT, inputs=[image(len(ELEMENT))],
        outputs=[{"name": "probabilities", "parameters": {"classification": 4, "binary_data": True}}]),
    "triton-infer-json-output": triton_infer(
        ELEMENT, inputs=[image(len(ELEMENT))], outputs=[{"name": "label", "parameters": {"binary_data": False}}]),
    "triton-infer-size-lies": triton_infer(ELEMENT, inputs=[image(len(ELEMENT) + 1)],
                                           parameters={"binary_data_output": True}),
    "kserve-live": kserve("GET", "/v2/health/live"),
    "kserve-model-ready": kserve("GET", "/v2/models/accreted/ready"),
    "kserve-infer-json": kserve_infer({"id": "a", "inputs": [
        {"name": "pixels", "shape": [1, 3, 16, 16], "datatype": "UINT8", "data": PIXELS}]}),
    "kserve-infer-binary": kserve_infer(
        {"id": "b", "inputs": [image(len(ELEMENT))],
         "outputs": [{"name": "logits", "parameters": {"binary_data": True}}, {"name": "label"}]}, ELEMENT),
    "kserve-unknown-input": kserve_infer({"inputs": [
        {"name": "input-0", "shape": [1], "datatype": "FP32", "data": [1.0]}]}),
}


def exchange(port, request):
    """The whole reply to one request on a new connection."""
    with socket.create_connection(("127.0.0.1", port), timeout=60) as sock, sock.makefile("rb") as stream:
        sock.sendall(request)
        reply = b""
        while not reply.endswith(b"\r\n\r\n"):
            reply += stream.readline()
        length = re.search(rb"^Content-Length: (\d+)\r$", reply, re.M)
        return reply + stream.read(int(length[1]))


def mask(reply):
    """A recorded reply with `{*}` for what another run would answer otherwise."""
    head, _, body = reply.partition(b"\r\n\r\n")
    head = re.sub(rb"^(Date|X-Request-Id): [^\r]*", rb"\1: {*}", head, flags=re.M)
    json_bytes = re.search(rb"^Inference-Header-Content-Length: (\d+)", head, re.M)
    text, binary = (body[:int(json_bytes[1])], b"{*}") if json_bytes else (body, b"")
    masked = re.sub(rb'"data":\[[^]]*\]', b'"data":[{*}]', text)
    label = rb'("label","datatype":"BYTES","shape":\[1,1\],"parameters":{"binary_data_size":)\d+'
    masked = re.sub(label, rb"\1{*}", masked)
    if masked != text:
        head = re.sub(rb"^((Inference-Header-)?Content-Length): \d+", rb"\1: {*}", head, flags=re.M)
    masked = re.sub(rb'"request_id":"[^"]*"', b'"request_id":"{*}"', masked)
    return head + b"\r\n\r\n" + masked + binary


def main():
    FOLDER.mkdir(exist_ok=True)
    for name, request in REQUESTS.items():
        (FOLDER / f"{name}.request.http").write_bytes(request)
        if len(sys.argv) > 1:
            (FOLDER / f"{name}.reply.http").write_bytes(mask(exchange(int(sys.argv[1]), request)))


if __name__ == "__main__":
    main()
