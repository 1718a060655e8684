"""Snapshots that share their weights: steps, going back, branches and discarding, and when there is no room left."""

import pytest

import images
from test_end_to_end import FIRST, LONG, SECOND, TINY, upload_step
from test_versions import MODELS, activate, answer, model

SHARED = {**TINY, "epochs": 8, "store": "shared", "prune": {"keep": 0.4, "epochs": 1}, "experts": 0}


def snapshots(api):
    return {s["version"]: s for s in api.get("/api/v1/snapshots").json()["snapshots"]}


def test_steps_back_and_branches(api):
    upload_step(api, "one", FIRST)
    upload_step(api, "two", SECOND)
    job = api.learn("one", **SHARED)
    assert job["options"]["store"] == "shared"
    files = [api.daemon.data_dir / "snapshots" / str(n) for n in range(1, 4)]
    first = files[0].read_bytes()
    api.learn("two", **SHARED)
    asked = answer(api, model=1)
    stored = snapshots(api)
    for version, left in ((1, 0.6), (2, 0.36)):
        s = stored[version]
        assert (s["store"], s["bytes"]) == ("shared", files[version - 1].stat().st_size)
        assert s["sparsity"] == pytest.approx(left, abs=0.01)
    assert stored[2]["share"] < stored[1]["share"] < 0.2

    # Back, and on in another branch, in which what version 2 claimed is free again.
    activate(api, 1)
    assert answer(api) == asked
    upload_step(api, "other", ["grey", "blue"])
    job = api.learn("other", **SHARED)
    assert (job["base"], job["version"]) == (1, 3)
    assert snapshots(api)[3]["sparsity"] == pytest.approx(0.36, abs=0.01)
    assert files[0].read_bytes() == first  # whatever was learned since

    # Without its dense file each version is rebuilt from its chain, after a restart too; one that is let go takes only its own with it.
    for version in (2, 3):
        (api.daemon.data_dir / "models" / str(version)).unlink()
    api.daemon.kill()
    api.daemon.start()
    assert answer(api, model=1) == asked
    assert model(api, 2)["class_names"] == FIRST + SECOND
    assert api.predict(images.png("yellow", 5), model=2)["model"] == 2
    assert api.predict(images.png("grey", 5), model=3)["predictions"][0]["class"] == "grey"
    assert api.delete(MODELS + "/2").status_code == 200
    assert answer(api, model=1) == asked
    assert api.predict(images.png("grey", 5), model=3)["predictions"][0]["class"] == "grey"


def test_no_room_left(api):
    """What is too little is refused before anything is trained; a snapshot by itself always fits."""
    upload_step(api, "one", FIRST)
    upload_step(api, "two", SECOND)
    api.learn("one", **{**SHARED, "prune": {"keep": 0.97, "epochs": 0}})
    job = {"batches": ["two"], "options": SHARED}
    assert "store=standalone" in api.refused(api.post("/api/v1/jobs", json=job), 409, "capacity_exhausted")
    api.learn("two", **{**SHARED, "store": "standalone"})
    assert snapshots(api)[2]["store"] == "standalone"


def test_posted_while_there_was_room(api):
    """The job before it takes it: then this one fails, before it trains, and its batch stays."""
    upload_step(api, "one", FIRST)
    upload_step(api, "two", SECOND)
    upload_step(api, "before", ["grey"])
    before = api.train("before", **LONG)  # the other two are posted while it runs
    first = api.train("one", **{**SHARED, "prune": {"keep": 0.97, "epochs": 0}})
    second = api.train("two", **SHARED)
    assert api.post(f"/api/v1/jobs/{before['id']}/cancel").status_code == 200
    second = api.wait(second["id"])
    assert api.wait(first["id"])["state"] == "succeeded"
    assert (second["state"], second["error"]["code"]) == ("failed", "capacity_exhausted")
    assert api.get(f"/api/v1/jobs/{second['id']}/metrics").json()["epochs"] == []
    assert api.get("/api/v1/batches/two").json()["state"] == "ready"
    api.refused(api.post("/api/v1/jobs", json={"batches": ["two"], "options": {**SHARED, "method": "frozen",
                                                                              "classifier": "prototypes"}}), 422, "bad_option")
