"""The publication gate: what it lets through, what it holds back and keeps, and what becomes of that."""

import pytest

import images
from test_end_to_end import FIRST, SECOND, TINY, upload_step
from test_versions import MODELS, activate, active, model

GATED = {**TINY, "epochs": 8, "gate": 0.3}
# Fine-tuning with a head of its own forgets whatever came before, in a step.
FORGETFUL = {**GATED, "method": "finetune", "classifier": "head", "epochs": 12, "lr_later": 5}


def pack(api, name):
    batch = api.get(f"/api/v1/batches/{name}").json()
    return batch, api.daemon.data_dir / "batches" / (batch["hash"] + ".train")


def held_back(api):
    upload_step(api, "one", FIRST)
    upload_step(api, "two", SECOND)
    first = api.learn("one", **{**FORGETFUL, "lr_later": TINY["lr_later"]})
    assert (first["gate"]["verdict"], first["gate"]["steps"]) == ("first_step", [])
    return api.learn("two", **FORGETFUL)


def test_held_back_and_activated(api):
    job = held_back(api)
    gate = job["gate"]
    assert (job["state"], job["version"], job["published"], gate["verdict"]) == ("succeeded", 2, False, "held_back")
    assert gate["limit"] == pytest.approx(0.3)
    assert gate["drop"] >= gate["drop_at_least"] > 0.3
    step = gate["steps"][0]
    assert (step["step"], step["test_images"]) == (1, 39)
    assert gate["drop"] == pytest.approx(step["before"] - step["after"], abs=2e-4)
    assert active(api) == 1
    assert api.predict(images.png("red", 1))["model"] == 1
    second = model(api, 2)
    assert (second["published"], second["active"], second["gate"], second["weights"]) == (False, False, gate, "dense")
    history = api.get("/api/v1/history").json()
    assert (history["versions"], history["accuracy_matrix"][0]) == ([1], [pytest.approx(step["before"], abs=1e-4)])
    batch, path = pack(api, "two")
    assert (batch["state"], path.exists()) == ("ready", True)  # to be learned otherwise
    api.daemon.kill()
    api.daemon.start()
    assert (active(api), model(api, 2)) == (1, second)
    assert activate(api, 2) == {**second, "active": True, "published": True}
    batch, path = pack(api, "two")
    assert (batch["state"], batch["consumed_version"], path.exists()) == ("consumed", 2, False)
    assert api.get("/api/v1/history").json()["accuracy_matrix"][1][0] == pytest.approx(step["after"], abs=1e-4)


def test_nothing_builds_on_it_and_it_goes(api):
    held_back(api)
    job = api.learn("two", **GATED)
    assert (job["base"], job["version"], job["published"], job["gate"]["verdict"]) == (1, 3, True, "passed")
    assert model(api, 2)["children"] == 0
    assert api.delete(f"{MODELS}/2").json()["forgotten_classes"] == SECOND
    assert api.job(2)["published"] is False
    assert api.predict(images.png("red", 1))["model"] == 3
    assert api.get("/api/v1/history").json()["versions"] == [1, 3]


def test_null_disables(api):
    upload_step(api, "one", FIRST)
    upload_step(api, "two", SECOND)
    api.learn("one", **GATED)
    job = api.learn("two", **{**FORGETFUL, "gate": None})
    assert (job["options"]["gate"], job["published"], job["gate"]["verdict"]) == (None, True, "off")
    assert job["gate"]["drop"] > 0.3


def test_not_measured_is_not_passed(api):
    api.upload("one", images.tar(FIRST, range(30)))
    api.learn("one", **{**GATED, "epochs": 1})
    upload_step(api, "two", SECOND)
    job = api.learn("two", **{**GATED, "epochs": 1})
    assert (job["published"], job["gate"]["verdict"], job["gate"]["drop"]) == (True, "not_measured", None)
    assert job["gate"]["steps"] == [{"step": 1, "before": None, "after": None, "test_images": 0}]


@pytest.mark.parametrize("gate", [-0.1, 1.1, "0.3", True])
def test_option_is_checked(api, gate):
    api.upload("one", images.tar(FIRST, range(3)))
    reply = api.post("/api/v1/jobs", json={"batches": ["one"], "options": {"gate": gate}})
    assert "gate" in api.refused(reply, 422, "bad_option")


def test_default(api):
    api.upload("one", images.tar(FIRST, range(3)))
    assert api.train("one", **{"depth": 8, "epochs": 1})["options"]["gate"] == 0.4
