"""Predictions: what may be asked for, older versions, several images at once, many clients at once."""

import concurrent.futures
import socket

import numpy
import pytest
import requests

import images
from conftest import Client, wait_for

# By cosines: a discriminant is certain of images as plain as these, and its probabilities are then 0 and 1.
TINY = {"depth": 8, "epochs": 16, "batch": 32, "lr": 0.05, "flip": False, "pad": 2, "prune": {"keep": 0.5, "epochs": 1},
        "classifier": "prototypes"}
FIRST, SECOND = ["red", "green"], ["blue", "yellow"]
PREDICT = "/api/v1/predict"


def learn_both(api):
    """By one network each, which is not as sure of itself as several are."""
    for name, labels in (("one", FIRST), ("two", SECOND)):
        api.upload(name, images.tar(labels, range(60)))
        api.learn(name, **{k: v for k, v in TINY.items() if name == "one" or k != "depth"}, experts=0)


@pytest.fixture(scope="module")
def learned(module_daemon):
    api = Client(module_daemon)
    learn_both(api)
    return api


def scores(answer):
    return {p["class"]: p["score"] for p in answer["predictions"]}


# ---- what may be asked for ----

def test_threshold(learned):
    image = images.png("blue", 2000)
    plain = learned.predict(image)
    assert "none_of_these" not in plain
    best = plain["predictions"][0]["score"]
    assert 0.3 < best < 1
    for threshold, none in ((0, False), (best - 1e-5, False), (best + 1e-5, True), (1, True)):
        answer = learned.predict(image, threshold=f"{threshold:.9f}")
        assert answer["none_of_these"] is none
        assert answer["predictions"] == plain["predictions"]


def test_features_are_unit_vectors_that_tell_classes_apart(learned):
    assert "features" not in learned.predict(images.png("red", 1))
    rows = {label: numpy.array([learned.predict(images.png(label, seed), features=1)["features"]
                                for seed in range(2000, 2006)]) for label in FIRST + SECOND}
    alike = {(a, b): (rows[a] @ rows[b].T).mean() for a in rows for b in rows}
    assert all(numpy.linalg.norm(v, axis=1) == pytest.approx(1, abs=1e-5) for v in rows.values())
    assert numpy.mean([alike[a, a] for a in rows]) > numpy.mean([alike[a, b] for a in rows for b in rows if a != b]) + 0.05


def test_top(learned):
    image = images.png("red", 5)
    assert len(learned.predict(image, top=1)["predictions"]) == 1
    everything = learned.predict(image, top=100)
    assert set(scores(everything)) == set(FIRST + SECOND)
    assert sum(scores(everything).values()) == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize("query", ["top=0", "top=101", "top=x", "top=", "threshold=1.1", "threshold=-0.1",
                                   "threshold=nan", "threshold=0x1p-1", "threshold=.", "features=2", "features=yes",
                                   "model=0", "model=x", "model=1.5", "model=-1"])
def test_bad_query(learned, query):
    reply = learned.post(PREDICT + "?" + query, data=images.png("red", 1))
    assert query.partition("=")[0] in learned.refused(reply, 400, "bad_parameter")


# ---- older versions ----

def test_older_version(learned):
    image = images.png("yellow", 2001)
    old = learned.predict(image, model=1)
    assert old["model"] == 1
    assert set(scores(old)) == set(FIRST)
    assert learned.predict(image, model=2)["predictions"] == learned.predict(image)["predictions"]
    learned.refused(learned.post(PREDICT, params={"model": 3}, data=image), 404, "unknown_version")


def test_older_version_from_its_snapshot(start_daemon, tmp_path):
    daemon = start_daemon(tmp_path / "data")
    api = Client(daemon)
    learn_both(api)
    assert not (daemon.data_dir / "models" / "1").exists()
    for label in FIRST:
        for seed in range(2000, 2004):
            answer = api.predict(images.png(label, seed), model=1)
            assert (answer["model"], answer["predictions"][0]["class"]) == (1, label)
    snapshot = daemon.data_dir / "snapshots" / "1"
    snapshot.write_bytes(snapshot.read_bytes()[:-1])
    assert api.predict(images.png("red", 2000), model=1)["model"] == 1  # kept in memory
    daemon.stop()
    daemon.start()
    reply = api.post(PREDICT, params={"model": 1}, data=images.png("red", 1))
    api.refused(reply, 500, "model_unreadable")
    assert api.predict(images.png("red", 1))["model"] == 2


# ---- several images ----

def parts(*files):
    return [("image", file) for file in files]


def test_several_images(learned):
    files = [(f"{label}.png", images.png(label, 2002)) for label in FIRST + SECOND]
    reply = learned.post(PREDICT, files=parts(*files, ("text.png", b"hello"), ("cut.png", files[0][1][:-9]),
                                              ("j.jpg", images.jpeg("blue", 2003))),
                         params={"threshold": "0.05", "features": "1", "top": "2"})
    assert reply.status_code == 200, reply.text
    results = reply.json()["results"]
    assert [r["file"] for r in results] == [name for name, _ in files] + ["text.png", "cut.png", "j.jpg"]
    assert [r["error"]["code"] for r in results[4:6]] == ["unknown_format", "damaged_image"]
    for result, image in zip(results[:4] + results[6:], [image for _, image in files] + [images.jpeg("blue", 2003)]):
        alone = learned.predict(image, threshold="0.05", features=1, top=2)
        assert [p["class"] for p in result["predictions"]] == [p["class"] for p in alone["predictions"]]
        assert scores(result) == pytest.approx(scores(alone), abs=1e-4)
        assert result["features"] == pytest.approx(alone["features"], abs=1e-4)
        assert result["none_of_these"] is False


