"""Models leave as ONNX and safetensors files and come back: judged by onnx's checker, OpenCV and a reader in numpy, none of
which knows accreted. (Logits, to 1e-4 over 1,000 images: tests/unit/server/test_export.c.)"""

import concurrent.futures
import json
import math

import cv2
import numpy
import onnx
import pytest
import requests

import images
from conftest import Client, Started, wait_for

FIRST, SECOND = ["red", "green", "violet"], ["blue", "yellow"]
TINY = {"epochs": 6, "batch": 32, "lr": 0.02, "lr_later": 0.05, "flip": False, "pad": 2,
        "prune": {"keep": 0.5, "epochs": 1}}
MODELS = "/api/v1/models"


@pytest.fixture(scope="module")
def learned(module_daemon):
    """A client of a daemon with two versions, which look at mirror images too; tests may read."""
    api = Client(module_daemon)
    for name, labels, classifier in (("one", FIRST, "head"), ("two", SECOND, "discriminant")):
        api.upload(name, images.tar(labels, range(40)))
        api.learn(name, **{**TINY, "flip": True}, classifier=classifier, **({"depth": 8} if name == "one" else {}))
    return api


@pytest.fixture(scope="module")
def empty(tmp_path_factory):
    """A client of a daemon that must stay as it is: without a model."""
    started = Started()
    yield Client(started.start(tmp_path_factory.mktemp("empty") / "data"))
    started.end()


def export(api, version, **query):
    reply = api.get(f"{MODELS}/{version}/export", params=query)
    assert reply.status_code == 200, reply.text
    return reply


def scores(api, image, **query):
    """Probability by class name, as predict answers."""
    return {p["class"]: p["score"] for p in api.predict(image, top=100, **query)["predictions"]}


def samples(count=6):
    return [(label, seed) for label in FIRST + SECOND for seed in range(2000, 2000 + count)]


# ---- safetensors in numpy ----

def read_safetensors(data):
    """(metadata, name -> array), nothing skipped and nothing left over."""
    size = int.from_bytes(data[:8], "little")
    header = json.loads(data[8:8 + size])
    metadata, body = header.pop("__metadata__"), data[8 + size:]
    assert sorted(e for t in header.values() for e in t["data_offsets"])[-1] == len(body)
    return metadata, {
        name: numpy.frombuffer(body[slice(*t["data_offsets"])], {"F32": "<f4"}[t["dtype"]]).reshape(t["shape"])
        for name, t in header.items()}


def write_safetensors(metadata, tensors, order=None):
    header, body = {"__metadata__": metadata}, b""
    for name in order or tensors:
        data = tensors[name].astype("<f4").tobytes()
        header[name] = {"dtype": "F32", "shape": list(tensors[name].shape),
                        "data_offsets": [len(body), len(body) + len(data)]}
        body += data
    return join(header, body)


def join(header, body):
    text = json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + body


def split(data):
    size = int.from_bytes(data[:8], "little")
    return json.loads(data[8:8 + size]), data[8 + size:]


def convolve(x, t, conv, norm, stride=1):
    """(C,H,W) through a 3x3 convolution and its batch norm."""
    windows = numpy.lib.stride_tricks.sliding_window_view(numpy.pad(x, ((0, 0), (1, 1), (1, 1))), (3, 3), axis=(1, 2))
    y = numpy.einsum("ihwkl,oikl->ohw", windows[:, ::stride, ::stride], t[conv + ".weight"])
    gamma, beta, mean, var = (t[f"{norm}.{part}"][:, None, None] for part in ("gamma", "beta", "mean", "var"))
    return (y - mean) / numpy.sqrt(var + 1e-5) * gamma + beta


