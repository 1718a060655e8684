"""The Open Inference Protocol as stock clients speak it: recorded exchanges byte for byte (tests/golden/make_v2.py), and what
becomes of requests that lie."""

import base64
import json
import pathlib
import re
import struct
import sys

import numpy
import pytest
import requests

import images
from conftest import Client

GOLDEN = pathlib.Path(__file__).resolve().parents[1] / "golden"
sys.path.insert(0, str(GOLDEN))
import make_v2  # noqa: E402

# By cosines: a discriminant is certain of images as plain as these, and its probabilities are then 0 and 1.
TINY = {"depth": 8, "epochs": 16, "batch": 32, "lr": 0.05, "flip": False, "pad": 2, "prune": {"keep": 0.5, "epochs": 1},
        "classifier": "prototypes"}
FIRST, SECOND = ["red", "green"], ["blue", "yellow"]
CLASSES = FIRST + SECOND
MODEL = "/v2/models/accreted"
INFER = MODEL + "/infer"


@pytest.fixture(scope="module")
def learned(module_daemon):
    api = Client(module_daemon)
    for name, labels in (("one", FIRST), ("two", SECOND)):
        api.upload(name, images.tar(labels, range(60)))
        api.learn(name, **{k: v for k, v in TINY.items() if name == "one" or k != "depth"})
    return api


# ---- what a client does ----

def image_tensor(*encoded, rank=2):
    """The input `image` with its binary data."""
    binary = b"".join(struct.pack("<I", len(e)) + e for e in encoded)
    shape = [len(encoded), 1] if rank == 2 else [len(encoded)]
    return {"name": "image", "shape": shape, "datatype": "BYTES",
            "parameters": {"binary_data_size": len(binary)}}, binary


def pixel_tensor(arrays, datatype="UINT8"):
    """The input `pixels` of images (H, W, C), with its binary data."""
    planes = numpy.stack(arrays).transpose(0, 3, 1, 2).astype({"UINT8": "u1", "FP32": "<f4"}[datatype])
    return {"name": "pixels", "shape": list(planes.shape), "datatype": datatype,
            "parameters": {"binary_data_size": planes.nbytes}}, planes.tobytes()


def post(api, request, binary=b"", path=INFER, **headers):
    text = request if isinstance(request, bytes) else json.dumps(request).encode()
    if binary:
        headers = {"Inference-Header-Content-Length": str(len(text)), "Content-Type": "application/octet-stream", **headers}
    return api.post(path, data=text + binary, headers=headers)


def infer(api, tensor, binary=b"", path=INFER, **rest):
    reply = post(api, {"inputs": [tensor], **rest}, binary, path)
    assert reply.status_code == 200, reply.text
    return read(reply)


def best(api, image, **query):
    """The class that /api/v1/predict names."""
    return api.predict(image, **query)["predictions"][0]["class"]


def elements(data):
    found = []
    while data:
        size, = struct.unpack_from("<I", data)
        found.append(data[4:4 + size].decode())
        assert len(data) >= 4 + size
        data = data[4 + size:]
    return found


def read(reply):
    """The reply's JSON, with `array` at each output, however it was sent."""
    length = reply.headers.get("Inference-Header-Content-Length")
    assert reply.headers["Content-Type"] == ("application/octet-stream" if length else "application/json")
    text, binary = reply.content[:int(length or len(reply.content))], reply.content[int(length or len(reply.content)):]
    answer = json.loads(text)
    answer["tensors"] = {}
    for output in answer["outputs"]:
        values = output.get("data")
        if values is None:
            size = output["parameters"]["binary_data_size"]
            data, binary = binary[:size], binary[size:]
            assert len(data) == size
            values = elements(data) if output["datatype"] == "BYTES" else numpy.frombuffer(data, "<f4")
        answer["tensors"][output["name"]] = numpy.array(values).reshape(output["shape"])
    assert binary == b""
    return answer


# ---- recorded exchanges ----

