"""The main job: two increments on small images, what they leave behind, what is refused, and what survives."""

import os
import signal
import subprocess
import time

import pytest

import images
from conftest import BINARY, Client, wait_for

FIRST, SECOND = ["red", "green", "violet"], ["blue", "yellow"]
TRAIN, TEST = range(0, 60), range(1000, 1012)
MISLABELLED = {"one": [("red", "green", 3000 + i) for i in range(3)], "two": [("blue", "red", 3000)]}
TINY = {"depth": 8, "epochs": 16, "batch": 32, "lr": 0.02, "lr_later": 0.05, "flip": False, "pad": 2,
        "prune": {"keep": 0.5, "epochs": 1, "bits": 6}, "gate": None}
LONG = {**TINY, "epochs": 5000}


def upload_step(api, name, labels):
    """Training images, and test images of which a few are under a wrong label, so that the accuracy is not 1."""
    api.upload(name, images.tar(labels, TRAIN))
    api.upload(name + "-test", images.tar(labels, TEST, MISLABELLED.get(name, ())), split="test")


def learn_both(api):
    """Two increments, of three classes and of two; the two jobs."""
    upload_step(api, "one", FIRST)
    upload_step(api, "two", SECOND)
    return [api.learn("one", **TINY), api.learn("two", **{k: v for k, v in TINY.items() if k != "depth"})]


def answers(api):
    return [api.predict(images.png(label, seed), top=5)["predictions"]
            for label in FIRST + SECOND for seed in range(2000, 2005)]


@pytest.fixture(scope="module")
def learned(module_daemon):
    """A daemon that has learned both steps, and the jobs; tests may read."""
    api = Client(module_daemon)
    api.jobs = learn_both(api)
    return api


# ---- what two increments leave behind ----

def test_jobs_tell_what_was_done(learned):
    for version, (job, batch) in enumerate(zip(learned.jobs, ("one", "two")), 1):
        assert (job["version"], job["batches"], job["progress"], job["phase"]) == (version, [batch], 1, "publish")
        assert (job["restarts"], job["attempt"], job["error"]) == (0, 1, None)
        assert job["train_images"] == len(TRAIN) * (3 if version == 1 else 2)
        assert job["created"] <= job["started"] <= job["finished"]
        assert job["options"]["epochs"] == TINY["epochs"]
        assert job["options"]["depth"] == 8
        assert job["reproducible"] is True
    listed = learned.get("/api/v1/jobs").json()["jobs"]
    assert [j["id"] for j in listed] == [j["id"] for j in reversed(learned.jobs)]


def test_metrics_have_every_epoch(learned):
    for step, job in enumerate(learned.jobs):
        epochs = learned.get(f"/api/v1/jobs/{job['id']}/metrics").json()["epochs"]
        assert [(e["epoch"], e["pruned"]) for e in epochs] == [(i, i == 16) for i in range(17)]
        assert epochs[15]["loss_class"] < epochs[0]["loss_class"]
        assert epochs[15]["accuracy"] > 0.8
        assert all((e["loss_mmd"] > 0) == (step > 0) for e in epochs if not e["pruned"])


def test_versions_are_steps(learned):
    models = learned.get("/api/v1/models").json()["models"]
    assert [(m["version"], m["parent"], m["step"], m["active"], m["class_names"]) for m in models] == [
        (2, 1, 2, True, FIRST + SECOND), (1, None, 1, False, FIRST)]
    for model in models:
        assert learned.get(f"/api/v1/models/{model['version']}").json() == model
    path = learned.daemon.data_dir / "models"
    assert (path / "2").stat().st_size == models[0]["model_bytes"]
    assert ([m["weights"] for m in models], models[1]["model_bytes"]) == (["dense", "snapshot"], 0)
    assert [(m["children"], m["published"]) for m in models] == [(0, True), (1, True)]


