"""Earlier snapshots whose features the classifier sees: the same answers after a restart, from an earlier version, without a class;
and what is said where one of them is gone."""

import numpy
import pytest

import images
from conftest import Client

STEPS = (["red", "green"], ["blue", "yellow"], ["violet", "grey"])
TINY = {"epochs": 6, "batch": 32, "lr": 0.02, "lr_later": 0.5, "flip": False, "pad": 2, "prune": {"keep": 0.5, "epochs": 1}}


def learn(api, **options):
    for i, labels in enumerate(STEPS, 1):
        api.upload(f"week-{i}", images.tar(labels, range(40)), holdout=0.2)
        api.learn(f"week-{i}", **TINY, **options, **({"depth": 8} if i == 1 else {}))


def samples():
    return [images.png(label, seed) for labels in STEPS for label in labels for seed in (2000, 2001)]


def answers(api, **query):
    return [{p["class"]: p["score"] for p in api.predict(image, top=100, **query)["predictions"]} for image in samples()]


@pytest.fixture
def steps(daemon):
    api = Client(daemon)
    learn(api)
    return api


def test_same_answers_from_files(steps):
    assert steps.get("/api/v1/jobs/3").json()["options"]["experts"] == 9
    assert [m["experts"] for m in steps.get("/api/v1/models").json()["models"]] == [2, 1, 0]
    live, earlier = answers(steps), answers(steps, model=2)
    steps.daemon.stop()
    steps.daemon.start()
    assert answers(steps) == live
    assert answers(steps, model=2) == earlier
    steps.post("/api/v1/models/2/activate")
    assert answers(steps) == earlier
    assert all(set(a) == {"red", "green", "blue", "yellow"} for a in earlier)


def test_features_of_all_networks(steps):
    for version in (1, 2, 3):
        features = numpy.array(steps.predict(samples()[0], features=1, model=version)["features"])
        assert len(features) == 64 * version
        assert numpy.linalg.norm(features) == pytest.approx(1, abs=1e-4)
        each = numpy.linalg.norm(features.reshape(version, 64), axis=1)
        assert each == pytest.approx([version ** -0.5] * version, abs=1e-4)
    one, three = (numpy.array(steps.predict(samples()[0], features=1, model=v)["features"]) for v in (1, 3))
    assert three[:64] * 3 ** 0.5 == pytest.approx(one, abs=1e-5), "the first expert is the snapshot of version 1"


def test_no_more_than_nine(api):
    """Twelve steps of a class each: the first nine snapshots stay the experts."""
    for i in range(12):
        look = images.CLASSES[i % len(images.CLASSES)]
        api.upload(f"day-{i}", images.tar([], [], [(f"class {i}", look, seed) for seed in range(1000 * i, 1000 * i + 24)]))
        api.learn(f"day-{i}", **{**TINY, "epochs": 1}, **({"depth": 8} if i == 0 else {}))
    assert [m["experts"] for m in api.get("/api/v1/models").json()["models"]] == [9, 9, *range(9, -1, -1)]
    assert len(api.predict(samples()[0], features=1)["features"]) == 640


def test_a_class_less(steps):
    reply = steps.delete("/api/v1/classes/red")
    assert reply.status_code in (200, 204), reply.text
    left = answers(steps)
    assert all("red" not in a and sum(a.values()) == pytest.approx(1, abs=1e-3) for a in left)
    steps.daemon.stop()
    steps.daemon.start()
    assert answers(steps) == left


def test_without_experts(api):
    learn(api, experts=0)
    assert len(api.predict(samples()[0], features=1)["features"]) == 64
    api.refused(api.post("/api/v1/jobs", json={"batches": ["week-1"], "options": {"experts": 64}}), 422, "bad_option")


def test_an_expert_that_is_gone(steps):
    """Who has lost a snapshot learns which folder to restore; what serves goes on."""
    live, snapshot = answers(steps), steps.daemon.data_dir / "snapshots" / "1"
    snapshot.rename(steps.daemon.data_dir / "kept")
    assert "snapshots/" in steps.refused(steps.get("/api/v1/models/3/export"), 500, "model_unreadable")
    assert answers(steps) == live
    steps.daemon.stop()
    with pytest.raises(AssertionError, match="cannot load the active model, or a snapshot that it asks, .*restore these"):
        steps.daemon.start()
    (steps.daemon.data_dir / "kept").rename(snapshot)
    steps.daemon.start()
    assert answers(steps) == live
    assert steps.get("/api/v1/models/3/export").status_code == 200
