"""Versions: back a step and on again, another branch from there, discarding, and that each survives a restart."""

import pytest

import images
from conftest import wait_for
from test_end_to_end import FIRST, LONG, SECOND, TINY, running, upload_step

MODELS = "/api/v1/models"
QUICK = {**TINY, "epochs": 8}


def model(api, version):
    reply = api.get(f"{MODELS}/{version}")
    assert reply.status_code == 200, reply.text
    return reply.json()


def activate(api, version):
    reply = api.post(f"{MODELS}/{version}/activate")
    assert reply.status_code == 200, reply.text
    return reply.json()


def active(api):
    return next(m["version"] for m in api.get(MODELS).json()["models"] if m["active"])


def learn_two(api):
    upload_step(api, "one", FIRST)
    upload_step(api, "two", SECOND)
    api.learn("one", **QUICK)
    api.learn("two", **QUICK)


def answer(api, **query):
    """Whole answers to some images, to be compared."""
    return [api.predict(images.png(label, 2000), **query)["predictions"] for label in FIRST]


def test_back_and_on_again(api):
    learn_two(api)
    before, asked = model(api, 1), answer(api, model=1)
    assert (before["weights"], before["active"]) == ("snapshot", False)
    snapshot = next(s for s in api.get("/api/v1/snapshots").json()["snapshots"] if s["version"] == 1)
    assert before["serving_accuracy"] == snapshot["accuracy_pruned"]
    assert before["accuracy"] == snapshot["accuracy_dense"]
    two = answer(api)

    assert activate(api, 1) == {**before, "active": True}
    assert active(api) == 1
    assert answer(api) == asked
    assert api.predict(images.png("red", 1))["model"] == 1
    history = api.get("/api/v1/history").json()
    assert (history["versions"], history["weights"]) == ([1], ["snapshot"])
    assert history["last"] == pytest.approx(before["serving_accuracy"])
    counts = history["confusion"]["counts"]
    assert sum(counts[i][i] for i in range(3)) / sum(map(sum, counts)) == pytest.approx(history["last"])
    assert [c["name"] for c in api.get("/api/v1/classes").json()["classes"]] == FIRST
    assert activate(api, 1)["active"] is True  # again: the same answer

    api.daemon.kill()
    api.daemon.start()
    assert (active(api), answer(api)) == (1, asked)
    assert activate(api, 2)["weights"] == "dense"  # its dense model was kept: exactly as it was
    assert answer(api) == two
    assert api.get("/api/v1/history").json()["weights"] == ["dense", "dense"]


def test_another_branch(api):
    """After a step back, classes are known again only by what the active version knows; indices and names may recur."""
    learn_two(api)
    activate(api, 1)
    upload_step(api, "other", ["grey", "blue"])
    job = api.learn("other", **QUICK)
    assert (job["base"], job["version"], job["published"]) == (1, 3, True)
    third = model(api, 3)
    assert (third["parent"], third["step"], third["class_names"]) == (1, 2, FIRST + ["grey", "blue"])
    assert model(api, 2)["class_names"] == FIRST + SECOND
    assert model(api, 1)["children"] == 2
    history = api.get("/api/v1/history").json()
    assert (history["versions"], history["weights"]) == ([1, 3], ["snapshot", "dense"])
    classes = api.get("/api/v1/classes").json()["classes"]
    assert [(c["name"], c["since_version"]) for c in classes] == [(n, 1) for n in FIRST] + [("grey", 3), ("blue", 3)]
    # Test images of both branches are there; "blue" has those of both uploads.
    assert classes[4]["test_images"] == 12 + 13
    assert api.predict(images.png("grey", 5), model=3)["predictions"][0]["class"] == "grey"
    assert activate(api, 2)["class_names"] == FIRST + SECOND
    assert api.predict(images.png("yellow", 5), top=1)["predictions"][0]["class"] == "yellow"