def test_one_part_answers_as_one_image(learned):
    image = images.png("green", 7)
    reply = learned.post(PREDICT, files=parts(("g.png", image)))
    assert reply.json()["predictions"] == learned.predict(image)["predictions"]
    learned.refused(learned.post(PREDICT, files=parts(("g.png", b"hello"))), 415, "unknown_format")


def test_only_bad_images(learned):
    reply = learned.post(PREDICT, files=parts(("a", b"x"), ("b", b"y")))
    assert [r["error"]["code"] for r in reply.json()["results"]] == ["unknown_format"] * 2


def test_limit_of_images(learned):
    image = images.png("red", 1)
    assert len(learned.post(PREDICT, files=parts(*[("i", image)] * 32)).json()["results"]) == 32
    learned.refused(learned.post(PREDICT, files=parts(*[("i", image)] * 33)), 400, "bad_multipart")
    learned.refused(learned.post(PREDICT, files=[("other", ("i", image))]), 400, "bad_multipart")


# ---- many clients ----

def test_clients_at_once_get_their_own_answers(learned):
    sent = [images.png(label, seed) for label in FIRST + SECOND for seed in range(3000, 3010)]
    alone = [scores(learned.predict(image)) for image in sent]

    def client(first):
        with requests.Session() as session:
            return [(i, session.post(learned.daemon.url + PREDICT, data=sent[i], timeout=60).json())
                    for i in [*range(first, len(sent)), *range(first)]]

    with concurrent.futures.ThreadPoolExecutor(12) as pool:
        for answers in pool.map(client, range(12)):
            for i, answer in answers:
                assert scores(answer) == pytest.approx(alone[i], abs=1e-4)


def test_overload_is_answered(learned):
    """All requests become whole in one moment, and each has eight images to decode."""
    boundary = b"--X\r\n"
    big = images.encode(numpy.random.default_rng(1).integers(0, 256, (300, 300, 3), dtype=numpy.uint8), "JPEG")
    body = b"".join(boundary + b'Content-Disposition: form-data; name="image"; filename="a"\r\n\r\n' + big + b"\r\n"
                    for _ in range(8)) + b"--X--\r\n"
    head = (f"POST {PREDICT} HTTP/1.1\r\nHost: localhost\r\nContent-Type: multipart/form-data; boundary=X\r\n"
            f"Content-Length: {len(body)}\r\nConnection: close\r\n\r\n").encode()
    sockets = [socket.create_connection(("127.0.0.1", learned.daemon.port), timeout=60) for _ in range(200)]
    for s in sockets:
        s.sendall(head + body[:-1])
    for s in sockets:
        s.sendall(body[-1:])
    replies = []
    for s in sockets:
        with s, s.makefile("rb") as stream:
            replies.append(stream.read())
    codes = [int(r.split()[1]) for r in replies]
    assert set(codes) == {200, 429}
    assert codes.count(200) >= 128
    refused = replies[codes.index(429)]
    assert b"Retry-After: 1\r\n" in refused
    assert b'"code":"overloaded"' in refused and b'"retryable":true' in refused
    assert learned.predict(images.png("red", 1))["model"] == 2


def test_uploads_leave_room(learned):
    """However many are being checked, predictions, exports and other uploads' bytes find a thread."""
    slow, quick = images.slow_tar(30, 3000), images.slow_tar(1, 3000)
    tmp = learned.daemon.data_dir / "tmp"

    def upload(i):
        return learned.put(f"/api/v1/batches/slow-{i}", data=slow if i < 3 else quick, params={"dry_run": 1 - i % 2})
    with concurrent.futures.ThreadPoolExecutor(12) as pool:
        uploads = [pool.submit(upload, i) for i in range(3)]
        wait_for(lambda: len(list(tmp.glob("ingest-*.stage"))) == len(uploads))
        uploads += [pool.submit(upload, i) for i in range(3, 12)]
        wait_for(lambda: sum(p.stat().st_size in (len(slow), len(quick)) for p in tmp.glob("upload-*")) == len(uploads))
        learned.predict(images.png("red", 2000))
        assert learned.get("/api/v1/models/1/export").status_code == 200
        assert not any(upload.done() for upload in uploads)
        assert [upload.result().status_code for upload in uploads] == [200, 201] * 6
    for i in range(1, 12, 2):
        learned.delete(f"/api/v1/batches/slow-{i}")


def test_nothing_learned_yet(api):
    api.refused(api.post(PREDICT, data=images.png("red", 1)), 503, "no_model")
    api.refused(api.post(PREDICT, params={"model": 1}, data=images.png("red", 1)), 404, "unknown_version")
