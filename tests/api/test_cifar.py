"""CIFAR binary files as one body: by PUT and POST, plain and compressed, chosen classes, and each bad one refused."""

import gzip
import lzma
import subprocess

import numpy
import pytest

import images

BATCHES = "/api/v1/batches"


def cifar(labels, coarse=None, seed=0):
    """Records of these labels, each with pixels of its own; with `coarse` in the form of CIFAR-100."""
    rng = numpy.random.default_rng(seed)
    head = bytes([coarse]) if coarse is not None else b""
    return b"".join(head + bytes([label]) + rng.integers(0, 256, 3072, dtype=numpy.uint8).tobytes() for label in labels)


def counts(batch):
    return {c["name"]: (c["train_images"], c["test_images"]) for c in batch["classes"]}


def zstd(data):
    return subprocess.run(["zstd", "-c"], input=data, capture_output=True, check=True).stdout


@pytest.mark.parametrize("pack", [bytes, gzip.compress, lzma.compress, zstd], ids=["plain", "gzip", "xz", "zstd"])
@pytest.mark.parametrize("coarse", [None, 7], ids=["cifar10", "cifar100"])
def test_put(api, pack, coarse):
    body = pack(cifar([3, 1, 3, 9], coarse))
    batch = api.upload("week", body)
    assert list(counts(batch).items()) == [("1", (1, 0)), ("3", (2, 0)), ("9", (1, 0))]
    assert api.put(BATCHES + "/week", data=body).status_code == 200
    assert api.put(BATCHES + "/week", data=cifar([3, 1, 3, 9], coarse)).status_code == 200  # the same content
    other = cifar([3, 1, 3, 9], coarse, seed=1)
    api.refused(api.put(BATCHES + "/week", data=other), 409, "batch_exists")


def test_post_of_chosen_classes_as_test_images(api):
    query = {"classes": "99,5", "names": "worm,bed", "split": "test", "format": "cifar100"}
    reply = api.post(BATCHES, params=query, data=lzma.compress(cifar([5, 99, 5, 0, 42], coarse=0)))
    assert reply.status_code == 201, reply.text
    assert list(counts(reply.json()).items()) == [("worm", (0, 1)), ("bed", (0, 2))]
    assert api.get(reply.headers["Location"]).json() == reply.json()


def test_learned_and_asked(api):
    """Planes become colours: classes that differ in their colour alone are told apart."""
    rng = numpy.random.default_rng(5)

    def record(label):
        planes = rng.integers(0, 40, (3, 32, 32)).astype(numpy.uint8)
        planes[label] += 200
        return bytes([label]) + planes.tobytes(), planes
    api.upload("colours", b"".join(record(i % 3)[0] for i in range(90)), names="red,green,blue")
    job = api.learn("colours", depth=8, epochs=8, batch=16, lr=0.02, prune={"epochs": 0})
    assert job["options"]["input"] == {"channels": 3, "height": 32, "width": 32}
    for label, name in enumerate(("red", "green", "blue")):
        picture = images.encode(record(label)[1].transpose(1, 2, 0))
        assert api.predict(picture)["predictions"][0]["class"] == name


REFUSALS = {
    "label": (cifar([1, 10]), {}, 422, "bad_cifar"),
    "fine label": (cifar([1, 100], coarse=0), {}, 422, "bad_cifar"),
    "coarse label": (cifar([1, 2], coarse=20), {}, 422, "bad_cifar"),
    "the other format": (cifar([1, 2]), {"format": "cifar100"}, 422, "bad_cifar"),
    "cut": (cifar([1, 2])[:-1], {"format": "cifar10"}, 422, "bad_cifar"),
    "cut, of any format": (cifar([1, 2])[:-1], {}, 415, "bad_archive"),
    "said to be tar": (cifar([1, 2]), {"format": "tar"}, 415, "bad_archive"),
    "cut gzip": (gzip.compress(cifar([1, 2]))[:-1], {"format": "cifar10"}, 422, "bad_cifar"),
    "bomb": (gzip.compress(bytes(3073 * 60000)), {"format": "cifar10"}, 422, "bad_cifar"),
    "unknown format": (cifar([1, 2]), {"format": "png"}, 400, "bad_query"),
    "classes": (cifar([1, 2]), {"classes": "1,x"}, 400, "bad_query"),
    "too few names": (cifar([1, 2]), {"names": "zero,one"}, 400, "bad_query"),
    "absent class": (cifar([1, 2]), {"classes": "1,7"}, 422, "empty_class"),
    "either format": (bytes(3073 * 3074), {}, 400, "ambiguous_format"),
}


@pytest.mark.parametrize("case", REFUSALS)
def test_bad_input_changes_nothing(api, case):
    body, query, status, code = REFUSALS[case]
    api.refused(api.put(BATCHES + "/bad", params=query, data=body), status, code)
    assert api.get(BATCHES).json()["batches"] == []


def test_format_is_for_single_bodies(api):
    reply = api.post(BATCHES, params={"format": "cifar10"}, files={"label": (None, "a"), "image": ("a.png", b"x")})
    api.refused(reply, 400, "bad_query")