@pytest.mark.parametrize("name", sorted(make_v2.REQUESTS))
def test_recorded_exchange(learned, name):
    request = (GOLDEN / "v2" / f"{name}.request.http").read_bytes()
    expected = (GOLDEN / "v2" / f"{name}.reply.http").read_bytes()
    pattern = b".*".join(re.escape(part) for part in expected.split(b"{*}"))
    reply = make_v2.exchange(learned.daemon.port, request)
    assert re.fullmatch(pattern, reply, re.DOTALL), reply.decode("latin-1")


def test_every_recording_is_replayed():
    assert sorted(p.name for p in (GOLDEN / "v2").iterdir()) == sorted(
        f"{name}.{part}.http" for name in make_v2.REQUESTS for part in ("request", "reply"))


# ---- the model, described ----

def test_metadata_is_what_infer_does(learned):
    model = learned.get(MODEL).json()
    assert model["versions"] == ["1", "2"]
    shapes = {t["name"]: t["shape"] for t in model["inputs"] + model["outputs"]}
    assert shapes == {"image": [-1, 1], "pixels": [-1, 3, 16, 16], "logits": [-1, 4], "probabilities": [-1, 4],
                      "label": [-1, 1]}
    answer = infer(learned, *image_tensor(images.png("red", 1), images.png("blue", 1)))
    assert (answer["model_name"], answer["model_version"]) == ("accreted", "2")
    assert "id" not in answer
    for name, array in answer["tensors"].items():
        assert list(array.shape) == [2, *shapes[name][1:]]
    old = learned.get(MODEL + "/versions/1").json()
    assert [t["shape"] for t in old["outputs"]] == [[-1, 2], [-1, 2], [-1, 1]]
    config = learned.get(MODEL + "/versions/1/config").json()
    assert [o["dims"] for o in config["output"]] == [[2], [2], [1]]


def test_statistics_count(learned):
    before = learned.get(MODEL + "/versions/2/stats").json()["model_stats"][0]
    infer(learned, *image_tensor(images.png("red", 1), images.png("blue", 1)))
    learned.predict(images.png("red", 1))
    post(learned, b"{}")
    after = learned.get(MODEL + "/stats").json()["model_stats"][0]
    assert after["inference_count"] - before["inference_count"] == 3
    assert after["execution_count"] - before["execution_count"] == 2
    grown = {k: after["inference_stats"][k]["count"] - before["inference_stats"][k]["count"] for k in ("success", "fail")}
    assert grown == {"success": 2, "fail": 1}
    parts = after["inference_stats"]
    assert 0 < sum(parts[k]["ns"] for k in ("queue", "compute_input", "compute_infer", "compute_output")) \
        <= parts["success"]["ns"]
    assert learned.get("/v2/models/stats").json()["model_stats"][0]["inference_count"] == after["inference_count"]


def test_index(learned):
    for body in (b"", b"{}", b'{"ready":true}'):
        index = learned.post("/v2/repository/index", data=body).json()
        assert [(e["version"], e["state"]) for e in index] == [("1", "READY"), ("2", "READY")]
    for body in (b"[]", b"{", b'{"ready":1}'):
        learned.refused(learned.post("/v2/repository/index", data=body), 400, "bad_request")


def test_unknown_models_and_versions(learned):
    for suffix in ("", "/ready", "/config", "/stats"):
        learned.refused(learned.get("/v2/models/other" + suffix), 404, "unknown_model")
        if suffix != "/ready":
            learned.refused(learned.get(MODEL + "/versions/9" + suffix), 404, "unknown_version")
        learned.refused(learned.get(MODEL + "/versions/x" + suffix), 404, "unknown_version")
    reply = learned.get(MODEL + "/versions/9/ready")
    assert (reply.status_code, reply.json()["ready"]) == (503, False)
    tensor, binary = image_tensor(images.png("red", 1))
    learned.refused(post(learned, {"inputs": [tensor]}, binary, "/v2/models/other/infer"), 404, "unknown_model")
    learned.refused(post(learned, {"inputs": [tensor]}, binary, MODEL + "/versions/9/infer"), 404, "unknown_version")
    learned.refused(learned.post("/v2/repository/models/accreted/unload"), 400, "not_supported")