def test_snapshots_are_small_and_measured(learned):
    snapshots = learned.get("/api/v1/snapshots").json()["snapshots"]
    assert sorted(s["version"] for s in snapshots) == [1, 2]
    for s in snapshots:
        assert (learned.daemon.data_dir / "snapshots" / str(s["version"])).stat().st_size == s["bytes"]
        assert s["share"] == pytest.approx(s["bytes"] / s["dense_bytes"], rel=1e-6)
        assert s["share"] < 0.2 # half of the weights at 6 bits of 32, the mask, and the rest
        assert s["sparsity"] == pytest.approx(0.5, abs=0.02)
        assert s["accuracy_lost"] == pytest.approx(s["accuracy_dense"] - s["accuracy_pruned"])


def test_history_agrees_with_the_confusion(learned):
    history = learned.get("/api/v1/history").json()
    classes, counts = history["confusion"]["classes"], history["confusion"]["counts"]
    assert history["versions"] == [1, 2]
    assert classes == FIRST + SECOND
    total, right = [sum(row) for row in counts], [counts[i][i] for i in range(5)]
    assert total == [15, 12, 12, 13, 12]
    assert [(c["name"], c["step"], c["total"], c["correct"]) for c in history["per_class"]] == list(
        zip(classes, [1, 1, 1, 2, 2], total, right))

    matrix, accuracy = history["accuracy_matrix"], history["accuracy"]
    assert [len(row) for row in matrix] == [1, 2]
    assert matrix[1] == pytest.approx([sum(right[:3]) / 39, sum(right[3:]) / 25])
    assert accuracy == pytest.approx([matrix[0][0], sum(right) / 64])
    assert history["average_incremental"] == pytest.approx(sum(accuracy) / 2)
    assert history["last"] == accuracy[1]
    assert history["forgetting"] == pytest.approx([matrix[0][0] - matrix[1][0]])
    assert history["forgetting_mean"] == pytest.approx(matrix[0][0] - matrix[1][0])
    assert history["backward_transfer"] == pytest.approx(matrix[1][0] - matrix[0][0])
    assert 0.8 < history["last"] <= 60 / 64

    reply = learned.get("/api/v1/history", params={"format": "csv"})
    assert reply.headers["Content-Type"].startswith("text/csv")
    assert len(reply.text.splitlines()) >= 3


def test_predictions_are_right(learned):
    right = 0
    for label in FIRST + SECOND:
        for seed in range(2000, 2010):
            answer = learned.predict(images.png(label, seed), top=5)
            scores = [p["score"] for p in answer["predictions"]]
            assert answer["model"] == 2
            assert scores == sorted(scores, reverse=True)
            assert sum(scores) == pytest.approx(1, abs=1e-4)
            right += answer["predictions"][0]["class"] == label
    assert right >= 45


def test_prediction_takes_what_people_send(learned):
    raw = learned.predict(images.png("red", 5))
    assert len(raw["predictions"]) == 5
    reply = learned.post("/api/v1/predict", files={"image": ("a.png", images.png("red", 5), "image/png")})
    assert reply.json()["predictions"] == raw["predictions"]
    large = images.pixels("red", 5).repeat(20, axis=0).repeat(20, axis=1)
    assert learned.predict(images.encode(large))["predictions"][0]["class"] == "red"
    assert learned.predict(images.jpeg("blue", 5))["predictions"][0]["class"] == "blue"
    assert len(learned.predict(images.png("red", 5), top=1)["predictions"]) == 1


@pytest.mark.parametrize("data, status, code", [
    (b"", 400, "empty_body"),
    (b"GIF89a and more", 415, "unknown_format"),
    (images.png("red", 1)[:200], 422, "damaged_image"),
    (images.jpeg("red", 1)[:200], 422, "damaged_image"),
])
def test_prediction_refuses(learned, data, status, code):
    learned.refused(learned.post("/api/v1/predict", data=data), status, code)