def network(metadata, t, pixels, prefix=""):
    """Features of one image (H,W,C) of bytes, by the network whose names begin so."""
    t = {name.removeprefix(prefix): values for name, values in t.items() if name.startswith(prefix)}
    mean, std = (numpy.array(json.loads(metadata[key])) for key in ("mean", "std"))
    x = ((pixels / 255 - mean) / std).transpose(2, 0, 1)
    x = convolve(x, t, "stem.conv1", "stem.bn1").clip(0)
    for stage in range(1, 4):
        for block in range(json.loads(metadata["spec"])["blocks"]):
            place, stride = f"stage{stage}.block{block}", 2 if stage > 1 and block == 0 else 1
            y = convolve(x, t, place + ".conv1", place + ".bn1", stride).clip(0)
            y = convolve(y, t, place + ".conv2", place + ".bn2")
            x = x[:, ::stride, ::stride]
            more = (len(y) - len(x)) // 2
            x = (y + numpy.pad(x, ((more, more), (0, 0), (0, 0)))).clip(0)
    return x.mean((1, 2))


def network_features(metadata, t, pixels, prefix=""):
    """What a classifier sees of one network."""
    features = network(metadata, t, pixels, prefix)
    if metadata.get("mirrored") == "true":
        features = (features + network(metadata, t, pixels[:, ::-1], prefix)) / 2
    return features


def forward(metadata, t, pixels, experts=True):
    """Probabilities of one image (H,W,C) of bytes, with the experts or by the network alone."""
    features = network_features(metadata, t, pixels)
    logits = t["head.weight"] @ features + t["head.bias"]
    count = int(metadata.get("experts", 0)) if experts else 0
    prefix = "experts." if count else ""
    prototypes, covariance = t[prefix + "prototypes"], t[prefix + "covariance"]
    each = [network_features(metadata, t, pixels, f"expert{i}.") for i in range(1, count + 1)] + [features]
    raised = [part ** float(metadata.get("feature_power", 1)) for part in each]
    features = numpy.concatenate([part / numpy.linalg.norm(part) for part in raised])
    if metadata["classifier"] == "prototypes":
        logits = prototypes @ features / numpy.linalg.norm(prototypes, axis=1)
    if metadata["classifier"] == "discriminant":
        width = len(features)
        square = numpy.zeros((width, width))
        square[numpy.tril_indices(width)] = covariance
        square += numpy.tril(square, -1).T
        shrunk = 0.9 * square + 0.1 * numpy.trace(square) / width * numpy.eye(width)
        rows = numpy.linalg.solve(shrunk, prototypes.T).T
        logits = rows @ features - (rows * prototypes).sum(1) / 2
    e = numpy.exp(float(metadata["score_scale"]) * (logits - logits.max()))
    return dict(zip(json.loads(metadata["labels"]), e / e.sum()))


def make_file(classes=2, sizes=(16, 16), channels=3, **changes):
    """A file that never was a model of accreted: ResNet-8, every number chosen here."""
    rng = numpy.random.default_rng(4)
    spec = {"blocks": 1, "channels": channels, "height": sizes[0], "width": sizes[1], "classes": classes}
    metadata = {"accreted_format": "1", "spec": json.dumps(spec), "mean": json.dumps([0.5] * channels),
                "std": json.dumps([0.25] * channels), "classifier": "head", "score_scale": "1.5",
                "labels": json.dumps([f"class {i}" for i in range(classes)])}
    metadata.update(changes)
    convolutions = {"stem.conv1": (16, channels)}
    for stage, (before, after) in enumerate(((16, 16), (16, 32), (32, 64)), 1):
        convolutions[f"stage{stage}.block0.conv1"] = (after, before)
        convolutions[f"stage{stage}.block0.conv2"] = (after, after)
    tensors = {}
    for name, (out, into) in convolutions.items():
        norm = name.replace("conv", "bn")
        tensors[name + ".weight"] = rng.normal(0, math.sqrt(2 / 9 / out), (out, into, 3, 3))
        tensors.update({f"{norm}.{part}": rng.uniform(low, 1.5, out)
                        for part, low in (("gamma", 0.5), ("beta", -0.5), ("mean", -0.5), ("var", 0.5))})
    for head, features in (("head", 64), ("aux1", 16), ("aux2", 32)):
        tensors[head + ".weight"] = rng.normal(0, 1, (classes, features))
        tensors[head + ".bias"] = rng.normal(0, 1, classes)
    prototypes = rng.normal(0, 1, (classes, 64))
    tensors["prototypes"] = prototypes / numpy.linalg.norm(prototypes, axis=1, keepdims=True)
    spread = rng.normal(0, 0.1, (200, 64)) * numpy.linspace(0.5, 2, 64)
    tensors["covariance"] = (spread.T @ spread / 200)[numpy.tril_indices(64)]
    return metadata, tensors


