"""Classes: one by name, renamed wherever labels leave, retired for good; what is refused, and what a crash leaves."""

import concurrent.futures
import contextlib
import json
import os
import shutil
import sqlite3

import numpy
import pytest

import images
from conftest import Client, wait_for
from test_end_to_end import FIRST, LONG, SECOND, TINY, running, upload_step

CLASSES = "/api/v1/classes/"
KEEPS = {**TINY, "epochs": 8, "exemplars": {"total": 40}}
V2_BODY = {"inputs": [{"name": "pixels", "datatype": "FP32", "shape": [1, 3, 16, 16], "data": [0.0] * 768}],
           "outputs": [{"name": "logits", "parameters": {"classification": 10}}, {"name": "probabilities"}]}


def learn_two(api):
    upload_step(api, "one", FIRST)
    upload_step(api, "two", SECOND)
    api.learn("one", **KEEPS)
    api.learn("two", **{k: v for k, v in KEEPS.items() if k != "depth"})


def rename(api, old, new, **headers):
    return api.request("PATCH", CLASSES + old, json={"name": new}, headers=headers)


def retire(api, name, **headers):
    return api.delete(CLASSES + name, headers=headers)


def names(api):
    listed = api.get("/api/v1/classes").json()["classes"]
    assert [c["index"] for c in listed] == list(range(len(listed)))
    return [c["name"] for c in listed]


def exported(api, version):
    """Labels and tensors of a safetensors file."""
    data = api.get(f"/api/v1/models/{version}/export", params={"format": "safetensors"}).content
    size = int.from_bytes(data[:8], "little")
    header = json.loads(data[8:8 + size])
    tensors = {name: numpy.frombuffer(data[8 + size:][slice(*t["data_offsets"])], "<f4").reshape(t["shape"])
               for name, t in header.items() if name != "__metadata__"}
    return json.loads(header["__metadata__"]["labels"]), tensors


def answered(api, **query):
    """Every class that some image gets, of all its answers."""
    return {p["class"] for label in FIRST + SECOND
            for p in api.predict(images.png(label, 2000), top=10, **query)["predictions"]}


def v2_classes(api, version):
    reply = api.post(f"/v2/models/accreted/versions/{version}/infer", json=V2_BODY).json()
    first, second = reply["outputs"]
    assert len(second["data"]) == first["shape"][1] and sum(second["data"]) == pytest.approx(1, abs=1e-5)
    said = api.get(f"/v2/models/accreted/versions/{version}").json()["outputs"][0]["shape"]
    assert said == [-1, len(second["data"])]
    return {int(text.split(":")[1]): text.split(":")[2] for text in first["data"]}


def everywhere(api):
    """What each place calls the classes, by place."""
    history = api.get("/api/v1/history").json()
    assert len(history["confusion"]["counts"]) == len(history["confusion"]["classes"])
    models = {m["version"]: m for m in api.get("/api/v1/models").json()["models"]}
    assert all(m["classes"] == len(m["class_names"]) for m in models.values())
    return {"classes": names(api), "model 1": models[1]["class_names"], "model 2": models[2]["class_names"],
            "per class": [c["name"] for c in history["per_class"]], "confusion": history["confusion"]["classes"],
            "export 1": exported(api, 1)[0], "export 2": exported(api, 2)[0],
            "v2 1": [v2_classes(api, 1)[i] for i in sorted(v2_classes(api, 1))],
            "v2 2": [v2_classes(api, 2)[i] for i in sorted(v2_classes(api, 2))],
            "exemplars": [c["name"] for c in api.get("/api/v1/exemplars").json()["classes"]],
            "predictions": answered(api), "predictions of 1": answered(api, model=1)}


@pytest.fixture(scope="module")
def template(tmp_path_factory):
    """A data directory that has learned two steps, for each test to copy."""
    from conftest import Daemon
    daemon = Daemon(tmp_path_factory.mktemp("classes") / "data").start()
    learn_two(Client(daemon))
    daemon.stop()
    return daemon.data_dir


@pytest.fixture
def learned(template, tmp_path, start_daemon):
    shutil.copytree(template, tmp_path / "data")
    return Client(start_daemon(tmp_path / "data"))


# ---- rename ----

def test_one_by_name(learned):
    red = learned.get(CLASSES + "red").json()
    assert red == learned.get("/api/v1/classes").json()["classes"][0]
    assert (red["index"], red["since_version"], red["test_images"]) == (0, 1, 15)
    learned.refused(learned.get(CLASSES + "pink"), 404, "class_not_found")


