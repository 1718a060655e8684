"""More images of known classes: alone, where the version that serves is refined in its place, and beside new classes."""

import pytest

import images
from conftest import Client
from test_classes import exported, rename, retire
from test_end_to_end import FIRST, SECOND, TINY, upload_step
from test_exemplars import kept
from test_shared import SHARED, snapshots
from test_versions import MODELS, QUICK, activate, active, answer, model

JOBS = "/api/v1/jobs"
ON = {k: v for k, v in TINY.items() if k != "depth"}


def history(api):
    return api.get("/api/v1/history").json()


def right(api, label, look, **query):
    """How many of some images of this look are called `label`."""
    return sum(api.predict(images.png(look, seed), **query)["predictions"][0]["class"] == label
               for seed in range(6000, 6020))


def said(api, *batches, **options):
    reply = api.post(JOBS + "?dry_run=1", json={"batches": batches, "options": options})
    assert reply.status_code == 200, reply.text
    return reply.json()


def listed(api):
    return [(m["version"], m["parent"], m["refines"], m["step"], m["children"], m["active"])
            for m in reversed(api.get(MODELS).json()["models"])]


@pytest.fixture(scope="module")
def skewed(module_daemon):
    """Two steps, the second of classes whose "blue" was seen in one look only; refined by images of the other. Tests may read."""
    api = Client(module_daemon)
    upload_step(api, "one", FIRST)
    upload_step(api, "two", SECOND)
    api.learn("one", **TINY)
    api.learn("two", **ON)
    api.upload("look", images.tar([], [], [("blue", "grey", s) for s in range(1100, 1120)]), split="test")
    api.upload("more", images.tar(["blue"], range(5000, 5040), [("blue", "grey", s) for s in range(5000, 5100)]))
    api.before, api.answers = history(api), answer(api, model=2)
    api.classes = api.get("/api/v1/classes").json()
    api.planned = said(api, "more", epochs=3, gate=0.4)
    api.more = api.learn("more", epochs=3, gate=0.4)
    return api


def test_dry_run_says_it(skewed):
    plan = skewed.planned
    assert (plan["trains"], plan["base"], plan["step"], plan["classes"]) == (False, 2, 2, [])
    assert plan["known_classes"] == [{"name": "blue", "train_images": 140, "test_images": 33}]
    warned = {w["code"]: w for w in plan["warnings"]}
    assert list(warned) == ["not_trained"]
    assert warned["not_trained"]["classes"] == ["blue"] and "version 2" in warned["not_trained"]["detail"]
    assert skewed.more["warnings"] == plan["warnings"]
    assert plan["options"]["classifier"] == "discriminant"


def test_version_takes_its_bases_place(skewed):
    job = skewed.more
    assert (job["base"], job["version"], job["published"], job["train_images"]) == (2, 3, True, 140)
    assert skewed.get(f"{JOBS}/{job['id']}/metrics").json()["epochs"] == []
    assert listed(skewed) == [(1, None, None, 1, 2, False), (2, 1, None, 2, 0, False), (3, 1, 2, 2, 0, True)]
    assert skewed.get("/api/v1/batches/more").json()["state"] == "consumed"
    now = history(skewed)
    assert now["versions"] == [1, 3]
    assert now["accuracy_matrix"][0] == skewed.before["accuracy_matrix"][0]
    assert [len(row) for row in now["accuracy_matrix"]] == [1, 2]
    assert [c["step"] for c in now["per_class"]] == [1, 1, 1, 2, 2]
    listed_now = skewed.get("/api/v1/classes").json()
    assert listed_now == skewed.classes  # ids and since_version too
    assert skewed.get("/api/v1/storage").status_code == 200
    for path in ("/", "/api/v1/snapshots", "/api/v1/exemplars", JOBS, "/metrics"):
        assert skewed.get(path).status_code == 200