def load(api, data, **query):
    return api.post(MODELS, data=data, params={"format": "safetensors", **query})


# ---- export ----

@pytest.mark.parametrize("version", [1, 2])
def test_onnx_answers_as_predict_does(learned, version):
    reply = export(learned, version)
    assert reply.headers["Content-Disposition"] == f'attachment; filename="accreted-v{version}.onnx"'
    assert reply.content == export(learned, version, format="onnx").content
    model = onnx.load_from_string(reply.content)
    onnx.checker.check_model(model, full_check=True)
    metadata = {p.key: p.value for p in model.metadata_props}
    labels = json.loads(metadata["labels"])
    assert labels == (FIRST if version == 1 else FIRST + SECOND)
    assert json.loads(metadata["steps"]) == [3, 5][:version]
    assert (metadata["version"], metadata["weights"]) == (str(version), "snapshot" if version == 1 else "dense")
    assert metadata["classifier"] == ("head" if version == 1 else "discriminant")
    assert "licence" in metadata and "0 to 255" in metadata["input"]

    net = cv2.dnn.readNetFromONNX(numpy.frombuffer(reply.content, numpy.uint8))
    pixels = numpy.stack([images.pixels(*sample) for sample in samples()])
    net.setInput(numpy.ascontiguousarray(pixels.transpose(0, 3, 1, 2), numpy.float32), "image")
    for row, sample in zip(net.forward("probabilities"), samples()):
        answer = scores(learned, images.png(*sample), model=version)
        assert list(row) == pytest.approx([answer[label] for label in labels], abs=1e-4)


@pytest.mark.parametrize("version", [1, 2])
def test_safetensors_in_numpy_answers_as_predict_does(learned, version):
    reply = export(learned, version, format="safetensors")
    assert reply.headers["Content-Disposition"] == f'attachment; filename="accreted-v{version}.safetensors"'
    metadata, tensors = read_safetensors(reply.content)
    assert metadata["format"] == "pt" and metadata["arch"] == "cifar-resnet-8"
    assert (metadata["experts"], metadata["mirrored"], float(metadata["feature_power"])) == (str(version - 1), "true", pytest.approx(0.7))
    for sample in samples(3):
        ours = forward(metadata, tensors, images.pixels(*sample))
        assert ours == pytest.approx(scores(learned, images.png(*sample), model=version), abs=1e-4)


def test_etag_spares_the_download(learned):
    url = f"{learned.daemon.url}{MODELS}/2/export"
    etag = requests.get(url).headers["ETag"]
    assert etag.startswith('"') and etag != requests.get(url, params={"format": "safetensors"}).headers["ETag"]
    for condition in (etag, f'"other", {etag}', "W/" + etag, "*"):
        reply = requests.get(url, headers={"If-None-Match": condition})
        assert (reply.status_code, reply.content, reply.headers["ETag"]) == (304, b"", etag)
    reply = requests.get(url, headers={"If-None-Match": '"other"'})
    assert (reply.status_code, reply.headers["ETag"]) == (200, etag)


def test_earlier_version_is_rebuilt_from_its_snapshot(learned):
    assert not (learned.daemon.data_dir / "models" / "1").exists()
    dense = read_safetensors(export(learned, 2, format="safetensors").content)[1]
    metadata, tensors = read_safetensors(export(learned, 1, format="safetensors").content)
    model = onnx.load_from_string(export(learned, 1).content)
    assert metadata["weights"] == "snapshot"
    assert {p.key: p.value for p in model.metadata_props}["weights"] == "snapshot"
    onnx.checker.check_model(model, full_check=True)
    weight = "stage2.block0.conv2.weight"
    assert (tensors[weight] == 0).mean() == pytest.approx(0.5, abs=0.01) and (dense[weight] == 0).mean() < 0.01