def test_renamed_wherever_labels_leave(learned):
    answered(learned, model=1)  # it lies in memory now, with the old name
    before, seen = everywhere(learned), learned.get(CLASSES + "red")
    said = rename(learned, "red", "café 1", **{"If-Match": seen.headers["ETag"]})
    assert said.json() == {**seen.json(), "name": "café 1"}
    for _ in range(2):
        after = everywhere(learned)
        for place, old in before.items():
            assert after[place] == type(old)("café 1" if name == "red" else name for name in old), place
        batch = learned.get("/api/v1/batches/one").json()
        assert [c["name"] for c in batch["classes"]] == ["café 1", "green", "violet"]
        assert learned.get(CLASSES + "caf%C3%A9%201").json()["id"] == seen.json()["id"]
        learned.refused(learned.get(CLASSES + "red"), 404, "class_not_found")
        learned.daemon.kill()
        learned.daemon.start()


def test_stored_images_stay_of_the_renamed_class(learned):
    """Packs keep the old label: test images still measure the class, exemplars are still replayed, a new class of the
    old name has none of them."""
    rename(learned, "red", "crimson")
    learned.upload("three", images.tar(["red", "grey"], range(100, 130)), holdout=0.2)
    job = learned.learn("three", **{k: v for k, v in KEEPS.items() if k != "depth"})
    assert job["train_images"] == 48
    counts = {c["name"]: c["total"] for c in learned.get("/api/v1/history").json()["per_class"]}
    assert counts == {"crimson": 15, "green": 12, "violet": 12, "blue": 13, "yellow": 12, "red": 6, "grey": 6}
    kept = {c["name"]: c["images"] for c in learned.get("/api/v1/exemplars").json()["classes"]}
    assert kept == dict.fromkeys(counts, 40 // 7)
    assert rename(learned, "red", "rouge").status_code == 200
    assert {c["name"] for c in learned.get("/api/v1/exemplars").json()["classes"]} == {*counts, "rouge"} - {"red"}


@pytest.mark.parametrize("body, status, code", [
    (b"", 400, "bad_json"), (b"{", 400, "bad_json"), (b"[]", 422, "bad_field"), (b"{}", 422, "bad_field"),
    (b'{"name": ""}', 422, "bad_field"), (b'{"name": 3}', 422, "bad_field"), (b'{"name": "a/b"}', 422, "bad_field"),
    (b'{"name": ".a"}', 422, "bad_field"), (b'{"name": "a\\u0001"}', 422, "bad_field"),
    (b'{"name": "a", "id": 1}', 422, "bad_field"), (json.dumps({"name": "x" * 65}).encode(), 422, "bad_field"),
    (b'{"name": "green"}', 409, "name_taken"), (b'{"name": "blue"}', 409, "name_taken"),
])
def test_refused_renames(learned, body, status, code):
    learned.refused(learned.request("PATCH", CLASSES + "red", data=body), status, code)
    assert names(learned) == FIRST + SECOND


def test_name_of_a_waiting_batch_is_taken(learned):
    learned.upload("waits", images.tar(["grey"], range(4)))
    assert "'waits'" in learned.refused(rename(learned, "red", "grey"), 409, "name_taken")
    assert rename(learned, "red", "red").json()["name"] == "red"  # nothing to do
    learned.refused(rename(learned, "pink", "rose"), 404, "class_not_found")


def test_not_while_jobs_are_open(learned):
    learned.upload("long", images.tar(["grey"], range(20)))
    job = learned.train("long", **{k: v for k, v in LONG.items() if k != "depth"})
    running(learned, job, 1)
    assert f"Job {job['id']}" in learned.refused(rename(learned, "red", "rose"), 409, "jobs_open")
    learned.refused(retire(learned, "red"), 409, "jobs_open")
    learned.post(f"/api/v1/jobs/{job['id']}/cancel")
    learned.wait(job["id"])
    assert wait_for(lambda: rename(learned, "red", "rose").status_code == 200)


def test_only_what_was_seen(learned):
    tag = learned.get(CLASSES + "red").headers["ETag"]
    rename(learned, "green", "lime")
    assert rename(learned, "red", "rose", **{"If-Match": tag}).status_code == 200
    learned.refused(retire(learned, "rose", **{"If-Match": tag}), 412, "precondition_failed")
    learned.refused(rename(learned, "rose", "red", **{"If-Match": '"x"'}), 412, "precondition_failed")
    assert names(learned)[:2] == ["rose", "lime"]


def test_changes_at_once(learned):
    """One at a time: each is done whole or refused, and what was done holds in files and rows."""
    labels, tensors = exported(learned, 2)
    prototypes = dict(zip(labels, tensors["prototypes"]))
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        replies = dict(zip(FIRST + SECOND, pool.map(lambda name: retire(learned, name), FIRST + SECOND)))
    for name, reply in replies.items():
        if reply.status_code != 200:
            learned.refused(reply, 409, "last_class" if names(learned) == [name] else "changed_meanwhile")
    gone = [name for name, reply in replies.items() if reply.status_code == 200]
    assert gone and names(learned) == [name for name in FIRST + SECOND if name not in gone]
    with sqlite3.connect(learned.daemon.data_dir / "accreted.db") as db:
        rows = dict(db.execute("SELECT name, erased FROM classes WHERE retired_ms IS NOT NULL"))
    assert rows == dict.fromkeys(gone, 1)
    data = (learned.daemon.data_dir / "models/2").read_bytes()
    assert [name for name in labels if prototypes[name].tobytes() not in data] == gone


# ---- retire ----

def test_retired_everywhere(learned):
    answered(learned, model=1)
    before, kept = everywhere(learned), {c["name"]: c["images"] for c in learned.get("/api/v1/exemplars").json()["classes"]}
    green = learned.get(CLASSES + "green").json()
    said = retire(learned, "green").json()
    assert (said["test_images_deleted"], said["exemplars_deleted"]) == (green["test_images"], kept["green"])
    assert (said["erased"], said["learned_by_versions"], said["waiting_batches"]) == (True, [1, 2], [])
    assert "weights" in said["remains"]
    for _ in range(2):
        after = everywhere(learned)
        for place, old in before.items():
            assert after[place] == type(old)(name for name in old if name != "green"), place
        learned.refused(learned.get(CLASSES + "green"), 404, "class_not_found")
        learned.refused(retire(learned, "green"), 404, "class_not_found")
        assert learned.get("/api/v1/storage").json()["prototypes"]["count"] == 4
        assert "\naccreted_model_classes 4\n" in learned.get("/metrics").text
        learned.daemon.kill()
        learned.daemon.start()
    learned.post("/api/v1/models/1/activate")  # an older version served after
    assert names(learned) == ["red", "violet"]
    assert answered(learned) == {"red", "violet"}


def test_what_is_left_answers_as_before(learned):
    asked = [images.png(label, 2000) for label in FIRST + SECOND]

    def scores():
        return [{p["class"]: p["score"] for p in learned.predict(x, top=10)["predictions"]} for x in asked]
    before = scores()
    tensors = exported(learned, 2)[1]
    retire(learned, "violet")
    for old, new in zip(before, scores()):
        rest = 1 - old.pop("violet")
        if rest > 1e-2:
            assert new == pytest.approx({name: score / rest for name, score in old.items()}, abs=2e-4)
    left = exported(learned, 2)[1]
    assert sorted(left) == sorted(tensors)
    for name, tensor in tensors.items():
        rows = tensor.shape and tensor.shape[0] == 5
        assert numpy.array_equal(left[name], numpy.delete(tensor, 2, 0) if rows else tensor), name


def test_erased_from_files(learned):
    folder = learned.daemon.data_dir
    rows = {version: exported(learned, version)[1]["prototypes"][1] for version in (1, 2)}  # "green"
    snapshot = (folder / "snapshots/1").read_bytes()
    floats, model = rows[2].astype("<f4").tobytes(), folder / "models/2"
    assert rows[1].any() and floats in model.read_bytes()
    batch = learned.get("/api/v1/batches/one-test").json()
    pack = folder / "batches" / (batch["hash"] + ".test")
    old_exemplars = (folder / "exemplars/2").read_bytes()
    assert images.png("green", 1000) in pack.read_bytes() and b"green\0" in old_exemplars
    retire(learned, "green")
    assert floats not in model.read_bytes()
    assert not pack.exists()
    now = learned.get("/api/v1/batches/one-test").json()
    counts = {c["name"]: c["test_images"] for c in now["classes"]}
    assert counts == {"red": 15, "green": 0, "violet": 12} and now["test_images"] == 27
    data = (folder / "batches" / (now["hash"] + ".test")).read_bytes()
    assert now["test_bytes"] == len(data)
    assert images.png("green", 1000) not in data and images.png("red", 1000) in data
    assert b"green\0" not in (folder / "exemplars/2").read_bytes()
    # Coded numbers cannot be looked for; what is left of the snapshot's is in test_retire.c.
    assert (folder / "snapshots/1").read_bytes() != snapshot


def test_a_crash_before_files_were_erased(learned):
    folder = learned.daemon.data_dir
    saved = {name: (folder / name).read_bytes() for name in ("models/2", "snapshots/1", "snapshots/2", "exemplars/2")}
    retire(learned, "green")
    erased = {name: (folder / name).read_bytes() for name in saved}
    assert all(erased[name] != saved[name] for name in saved)
    learned.daemon.stop()
    for name, data in saved.items():  # as the transaction alone would have left them
        (folder / name).write_bytes(data)
    with sqlite3.connect(folder / "accreted.db") as db:
        assert db.execute("UPDATE classes SET erased = 0 WHERE retired_ms IS NOT NULL").rowcount == 1
    learned.daemon.start()
    assert answered(learned) == {"red", "violet", "blue", "yellow"}
    wait_for(lambda: all((folder / name).read_bytes() == erased[name] for name in saved))


def test_measurements_are_of_what_is_left(learned):
    before = learned.get("/api/v1/history").json()
    retire(learned, "violet")
    after = learned.get("/api/v1/history").json()
    left = [c for c in before["per_class"] if c["name"] != "violet"]
    assert [c["correct"] for c in after["per_class"]] == [c["correct"] for c in left]
    share = sum(c["correct"] for c in left) / sum(c["total"] for c in left)
    assert after["last"] == pytest.approx(share)
    assert learned.get("/api/v1/models/2").json()["serving_accuracy"] == pytest.approx(share)


def test_learning_goes_on_without_it(learned):
    """The next step neither predicts nor measures it, the gate does not wait for it; the name can be learned anew."""
    for name in SECOND:
        retire(learned, name)
    learned.upload("three", images.tar(["grey", "blue"], range(100, 140)), holdout=0.2)
    job = learned.learn("three", **{**{k: v for k, v in KEEPS.items() if k != "depth"}, "gate": 1})
    assert job["gate"]["verdict"] == "passed"
    assert names(learned) == FIRST + ["grey", "blue"]
    assert answered(learned) == {*FIRST, "grey", "blue"}
    history = learned.get("/api/v1/history").json()
    assert history["accuracy_matrix"][2][1] is None  # nothing of step 2 is left
    assert {c["name"]: c["total"] for c in history["per_class"]}["blue"] == 8
    assert sum(map(sum, history["confusion"]["counts"])) == sum(c["total"] for c in history["per_class"])
    assert learned.predict(images.png("blue", 2000), top=1)["predictions"][0]["class"] == "blue"


def test_a_retired_name_is_free(learned):
    retire(learned, "green")
    assert rename(learned, "violet", "green").status_code == 200  # of the same batch
    batch = learned.get("/api/v1/batches/one").json()
    assert {c["name"]: c["train_images"] for c in batch["classes"]} == {"red": 60, "green": 120}
    assert answered(learned, model=1) == {"red", "green"}


def test_images_that_wait_stay(learned):
    learned.upload("more", images.tar(["green", "grey"], range(200, 210)))
    said = retire(learned, "green").json()
    assert said["waiting_batches"] == ["more"]
    assert learned.get("/api/v1/batches/more").json()["train_images"] == 20
    learned.learn("more", **{**{k: v for k, v in TINY.items() if k != "depth"}, "epochs": 1})
    assert names(learned) == ["red", "violet", "blue", "yellow", "green", "grey"]


def test_the_last_class_stays_and_empty_versions_do_not_answer(learned):
    for name in FIRST:
        retire(learned, name)
    retire(learned, "blue")
    assert "'yellow'" in learned.refused(retire(learned, "yellow"), 409, "last_class")
    assert learned.predict(images.png("red", 1))["predictions"] == [{"class": "yellow", "index": 0, "score": 1.0}]
    learned.refused(learned.post("/api/v1/predict", params={"model": 1}, data=images.png("red", 1)), 409, "version_empty")
    learned.refused(learned.post("/api/v1/models/1/activate"), 409, "version_empty")
    learned.refused(learned.get("/api/v1/models/1/export"), 409, "version_empty")
    assert learned.get("/v2/models/accreted/versions/1").status_code == 409
    assert learned.get("/v2/models/accreted/versions/1/ready").json()["ready"] is False
    assert learned.get("/api/v1/models/1").json()["class_names"] == []
    learned.daemon.kill()
    learned.daemon.start()
    assert names(learned) == ["yellow"]


def test_unreadable_test_images_change_nothing(learned):
    batch = learned.get("/api/v1/batches/one-test").json()
    path = learned.daemon.data_dir / "batches" / (batch["hash"] + ".test")
    data = bytearray(path.read_bytes())
    data[100] ^= 1
    path.write_bytes(data)
    assert "'one-test'" in learned.refused(retire(learned, "green"), 500, "corrupt_batch")
    assert names(learned) == FIRST + SECOND
    learned.delete("/api/v1/batches/one-test")
    assert retire(learned, "green").status_code == 200


def test_in_the_shared_store(api):
    """Snapshots name the one below by its checksum: they stay one chain, also over a crash in the middle of it."""
    folder, later = api.daemon.data_dir, {k: v for k, v in KEEPS.items() if k != "depth"}
    shared = {"store": "shared"}
    upload_step(api, "one", FIRST)
    upload_step(api, "two", SECOND)
    upload_step(api, "three", ["grey"])
    api.learn("one", **{**KEEPS, **shared})
    api.learn("two", **{**later, **shared})
    saved = [(folder / "snapshots" / v).read_bytes() for v in "12"]
    retire(api, "green")
    assert answered(api, model=1) == {"red", "violet"}
    erased = [(folder / "snapshots" / v).read_bytes() for v in "12"]
    assert erased[0] != saved[0] and erased[1] != saved[1]
    api.post("/api/v1/models/1/activate")
    api.daemon.stop()
    (folder / "snapshots/2").write_bytes(saved[1])  # only the lower one was erased: a crash between the two
    with sqlite3.connect(folder / "accreted.db") as db:
        db.execute("UPDATE classes SET erased = 0 WHERE retired_ms IS NOT NULL")
    api.daemon.start()
    assert (folder / "snapshots/2").read_bytes() == erased[1]
    api.post("/api/v1/models/2/activate")
    api.learn("three", **{**later, **shared})
    assert answered(api, model=2) == {"red", "violet", *SECOND}
    assert answered(api) == {"red", "violet", *SECOND, "grey"}


# ---- while files are rewritten ----

@contextlib.contextmanager
def retiring(api, name):
    """Retires a class; inside, the kept images are still to be erased: one of their files is a pipe, which nobody writes."""
    pipe = api.daemon.data_dir / "exemplars/0"

    def opened():
        with contextlib.suppress(OSError):  # nobody reads
            os.close(os.open(pipe, os.O_WRONLY | os.O_NONBLOCK))
            return True
        return reply.done()
    os.mkfifo(pipe)
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        reply = pool.submit(retire, api, name)
        try:
            wait_for(lambda: api.get(CLASSES + name).status_code == 404)
            yield
            assert not reply.done()
        finally:
            wait_for(opened)
            pipe.unlink()
    assert reply.result().json()["erased"] is False


def test_a_job_waits_until_all_is_erased(learned):
    """It would read images by their places in a file that another one takes the place of."""
    learned.upload("three", images.tar(["grey"], range(40)))
    with retiring(learned, "green"):
        job = learned.train("three", **{k: v for k, v in KEEPS.items() if k != "depth"})
        for _ in range(30):
            assert learned.job(job["id"])["state"] == "queued"
        learned.refused(rename(learned, "red", "rose"), 409, "jobs_open")
    assert learned.wait(job["id"])["state"] == "succeeded"
    kept = learned.get("/api/v1/exemplars").json()["classes"]
    assert {c["name"] for c in kept} == {"red", "violet", *SECOND, "grey"}


def test_a_chain_that_is_half_erased_is_not_called_damaged(api):
    """Of the shared store, whose snapshots name the one below by its checksum: for a moment they do not fit."""
    folder, later = api.daemon.data_dir, {k: v for k, v in KEEPS.items() if k != "depth"}
    for name, labels, options in (("one", FIRST, KEEPS), ("two", SECOND, later), ("three", ["grey"], later)):
        upload_step(api, name, labels)
        api.learn(name, **{**options, "store": "shared", "experts": 0})
    second, third = folder / "snapshots/2", (folder / "models/3").read_bytes()
    second.rename(folder / "aside")  # so that the one below it is erased alone
    with retiring(api, "green"):
        wait_for(lambda: (folder / "models/3").read_bytes() != third)
        (folder / "aside").rename(second)
        asks = [lambda: api.post("/api/v1/predict", params={"model": 2}, data=images.png("red", 1)),
                lambda: api.post("/v2/models/accreted/versions/2/infer", json=V2_BODY),
                lambda: api.post("/api/v1/models/2/activate"), lambda: api.get("/api/v1/models/2/export")]
        for ask in asks:
            reply = ask()
            assert "backup" not in api.refused(reply, 503, "classes_changing")
            assert reply.headers["Retry-After"] == "1" and reply.json()["retryable"]
        assert api.predict(images.png("red", 1))["model"] == 3
    api.daemon.stop()
    api.daemon.start()
    assert [ask().status_code for ask in asks] == [200] * 4