def test_gate_looks_at_every_step(skewed):
    gate = skewed.more["gate"]
    assert (gate["verdict"], [s["step"] for s in gate["steps"]]) == ("passed", [1, 2])
    assert gate["steps"][0]["before"] == pytest.approx(skewed.before["accuracy_matrix"][1][0], abs=1e-4)


def test_class_is_known_better_and_the_others_as_well(skewed):
    assert right(skewed, "blue", "grey", model=3) >= right(skewed, "blue", "grey", model=2) + 8
    for label in FIRST + SECOND:
        assert right(skewed, label, label, model=3) >= right(skewed, label, label, model=2) - 2


def test_weights_are_the_bases(skewed):
    """What the network itself says, its head, is the same to the bit; snapshots differ in means alone."""
    (_, old), (_, new) = (exported(skewed, version) for version in (2, 3))
    assert {name for name in old if (old[name] != new[name]).any()} == {
        "prototypes", "covariance", "experts.prototypes", "experts.covariance"}
    two, three = (snapshots(skewed)[v] for v in (2, 3))
    assert two["sparsity"] == three["sparsity"]
    assert two["share"] < three["share"] < two["share"] + 0.06  # its statistics in halves, which can move a little


def test_back_and_on_from_a_refined_step(api):
    upload_step(api, "one", FIRST)
    api.learn("one", **QUICK)
    api.upload("more", images.tar(["red"], range(5000, 5030)))
    two = api.learn("more", gate=None)  # of the first step, which has no parent
    assert (two["gate"]["verdict"], two["options"]["epochs"] > 0) == ("off", True)
    old = answer(api, model=1)
    assert listed(api) == [(1, None, None, 1, 0, False), (2, None, 1, 1, 0, True)]
    assert activate(api, 1)["weights"] == "dense" and answer(api) == old
    assert history(api)["versions"] == [1]
    activate(api, 2)
    upload_step(api, "two", SECOND)
    api.learn("two", **{**ON, "epochs": 8})
    assert listed(api)[2] == (3, 2, None, 2, 0, True)
    assert (api.delete(MODELS + "/1").json()["forgotten_classes"], history(api)["versions"]) == ([], [2, 3])
    assert [c["since_version"] for c in api.get("/api/v1/classes").json()["classes"]] == [1, 1, 1, 3, 3]
    assert "Version 2 knows" in api.refused(rename(api, "green", "red"), 409, "name_taken")  # 1, which brought it, is gone
    api.refused(api.delete(MODELS + "/2"), 409, "version_has_children")
    api.daemon.kill()
    api.daemon.start()
    assert (active(api), history(api)["versions"]) == (3, [2, 3])
    # Its classes are renamed and retired as ever, and their images go where they are called now.
    api.upload("again", images.tar(["green"], range(5000, 5030)))
    assert rename(api, "green", "lime").status_code == 200
    assert said(api, "again")["known_classes"][0]["name"] == "lime"
    api.upload("lime", images.tar([], [], [("lime", "green", s) for s in range(5100, 5110)]))
    assert said(api, "lime", "again")["known_classes"][0]["train_images"] == 40
    assert api.learn("again", "lime")["version"] == 4
    assert retire(api, "red").status_code == 200
    assert "red" not in [c["name"] for c in api.get("/api/v1/classes").json()["classes"]]
    api.upload("red", images.tar(["red"], range(5000, 5030)))
    planned = said(api, "red")  # its name is free: a new class
    assert (planned["trains"], [c["name"] for c in planned["classes"]]) == (True, ["red"])
    assert model(api, 4)["class_names"] == ["lime", "violet"] + SECOND