def test_errors_are_plain_json(learned):
    for reply in (learned.get("/v2/models/other"), learned.get("/v2/nothing"), learned.post("/v2")):
        assert reply.headers["Content-Type"] == "application/json"
        assert reply.json()["error"] == reply.json()["detail"]


def test_before_the_first_version(api):
    assert api.get("/v2/health/live").json() == {"live": True, "ready": True}
    ready = api.get("/v2/health/ready")
    assert (ready.status_code, ready.json()) == (503, {"live": True, "ready": False})
    ready = api.get(MODEL + "/ready")
    assert (ready.status_code, ready.json()) == (503, {"name": "accreted", "ready": False})
    assert api.post("/v2/repository/index", data=b"").json()[0]["state"] == "UNAVAILABLE"
    assert api.post("/v2/repository/index", data=b'{"ready":true}').json() == []
    assert api.get("/v2/models/stats").json() == {"model_stats": []}
    api.refused(api.get(MODEL), 503, "no_model")
    api.refused(post(api, {"inputs": []}), 503, "no_model")


# ---- inputs and outputs ----

def test_every_way_to_send_an_image_answers_alike(learned):
    array = images.pixels("blue", 2000)
    png = images.encode(array)
    planes = array.transpose(2, 0, 1)
    told = learned.predict(png, top=4)["predictions"]
    expected = [next(p["score"] for p in told if p["class"] == c) for c in CLASSES]
    pixels = {"name": "pixels", "shape": [1, 3, 16, 16]}
    answers = [
        infer(learned, *image_tensor(png)),
        infer(learned, *image_tensor(png, rank=1)),
        infer(learned, {"name": "image", "shape": [1], "datatype": "BYTES", "data": [base64.b64encode(png).decode()]}),
        infer(learned, {"name": "image", "shape": [1, 1], "datatype": "BYTES", "data": [[base64.b64encode(png).decode()]]}),
        read(learned.post(INFER, data=png, headers={"Inference-Header-Content-Length": "0"})),
        infer(learned, *pixel_tensor([array])),
        infer(learned, *pixel_tensor([array], "FP32")),
        infer(learned, {**pixels, "datatype": "UINT8", "data": planes.ravel().tolist()}),
        infer(learned, {**pixels, "datatype": "FP32", "data": [planes.astype(float).tolist()]}),
    ]
    for answer in answers:
        assert answer["tensors"]["label"].tolist() == [[told[0]["class"]]]
        assert answer["tensors"]["probabilities"][0] == pytest.approx(expected, abs=2e-6)
        logits = answer["tensors"]["logits"][0].astype(float)
        assert numpy.exp(logits) / numpy.exp(logits).sum() == pytest.approx(expected, abs=2e-5)


def test_id_and_versions(learned):
    tensor, binary = image_tensor(images.png("red", 2001))
    answer = infer(learned, tensor, binary, MODEL + "/versions/1/infer", id="täg")
    assert (answer["id"], answer["model_version"]) == ("täg", "1")
    assert answer["tensors"]["probabilities"].shape == (1, 2)
    assert answer["tensors"]["label"].tolist() == [[best(learned, images.png("red", 2001), model=1)]]


@pytest.mark.parametrize("default", [False, True])
def test_binary_where_asked(learned, default):
    tensor, binary = image_tensor(*[images.png(label, 2001) for label in CLASSES])
    plain = infer(learned, tensor, binary)
    assert all("data" in o for o in plain["outputs"])
    asked = infer(learned, tensor, binary, parameters={"binary_data_output": default},
                  outputs=[{"name": "label", "parameters": {"binary_data": not default}}, {"name": "probabilities"}])
    assert [("data" in o) for o in asked["outputs"]] == [default, not default]
    assert asked["tensors"]["label"].tolist() == plain["tensors"]["label"].tolist() == [
        [best(learned, images.png(label, 2001))] for label in CLASSES]
    assert asked["tensors"]["probabilities"] == pytest.approx(plain["tensors"]["probabilities"], abs=1e-6)