def test_export_refusals(learned, empty):
    learned.refused(learned.get(f"{MODELS}/3/export"), 404, "model_not_found")
    learned.refused(learned.get(f"{MODELS}/x/export"), 404, "model_not_found")
    learned.refused(learned.get(f"{MODELS}/1/export", params={"format": "pickle"}), 400, "bad_query")
    empty.refused(empty.get(f"{MODELS}/1/export"), 404, "model_not_found")


def test_a_damaged_model_is_no_export(start_daemon, tmp_path):
    daemon = start_daemon(tmp_path / "data")
    api = Client(daemon)
    assert load(api, write_safetensors(*make_file())).status_code == 201
    path = daemon.data_dir / "models" / "1"
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    assert "backup" in api.refused(api.get(f"{MODELS}/1/export"), 500, "model_unreadable")


# ---- import ----

def test_import_takes_the_network_and_learns_on(learned, start_daemon, tmp_path):
    """It answers as the file's network does alone: the experts of the version it comes from are snapshots, which stay behind."""
    data = export(learned, 2, format="safetensors").content
    daemon = start_daemon(tmp_path / "other")
    api = Client(daemon)
    reply = load(api, data)
    assert (reply.status_code, reply.headers["Location"]) == (201, MODELS + "/1")
    model = reply.json()
    assert (model["version"], model["step"], model["parent"], model["active"]) == (1, 1, None, True)
    assert (model["class_names"], model["accuracy"]) == (FIRST + SECOND, None)
    assert model == api.get(MODELS + "/1").json()

    metadata, tensors = read_safetensors(data)
    own = {name: values for name, values in tensors.items() if not name.startswith("expert")}
    assert len(own) < len(tensors)

    def same():
        for sample in samples(2):
            ours = forward(metadata, tensors, images.pixels(*sample), experts=False)
            assert ours == pytest.approx(scores(api, images.png(*sample)), abs=1e-4)
        again = read_safetensors(export(api, 1, format="safetensors").content)[1]
        assert sorted(again) == sorted(own)
        assert all(numpy.array_equal(again[name], own[name]) for name in own)

    same()
    daemon.stop()
    daemon.start()
    same()
    job = api.get("/api/v1/jobs").json()["jobs"][0]
    assert (job["state"], job["batches"], job["version"]) == ("succeeded", [], 1)
    assert (job["options"]["depth"], job["options"]["input"]) == (8, {"channels": 3, "height": 16, "width": 16})
    assert (job["options"]["mirror"], job["options"]["feature_power"]) == (True, pytest.approx(0.7))
    snapshot = api.get("/api/v1/snapshots").json()["snapshots"][0]
    assert snapshot["sparsity"] == 0 and snapshot["bytes"] < 0.6 * snapshot["dense_bytes"]

    new = [label for label in images.COLOURS if label not in FIRST + SECOND][0]
    api.upload("more", images.tar([new], range(40)))
    assert api.learn("more", **TINY)["version"] == 2
    grown = api.get(MODELS + "/2").json()
    assert (grown["step"], grown["parent"], grown["class_names"]) == (2, 1, FIRST + SECOND + [new])
    api.refused(load(api, data), 409, "already_initialised")
    wait_for(lambda: not list((daemon.data_dir / "tmp").iterdir()), 5, "an empty tmp")


@pytest.mark.parametrize("channels, sizes, says", [
    (1, (28, 28), {}),
    (3, (9, 14), {"mirrored": "true"}),
    (3, (9, 14), {"mirrored": "false", "classifier": "discriminant", "feature_power": "0.5"}),
])
def test_import_of_weights_made_elsewhere(api, channels, sizes, says):
    metadata, tensors = make_file(4, sizes, channels, **says)
    assert load(api, write_safetensors(metadata, tensors, sorted(tensors, reverse=True))).status_code == 201
    tensors = {name: value.astype("<f4") for name, value in tensors.items()}
    rng = numpy.random.default_rng(1)
    for _ in range(5):
        pixels = rng.integers(0, 256, (*sizes, channels), dtype=numpy.uint8)
        answer = scores(api, images.encode(pixels if channels == 3 else pixels[:, :, 0]))
        assert answer == pytest.approx(forward(metadata, tensors, pixels), abs=1e-4)