def test_training_images_are_gone_and_test_images_counted(learned):
    batches = {b["name"]: b for b in learned.get("/api/v1/batches").json()["batches"]}
    for version, name in enumerate(("one", "two"), 1):
        batch, test = batches[name], batches[name + "-test"]
        assert (batch["state"], batch["consumed_version"]) == ("consumed", version)
        assert not list((learned.daemon.data_dir / "batches").glob(batch["hash"] + ".train"))
        pack = learned.daemon.data_dir / "batches" / (test["hash"] + ".test")
        assert (test["test_images"], test["test_bytes"]) == (39 if version == 1 else 25, pack.stat().st_size)
    classes = learned.get("/api/v1/classes").json()["classes"]
    assert [(c["name"], c["since_version"], c["test_images"]) for c in classes] == [
        ("red", 1, 15), ("green", 1, 12), ("violet", 1, 12), ("blue", 2, 13), ("yellow", 2, 12)]
    left = {p.relative_to(learned.daemon.data_dir).as_posix() for p in learned.daemon.data_dir.rglob("*") if p.is_file()}
    packs = {f"batches/{batches[n + '-test']['hash']}.test" for n in ("one", "two")}
    files = {"lock", "port", "models/2", "snapshots/1", "snapshots/2", *packs}
    assert {p for p in left if not p.startswith("accreted.db")} == files


# ---- what is refused ----

@pytest.mark.parametrize("path, code", [
    ("/api/v1/batches/nothing", "batch_not_found"), ("/api/v1/jobs/77", "job_not_found"),
    ("/api/v1/jobs/77/metrics", "job_not_found"), ("/api/v1/jobs/x", "job_not_found"),
    ("/api/v1/models/77", "model_not_found"), ("/api/v1/models/-1", "model_not_found"),
])
def test_unknown_ids(learned, path, code):
    learned.refused(learned.get(path), 404, code)


def test_cancel_of_an_unknown_or_finished_job(learned):
    learned.refused(learned.post("/api/v1/jobs/77/cancel"), 404, "job_not_found")
    learned.refused(learned.post("/api/v1/jobs/1/cancel"), 409, "job_finished")


JOB_REFUSALS = {
    "no JSON": ("{", 400, "bad_json"),
    "no object": ("[]", 422, "bad_field"),
    "no batches": ('{"batches": []}', 422, "bad_field"),
    "unknown field": ('{"batches": ["one"], "colour": 1}', 422, "bad_field"),
    "unknown batch": ('{"batches": ["nothing"]}', 404, "batch_not_found"),
    "test images alone": ('{"batches": ["one-test"]}', 422, "empty_batch"),
    "learned already": ('{"batches": ["one"]}', 409, "batch_consumed"),
}


@pytest.mark.parametrize("case", JOB_REFUSALS)
def test_job_is_refused(learned, case):
    body, status, code = JOB_REFUSALS[case]
    reply = learned.post("/api/v1/jobs", data=body, headers={"Content-Type": "application/json"})
    learned.refused(reply, status, code)
    assert len(learned.get("/api/v1/jobs").json()["jobs"]) == 2


@pytest.mark.parametrize("options, code, said", [
    ({"epoch": 3}, "unknown_option", "epoch"),
    ({"prune": {"kept": 1}}, "unknown_option", "prune.kept"),
    ({"epochs": 0}, "bad_option", "epochs"),
    ({"depth": 9}, "bad_option", "depth"),
    ({"method": "magic"}, "bad_option", "m2kd"),
])
def test_option_is_refused(api, options, code, said):
    api.upload("one", images.tar(FIRST, range(3)))
    reply = api.post("/api/v1/jobs", json={"batches": ["one"], "options": options})
    assert said in api.refused(reply, 422, code)
    assert api.get("/api/v1/jobs").json()["jobs"] == []


def test_softmax_needs_two_classes(api):
    api.upload("one", images.tar(["red"], TRAIN))
    reply = api.post("/api/v1/jobs", json={"batches": ["one"], "options": {**TINY, "loss": "softmax"}})
    api.refused(reply, 422, "softmax_needs_two_classes")
    assert api.learn("one", **{**TINY, "epochs": 1})["state"] == "succeeded"