@pytest.mark.parametrize("binary_data", [False, True])
def test_classification(learned, binary_data):
    sent = [images.png("green", 2001), images.png("yellow", 2001)]
    labels = [best(learned, image) for image in sent]
    tensor, binary = image_tensor(*sent)
    for k, width in ((2, 2), (100, 4)):
        answer = infer(learned, tensor, binary, outputs=[
            {"name": name, "parameters": {"classification": k, "binary_data": binary_data}}
            for name in ("logits", "probabilities")])
        for name, rows in answer["tensors"].items():
            assert rows.shape == (2, width)
            for row, label in zip(rows.tolist(), labels):
                fields = [e.split(":") for e in row]
                assert fields[0][1:] == [str(CLASSES.index(label)), label]
                values = [float(f[0]) for f in fields]
                assert values == sorted(values, reverse=True)


def test_many_images_and_no_more(learned):
    pngs = [images.png(CLASSES[i % 4], 2000 + i) for i in range(32)]
    answer = infer(learned, *image_tensor(*pngs))
    alone = [infer(learned, *image_tensor(p))["tensors"]["logits"][0] for p in pngs[:5]]
    assert answer["tensors"]["logits"][:5] == pytest.approx(numpy.array(alone), abs=1e-3)
    tensor, binary = image_tensor(*pngs, pngs[0])
    assert "32" in learned.refused(post(learned, {"inputs": [tensor]}, binary), 400, "bad_request")


# ---- requests that lie ----

PNG = images.png("red", 1)
IMAGE, IMAGE_DATA = image_tensor(PNG)
PIXELS, PIXEL_DATA = pixel_tensor([images.pixels("red", 1)], "FP32")
FLAT = {"name": "pixels", "shape": [1, 3, 16, 16], "datatype": "UINT8", "data": [0] * 768}


def changed(tensor, **fields):
    return {"inputs": [{**tensor, **fields}]}


def sized(tensor, size):
    return changed(tensor, parameters={"binary_data_size": size})