def test_of_two_imports_at_once_one_stands(daemon, api):
    files = [write_safetensors(*make_file(2, score_scale=str(scale))) for scale in range(1, 5)]
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        replies = list(pool.map(lambda data: load(api, data), files))
    assert sorted(r.status_code for r in replies) == [201, 409, 409, 409]
    winner = [r.status_code for r in replies].index(201)
    assert read_safetensors(export(api, 1, format="safetensors").content)[0]["score_scale"] == str(winner + 1)
    assert len(api.get(MODELS).json()["models"]) == len(api.get("/api/v1/jobs").json()["jobs"]) == 1
    assert [p.name for p in (daemon.data_dir / "models").iterdir()] == ["1"]


def test_no_import_beside_a_job(api):
    api.upload("one", images.tar(FIRST, range(40)))
    job = api.train("one", **{**TINY, "epochs": 5000}, depth=8)
    api.refused(load(api, write_safetensors(*make_file())), 409, "jobs_open")
    api.post(f"/api/v1/jobs/{job['id']}/cancel")
    api.wait(job["id"])
    assert load(api, write_safetensors(*make_file())).status_code == 201


def edit(change):
    """The valid file after change(header, body), which returns the new body or None."""
    header, body = split(write_safetensors(*make_file()))
    body = change(header, bytearray(body)) or body
    return join(header, bytes(body))


def metadata_edit(**changes):
    return edit(lambda header, body: header["__metadata__"].update(changes))


def tensor_edit(name="head.bias", **changes):
    return edit(lambda header, body: header[name].update(changes))


def spec_edit(**changes):
    spec = {"blocks": 1, "channels": 3, "height": 16, "width": 16, "classes": 2, **changes}
    return metadata_edit(spec=json.dumps(spec))


def overlapping(header, body):
    header["aux1.bias"]["data_offsets"] = header["head.bias"]["data_offsets"]


def missing(header, body):
    del header["aux2.bias"]


def with_number(value, tensor="stem.conv1.weight"):
    def change(header, body):
        at = header[tensor]["data_offsets"][0]
        body[at:at + 4] = numpy.float32(value).tobytes()
        return body
    return change