def test_second_daemon_is_refused(daemon):
    second = subprocess.run([BINARY, "--config", "/dev/null", "--data-dir", str(daemon.data_dir), "--port", "0"],
                            capture_output=True, text=True, timeout=30, check=False)
    assert second.returncode == 1
    assert "already_running" in second.stderr


# ---- while a job trains ----

def test_step_without_test_images_is_null_not_carried_over(api):
    upload_step(api, "one", FIRST)
    api.learn("one", **{**TINY, "epochs": 1})
    api.upload("two", images.tar(SECOND, range(10)))
    api.learn("two", **{**TINY, "epochs": 1})
    history = api.get("/api/v1/history").json()
    assert history["accuracy_matrix"][1][0] is not None
    assert history["accuracy_matrix"][1][1] is None


def running(api, job, epochs=2):
    """Waits until a job is in its training, `epochs` behind it."""
    return wait_for(lambda: len(api.get(f"/api/v1/jobs/{job['id']}/metrics").json()["epochs"]) >= epochs,
                    what="an epoch")


def test_predictions_and_queue_while_training(api):
    upload_step(api, "one", FIRST)
    api.learn("one", **TINY)
    upload_step(api, "two", SECOND)
    upload_step(api, "three", ["grey"])
    second = api.train("two", **LONG)
    running(api, second, 1)
    third = api.train("three", **{**TINY, "epochs": 1})
    assert (third["state"], third["queue_position"]) == ("queued", 1)
    for seed in range(20):
        assert api.predict(images.png("red", seed))["model"] == 1
    job = api.job(second["id"])
    assert (job["state"], job["phase"], job["version"]) == ("running", "train", None)
    assert 0 < job["progress"] < 1
    assert job["images_per_second"] > 0
    assert api.get("/api/v1/batches/two").json()["state"] == "in_use"
    reply = api.post("/api/v1/jobs", json={"batches": ["three"]})
    api.refused(reply, 409, "batch_in_use")
    api.upload("again", images.tar(["grey"], range(7000, 7005)))
    reply = api.post("/api/v1/jobs", json={"batches": ["again"]})
    api.refused(reply, 409, "class_in_queue")

    assert api.post(f"/api/v1/jobs/{second['id']}/cancel").status_code in (200, 202)
    assert api.wait(second["id"], 10)["state"] == "cancelled"
    assert api.post(f"/api/v1/jobs/{second['id']}/cancel").status_code == 200
    assert api.get("/api/v1/batches/two").json()["state"] == "ready"
    assert api.wait(third["id"])["state"] == "succeeded"
    assert api.predict(images.png("red", 1))["model"] == 2
    assert api.learn("two", **{**TINY, "epochs": 1})["version"] == 3


def test_cancel_of_a_queued_job(api):
    api.upload("one", images.tar(FIRST, TRAIN))
    api.upload("two", images.tar(SECOND, TRAIN))
    first, second = api.train("one", **LONG), api.train("two", **TINY)
    assert second["queue_position"] == 1
    assert api.post(f"/api/v1/jobs/{second['id']}/cancel").json()["state"] == "cancelled"
    assert api.get("/api/v1/batches/two").json()["state"] == "ready"
    api.post(f"/api/v1/jobs/{first['id']}/cancel")
    assert api.wait(first["id"], 10)["state"] == "cancelled"
    assert not list((api.daemon.data_dir / "checkpoints").iterdir())


# ---- what survives ----

def test_restart_keeps_everything(api):
    learn_both(api)
    paths = ["batches", "jobs", "models", "snapshots", "history", "classes", "jobs/1/metrics"]
    before = [api.get("/api/v1/" + path).json() for path in paths], answers(api)
    api.daemon.stop()
    api.daemon.start()
    assert ([api.get("/api/v1/" + path).json() for path in paths], answers(api)) == before
    api.daemon.kill()
    api.daemon.start()
    assert ([api.get("/api/v1/" + path).json() for path in paths], answers(api)) == before