BAD = {
    "empty": (b"", b""),
    "no json": (b"{", b""),
    "not utf-8": (b'{"id":"\xff"}', b""),
    "list": (b"[]", b""),
    "deep": (b"[" * 100000, b""),
    "no inputs": ({}, b""),
    "empty inputs": ({"inputs": []}, b""),
    "two inputs": ({"inputs": [FLAT, FLAT]}, b""),
    "input is a number": ({"inputs": [1]}, b""),
    "unknown input": (changed(FLAT, name="input_1"), b""),
    "id is a number": ({"id": 7, "inputs": [FLAT]}, b""),
    "no shape": (changed(FLAT, shape=None), b""),
    "empty shape": (changed(FLAT, shape=[]), b""),
    "shape of five": (changed(FLAT, shape=[1, 1, 3, 16, 16]), b""),
    "negative shape": (changed(FLAT, shape=[-1, 3, 16, 16]), b""),
    "zero shape": (changed(FLAT, shape=[0, 3, 16, 16]), b""),
    "huge shape": (changed(FLAT, shape=[1, 3, 2**62, 2**62]), b""),
    "huge batch": (changed(FLAT, shape=[2**62, 3, 16, 16]), b""),
    "beyond 64 bits": (changed(FLAT, shape=[10**30, 3, 16, 16]), b""),
    "real shape": (changed(FLAT, shape=[1.0, 3, 16, 16]), b""),
    "other size": (changed(FLAT, shape=[1, 3, 8, 32]), b""),
    "wrong datatype": (changed(FLAT, datatype="INT64"), b""),
    "image of numbers": (changed(FLAT, name="image"), b""),
    "too few values": (changed(FLAT, data=[0] * 767), b""),
    "too many values": (changed(FLAT, data=[0] * 769), b""),
    "no data": (changed(FLAT, data=None), b""),
    "text for numbers": (changed(FLAT, data=["0"] * 768), b""),
    "256": (changed(FLAT, data=[256] * 768), b""),
    "negative": (changed(FLAT, data=[-1] * 768), b""),
    "part of a pixel": (changed(FLAT, data=[0.5] * 768), b""),
    "json NaN": (json.dumps(changed(FLAT, datatype="FP32", data=[float("nan")] * 768)).encode(), b""),
    "ragged": (changed(FLAT, data=[[[[0] * 15] * 16] * 3]), b""),
    "flat in nested": (changed(FLAT, data=[[0] * 768]), b""),
    "too deep": (changed(FLAT, data=[[[[[0]] * 16] * 16] * 3]), b""),
    "binary NaN": ({"inputs": [PIXELS]}, numpy.full(768, numpy.nan, "<f4").tobytes()),
    "binary infinity": ({"inputs": [PIXELS]}, numpy.full(768, numpy.inf, "<f4").tobytes()),
    "normalised already": ({"inputs": [PIXELS]}, numpy.full(768, -1.5, "<f4").tobytes()),
    "pixels cut": (sized(PIXELS, 3068), PIXEL_DATA[:-4]),
    "size too large": (sized(IMAGE, len(IMAGE_DATA) + 1), IMAGE_DATA),
    "size too small": (sized(IMAGE, len(IMAGE_DATA) - 1), IMAGE_DATA),
    "size negative": (sized(IMAGE, -1), IMAGE_DATA),
    "size huge": (sized(IMAGE, 2**63 - 1), IMAGE_DATA),
    "size is a text": (sized(IMAGE, "9"), IMAGE_DATA),
    "size and data": (changed(IMAGE, data=["eA=="]), IMAGE_DATA),
    "bytes nobody owns": ({"inputs": [FLAT]}, b"abc"),
    "element length lies": (sized(IMAGE, 8), b"\xff\xff\xff\xff1234"),
    "element length cut": (sized(IMAGE, 3), b"\1\0\0"),
    "two elements of one": (sized(IMAGE, 2 * len(IMAGE_DATA)), 2 * IMAGE_DATA),
    "image shape": (changed(IMAGE, shape=[1, 2]), IMAGE_DATA),
    "shared memory": (changed(IMAGE, parameters={"shared_memory_region": "r"}), b""),
    "not base64": (changed(IMAGE, parameters={}, data=["*"]), b""),
    "number for base64": (changed(IMAGE, parameters={}, data=[1]), b""),
    "outputs no list": ({"inputs": [FLAT], "outputs": {}}, b""),
    "unknown output": ({"inputs": [FLAT], "outputs": [{"name": "scores"}]}, b""),
    "output without name": ({"inputs": [FLAT], "outputs": [{}]}, b""),
    "output twice": ({"inputs": [FLAT], "outputs": [{"name": "label"}] * 2}, b""),
    "classes of a label": ({"inputs": [FLAT], "outputs": [{"name": "label", "parameters": {"classification": 2}}]}, b""),
    "negative classes": ({"inputs": [FLAT], "outputs": [{"name": "logits", "parameters": {"classification": -2}}]}, b""),
    "binary maybe": ({"inputs": [FLAT], "parameters": {"binary_data_output": "yes"}}, b""),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_request(learned, case):
    request, binary = BAD[case]
    assert len(learned.refused(post(learned, request, binary), 400, "bad_request")) > 10


@pytest.mark.parametrize("value", ["x", "-1", "1e3", "", "99999999999999999999", "1 2", "100000"])
def test_bad_header_length(learned, value):
    reply = learned.post(INFER, data=json.dumps({"inputs": [FLAT]}), headers={"Inference-Header-Content-Length": value})
    learned.refused(reply, 400, "bad_request")


def test_bad_images(learned):
    for data, code in ((b"text", "unknown_format"), (PNG[:-9], "damaged_image"), (b"", "empty_file")):
        tensor, binary = image_tensor(PNG, data)
        assert "Element 1" in learned.refused(post(learned, {"inputs": [tensor]}, binary), 400, code)


def test_compressed_body(learned):
    reply = learned.post(INFER, data=b"x", headers={"Content-Encoding": "gzip"})
    learned.refused(reply, 415, "unsupported_encoding")


def test_body_over_the_limit(learned):
    reply = requests.post(learned.daemon.url + INFER, data=bytes((17 << 20)), timeout=60)
    assert (reply.status_code, reply.headers["Content-Type"]) == (413, "application/json")