def test_discard(api):
    learn_two(api)
    kept = api.get("/api/v1/storage").json()
    assert kept["models"] == {"count": 1, "bytes": model(api, 2)["model_bytes"]}
    assert (kept["snapshots"]["count"], kept["prototypes"]["count"]) == (2, 5)
    api.refused(api.delete(MODELS + "/2"), 409, "version_active")
    api.refused(api.delete(MODELS + "/1"), 409, "version_has_children")
    activate(api, 1)
    api.refused(api.delete(MODELS + "/1"), 409, "version_active")
    two = model(api, 2)
    assert api.predict(images.png("blue", 1), model=2)["model"] == 2  # it lies in memory now
    sizes = [(api.daemon.data_dir / folder / "2").stat().st_size for folder in ("models", "snapshots")]
    said = api.delete(MODELS + "/2").json()
    assert said["freed_bytes"] == sum(sizes)
    assert (said["forgotten_classes"], said["test_images_kept"]) == (SECOND, 25)
    kept = api.get("/api/v1/storage").json()
    assert kept["models"] == {"count": 0, "bytes": 0}
    assert (kept["snapshots"]["count"], kept["prototypes"]["count"]) == (1, 3)
    for reply in (api.get(MODELS + "/2"), api.post(MODELS + "/2/activate"), api.delete(MODELS + "/2")):
        api.refused(reply, 404, "model_not_found")
    api.refused(api.post("/api/v1/predict", params={"model": 2}, data=images.png("red", 1)), 404, "unknown_version")
    assert [m["version"] for m in api.get(MODELS).json()["models"]] == [1]
    assert [s["version"] for s in api.get("/api/v1/snapshots").json()["snapshots"]] == [1]
    assert model(api, 1)["children"] == 0
    assert api.job(two["job"])["version"] == 2  # what it did stays true
    api.daemon.stop()
    api.daemon.start()
    api.refused(api.get(MODELS + "/2"), 404, "model_not_found")
    api.upload("two-again", images.tar(SECOND, range(60, 80)))
    assert api.learn("two-again", **{**QUICK, "epochs": 1})["version"] == 3  # no number comes twice


def test_step_back_while_a_job_runs(api):
    """The job goes on; what it makes is kept, does not take over, and can be activated."""
    learn_two(api)
    upload_step(api, "three", ["grey"])
    job = api.train("three", **{**TINY, "epochs": 150})
    running(api, job, 1)
    assert api.job(job["id"])["base"] == 2
    activate(api, 1)
    api.refused(api.delete(MODELS + "/2"), 409, "version_in_use")
    done = api.wait(job["id"])
    assert (done["state"], done["version"], done["published"]) == ("succeeded", 3, False)
    assert active(api) == 1
    assert api.predict(images.png("red", 1))["model"] == 1
    batch = api.get("/api/v1/batches/three").json()
    pack = api.daemon.data_dir / "batches" / (batch["hash"] + ".train")
    assert (batch["state"], pack.exists()) == ("ready", True)
    third = model(api, 3)
    assert (third["published"], third["parent"], third["weights"]) == (False, 2, "dense")
    api.daemon.kill()
    api.daemon.start()
    assert active(api) == 1
    assert activate(api, 3)["published"] is True
    assert api.predict(images.png("grey", 1), top=1)["predictions"][0]["class"] == "grey"
    batch = api.get("/api/v1/batches/three").json()
    assert (batch["state"], batch["consumed_version"], pack.exists()) == ("consumed", 3, False)


def test_predictions_never_fail_while_versions_change(api):
    learn_two(api)
    for i in range(20):
        activate(api, 1 + i % 2)
        for seed in range(3):
            assert api.predict(images.png("red", seed))["model"] == 1 + i % 2


def test_unreadable_version_never_serves(api):
    learn_two(api)
    path = api.daemon.data_dir / "snapshots" / "1"
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    api.refused(api.post(MODELS + "/1/activate"), 500, "model_unreadable")
    assert active(api) == 2
    assert api.predict(images.png("red", 1))["model"] == 2


@pytest.mark.parametrize("version", ["7", "0", "x"])
def test_unknown_version(api, version):
    api.refused(api.post(f"{MODELS}/{version}/activate"), 404, "model_not_found")
    api.refused(api.delete(f"{MODELS}/{version}"), 404, "model_not_found")


def test_queued_job_builds_on_what_is_active_when_it_starts(api):
    learn_two(api)
    upload_step(api, "long", ["grey"])
    api.upload("blue", images.tar(["blue"], range(300, 330)))
    first = api.train("long", **LONG)
    running(api, first, 1)
    assert api.post("/api/v1/jobs?dry_run=1", json={"batches": ["blue"]}).json()["trains"] is False
    activate(api, 1)
    second = api.train("blue", **{**QUICK, "epochs": 1})
    api.post(f"/api/v1/jobs/{first['id']}/cancel")
    assert api.wait(second["id"])["base"] == 1
    assert wait_for(lambda: active(api) == 3)