def test_beside_new_classes_with_exemplars(api):
    keeps = {"exemplars": {"total": 30}}
    upload_step(api, "one", FIRST)
    api.learn("one", **QUICK, **keeps)
    upload_step(api, "two", SECOND)
    api.upload("more", images.tar(["red"], range(5000, 5040)))
    planned = said(api, "two", "more")
    assert (planned["trains"], planned["step"]) == (True, 2)
    assert [c["name"] for c in planned["classes"]] == SECOND
    assert [c["name"] for c in planned["known_classes"]] == ["red"]
    job = api.learn("two", "more", **{**ON, "epochs": 8}, **keeps)
    assert (job["version"], job["train_images"]) == (2, 160)
    assert listed(api)[1] == (2, 1, None, 2, 0, True)
    assert set(kept(api).values()) == {6}
    assert history(api)["accuracy_matrix"][1][0] > 0.5
    api.upload("rest", images.tar(["blue"], range(5000, 5040)))
    api.learn("rest", **keeps)
    assert (set(kept(api).values()), active(api)) == ({6}, 3)


def test_head_has_nothing_to_refine(api):
    upload_step(api, "one", FIRST)
    api.learn("one", **{**QUICK, "epochs": 1, "classifier": "head"})
    api.upload("more", images.tar(["red"], range(5000, 5010)))
    for options in ({}, {"classifier": "head"}):
        reply = api.post(JOBS, json={"batches": ["more"], "options": options})
        assert "discriminant" in api.refused(reply, 422, "head_needs_new_classes")
    assert api.learn("more", classifier="prototypes")["options"]["classifier"] == "prototypes"


def test_class_of_a_waiting_job(api):
    upload_step(api, "one", FIRST)
    for name, label in (("new", "blue"), ("blue", "blue"), ("more", "red"), ("most", "red")):
        api.upload(name, images.tar([label], range(5000, 5030)))
    api.learn("one", **{**QUICK, "epochs": 1})
    waits = api.train("new", **{**ON, "epochs": 5000})
    api.refused(api.post(JOBS, json={"batches": ["blue"]}), 409, "class_in_queue")
    jobs = [api.train("more", gate=None), api.train("most", gate=None)]  # known ones may wait twice
    api.post(f"{JOBS}/{waits['id']}/cancel")
    assert [api.wait(j["id"])["base"] for j in jobs] == [1, 2]
    assert listed(api)[-1] == (3, None, 2, 1, 0, True)


def test_retry_of_a_step_whose_class_is_known_by_now(api):
    upload_step(api, "one", FIRST)
    for name in ("new", "blue"):
        api.upload(name, images.tar(["blue"], range(5000, 5030)))
    api.learn("one", **{**QUICK, "epochs": 1})
    job = api.train("new", **{**ON, "epochs": 5000})
    api.post(f"{JOBS}/{job['id']}/cancel")
    assert api.wait(job["id"])["state"] == "cancelled"
    api.learn("blue", **{**ON, "epochs": 1}, exemplars={"total": 30})
    before = kept(api)
    assert list(before) == ["blue"]
    again = api.post(f"{JOBS}/{job['id']}/retry").json()
    assert api.wait(again["id"])["version"] == 3
    assert listed(api)[-1] == (3, 1, 2, 2, 0, True)
    assert kept(api) == before  # nobody wished them gone


def test_shared_store(api):
    upload_step(api, "one", FIRST)
    upload_step(api, "two", SECOND)
    api.upload("more", images.tar(["blue"], range(5000, 5040)))
    api.learn("one", **SHARED)
    api.learn("two", **SHARED)
    api.learn("more")
    stored = snapshots(api)
    assert (stored[3]["store"], stored[3]["sparsity"]) == ("shared", stored[2]["sparsity"])
    assert api.delete(MODELS + "/2").status_code == 200
    (api.daemon.data_dir / "models" / "3").unlink()
    api.daemon.kill()
    api.daemon.start()
    assert right(api, "blue", "blue") > 10 # out of its own snapshot, on that of version 1
    upload_step(api, "other", ["grey"])
    assert api.learn("other", **SHARED)["version"] == 4
    assert snapshots(api)[4]["sparsity"] < stored[2]["sparsity"]