@pytest.mark.parametrize("end, interruption", [("kill", "daemon_crashed"), ("stop", "daemon_stopped")])
def test_interrupted_job_goes_on_by_itself(start_daemon, tmp_path, end, interruption):
    """From its checkpoint, and to the very model that an undisturbed run makes."""
    options = {**TINY, "epochs": 80, "seed": 7}
    undisturbed, disturbed = (Client(start_daemon(tmp_path / name, threads=2)) for name in ("a", "b"))
    for api in (undisturbed, disturbed):
        upload_step(api, "one", FIRST)
    job = disturbed.train("one", **options)
    for done in (2, 5):
        running(disturbed, job, done)
        getattr(disturbed.daemon, end)()
        disturbed.daemon.start()
    resumed = disturbed.wait(job["id"])
    assert (resumed["state"], resumed["restarts"], resumed["interruption"]) == ("succeeded", 2, interruption)
    assert (resumed["attempt"], resumed["reproducible"]) == (1, True)
    epochs = disturbed.get(f"/api/v1/jobs/{job['id']}/metrics").json()["epochs"]
    assert [e["epoch"] for e in epochs] == list(range(81))

    undisturbed.learn("one", **options)
    for kind in ("models", "snapshots"):
        files = [(api.daemon.data_dir / kind / "1").read_bytes() for api in (undisturbed, disturbed)]
        assert files[0] == files[1], f"{kind} differ"
    assert not list((disturbed.daemon.data_dir / "checkpoints").iterdir())


def test_killed_before_what_was_learned_is_stored(api):
    """Nothing is trained again, and the version is the very one that was about to be."""
    folder = api.daemon.data_dir
    upload_step(api, "one", FIRST)
    job = api.train("one", **{**TINY, "epochs": 100}, exemplars={"total": 9})["id"]
    running(api, {"id": job}, 1)
    pack, = (folder / "batches").glob("*.train")
    aside = pack.rename(folder / "tmp" / "aside")
    os.mkfifo(pack)  # the images to keep are looked for here, and that stands still
    wait_for(lambda: (folder / "snapshots/1").exists(), 300, "the snapshot")
    time.sleep(0.3)
    before = api.job(job)
    assert (before["state"], before["phase"], before["version"]) == ("running", "publish", None)
    epochs = api.get(f"/api/v1/jobs/{job}/metrics").json()["epochs"]
    api.daemon.kill()
    files = [(folder / kind / "1").read_bytes() for kind in ("models", "snapshots")]
    aside.rename(pack)
    api.daemon.start()
    ended = api.wait(job)
    assert (ended["state"], ended["restarts"], ended["attempt"], ended["reproducible"]) == ("succeeded", 1, 1, True)
    assert len(epochs) == 101 and api.get(f"/api/v1/jobs/{job}/metrics").json()["epochs"] == epochs
    assert [(folder / kind / "1").read_bytes() for kind in ("models", "snapshots")] == files
    assert api.get("/api/v1/exemplars").json()["images"] == 9
    assert not list((folder / "checkpoints").iterdir())


def test_corrupt_model_is_found(api):
    """A flipped byte in the file that serves: the daemon says so and does not start with it."""
    upload_step(api, "one", FIRST)
    api.learn("one", **{**TINY, "epochs": 1})
    api.daemon.stop()
    model = api.daemon.data_dir / "models" / "1"
    data = bytearray(model.read_bytes())
    data[len(data) // 2] ^= 1
    model.write_bytes(data)
    result = subprocess.run(api.daemon.arguments, capture_output=True, text=True, timeout=30, check=False)
    assert result.returncode == 1
    assert "models" in result.stderr


def test_stop_is_quick_while_training(api):
    api.upload("one", images.tar(FIRST, TRAIN))
    running(api, api.train("one", **LONG), 1)
    start = time.monotonic()
    api.daemon.process.send_signal(signal.SIGTERM)
    assert api.daemon.process.wait(10) == 0
    assert time.monotonic() - start < 9


def test_log_names_each_job(learned):
    log = learned.daemon.log()
    assert "job 1" in log and "job 2" in log