WHOLE = write_safetensors(*make_file())
REFUSED = {
    "two bytes": (b"{}", "shorter"),
    "no JSON": ((4).to_bytes(8, "little") + b"nope" + bytes(64), "JSON"),
    "a list": (join([], b""), "JSON object"),
    "huge header": ((1 << 62).to_bytes(8, "little") + WHOLE[8:], "longer"),
    "negative header": (b"\xff" * 8 + WHOLE[8:], "longer"),
    "header over 4 MiB": (join({"x": "y" * (1 << 22)}, b""), "4 MiB"),
    "twice the same key": ((24).to_bytes(8, "little") + b'{"a":{},"a":{},"b":{} } ', "JSON"),
    "no metadata": (edit(lambda header, body: header.pop("__metadata__") and None), "accreted_format"),
    "metadata a list": (edit(lambda header, body: header.update(__metadata__=[])), "accreted_format"),
    "another format": (metadata_edit(accreted_format="2"), "accreted_format"),
    "no spec": (metadata_edit(spec=""), "spec"),
    "no blocks": (spec_edit(blocks=0), "spec"),
    "blocks beyond int": (spec_edit(blocks=(1 << 32) + 1), "spec"),
    "two channels": (spec_edit(channels=2), "spec"),
    "too high": (spec_edit(height=513), "spec"),
    "half a class": (spec_edit(classes=1.5), "spec"),
    "too many classes": (spec_edit(classes=4097), "spec"),
    "mean of another image": (metadata_edit(mean="[0.5]"), "mean"),
    "mean not finite": (metadata_edit(mean="[1e999, 0, 0]"), "mean"),
    "std of zero": (metadata_edit(std="[1, 0, 1]"), "std"),
    "unknown classifier": (metadata_edit(classifier="forest"), "classifier"),
    "no scale": (metadata_edit(score_scale=""), "score_scale"),
    "scale of zero": (metadata_edit(score_scale="0"), "score_scale"),
    "scale not a number": (metadata_edit(score_scale="1.5x"), "score_scale"),
    "infinite scale": (metadata_edit(score_scale="inf"), "score_scale"),
    "power too small": (metadata_edit(feature_power="0.05"), "feature_power"),
    "power a JSON number": (metadata_edit(feature_power=0.5), "feature_power"),
    "mirrored a JSON boolean": (metadata_edit(mirrored=True), "mirrored"),
    "power not a number": (metadata_edit(feature_power="1/2"), "feature_power"),
    "power over one": (metadata_edit(feature_power="1.01"), "feature_power"),
    "mirrored neither": (metadata_edit(mirrored="yes"), "mirrored"),
    "one label": (metadata_edit(labels='["a"]'), "labels"),
    "equal labels": (metadata_edit(labels='["a", "a"]'), "labels"),
    "label no text": (metadata_edit(labels='["a", 2]'), "labels"),
    "label a path": (metadata_edit(labels='["a", "../b"]'), "labels"),
    "tensor missing": (edit(missing), "no tensor"),
    "tensor renamed": (edit(lambda h, body: h.update({"neck.bias": h.pop("head.bias")})), "head.bias"),
    "tensor too many": (edit(lambda h, body: h.update(more=h["head.bias"])), "entries"),
    "half precision": (tensor_edit(dtype="F16"), "F32"),
    "dtype a number": (tensor_edit(dtype=32), "F32"),
    "tensor a number": (edit(lambda h, body: h.update({"head.bias": 1})), "head.bias"),
    "other shape": (tensor_edit(shape=[1, 2]), "shape"),
    "layout of memory": (tensor_edit("stem.conv1.weight", shape=[3, 3, 3, 16]), "shape"),
    "dimension beyond int": (tensor_edit(shape=[(1 << 32) + 2]), "shape"),
    "no offsets": (tensor_edit(data_offsets=[]), "data_offsets"),
    "offsets reversed": (tensor_edit(data_offsets=[8, 0]), "data_offsets"),
    "offset negative": (tensor_edit(data_offsets=[-8, 0]), "data_offsets"),
    "offset beyond the file": (tensor_edit(data_offsets=[1 << 40, (1 << 40) + 8]), "data_offsets"),
    "offset overflowing": (tensor_edit(data_offsets=[(1 << 63) - 8, (1 << 63) - 1]), "data_offsets"),
    "offsets too near": (tensor_edit(data_offsets=[0, 4]), "data_offsets"),
    "overlap": (edit(overlapping), "overlap"),
    "bytes left over": (WHOLE + b"more", "after"),
    "cut short": (WHOLE[:-4], "data_offsets"),
    "not a number": (edit(with_number(math.nan)), "not finite"),
    "infinite": (edit(with_number(-math.inf)), "not finite"),
    "negative variance": (edit(with_number(-1, "stem.bn1.var")), "negative variance"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_import_refuses(empty, case):
    data, word = REFUSED[case]
    assert word in empty.refused(load(empty, data), 422, "bad_safetensors")
    assert empty.get(MODELS).json()["models"] == [] and empty.get("/api/v1/jobs").json()["jobs"] == []
    assert list((empty.daemon.data_dir / "models").iterdir()) == []


def test_import_refuses_what_is_no_file(empty):
    empty.refused(load(empty, b""), 400, "empty_body")
    empty.refused(empty.post(MODELS, data=WHOLE), 400, "bad_query")
    empty.refused(load(empty, WHOLE, format="onnx"), 400, "bad_query")
