"""Exemplars: what is kept, that it is replayed, that it can be counted and deleted, and what a damaged store does."""

import images
import pytest
from test_end_to_end import FIRST, SECOND, upload_step
from test_gate import FORGETFUL, GATED
from test_versions import MODELS, activate, active

TINY = {"depth": 8, "epochs": 6, "batch": 32, "lr": 0.02, "lr_later": 1, "flip": False, "pad": 2,
        "prune": {"keep": 0.5, "epochs": 0}}
PATH = "/api/v1/exemplars"
NOTHING = {"images": 0, "bytes": 0, "classes": [], "other_versions": {"images": 0, "bytes": 0}}


def kept(api):
    reply = api.get(PATH).json()
    assert reply["images"] == sum(c["images"] for c in reply["classes"])
    assert (reply["bytes"] > 0) == (reply["images"] > 0)
    return {c["name"]: c["images"] for c in reply["classes"]}


def files(api):
    return sorted(f.name for f in (api.daemon.data_dir / "exemplars").iterdir())


def learn(api, name, labels, total, **options):
    api.upload(name, images.tar(labels, range(40)))
    return api.learn(name, **{**TINY, **options}, exemplars={"total": total})


def test_kept_replayed_and_deleted(api):
    assert api.get(PATH).json() == NOTHING
    first = learn(api, "one", ["red", "green"], 13)
    assert first["options"]["exemplars"] == {"total": 13, "select": "herding"}
    assert first["options"]["method"] == "m2kd"  # no old class yet
    assert kept(api) == {"red": 6, "green": 6}
    assert files(api) == ["1"]
    before = (api.daemon.data_dir / "exemplars" / "1").read_bytes()
    api.daemon.stop()  # they outlast a restart
    api.daemon.start()
    assert (api.daemon.data_dir / "exemplars" / "1").read_bytes() == before

    second = learn(api, "two", ["blue"], 13, loss="softmax")  # one class, which needs them
    assert second["train_images"] == 40  # new images, not what is replayed
    assert second["options"]["method"] == "finetune"
    assert kept(api) == {"red": 4, "green": 4, "blue": 4}
    assert files(api) == ["2"]  # those of the version before are gone

    stored = api.get("/api/v1/storage").json()["exemplars"]
    assert stored == {"count": 12, "bytes": (api.daemon.data_dir / "exemplars" / "2").stat().st_size}
    deleted = api.request("DELETE", PATH).json()
    assert deleted["images"] == 12
    assert api.get("/api/v1/storage").json()["exemplars"] == {"count": 0, "bytes": 0}
    assert api.get(PATH).json() == NOTHING and files(api) == []
    assert api.request("DELETE", PATH).json() == NOTHING

    third = learn(api, "three", ["yellow"], 8)  # nothing left to replay; it keeps its own
    assert third["options"]["method"] == "m2kd"
    assert kept(api) == {"yellow": 2}
    learn(api, "four", ["grey"], 0)
    assert api.get(PATH).json() == NOTHING and files(api) == []


def test_method_is_settled_when_a_job_begins(api):
    """Teachers beside exemplars only where somebody asks for them, or there is an old class without any."""
    api.upload("one", images.tar(["red", "green"], range(40)))
    api.upload("two", images.tar(["blue"], range(40)))
    waiting = [api.train(name, **TINY, exemplars={"total": 12}) for name in ("one", "two")]
    assert waiting[1]["options"]["method"] == "auto"
    done = [api.wait(job["id"]) for job in waiting]
    assert [(job["state"], job["options"]["method"]) for job in done] == [("succeeded", "m2kd"), ("succeeded", "finetune")]
    taught = learn(api, "three", ["yellow"], 12, method="m2kd")
    assert taught["options"]["method"] == "m2kd"
    assert api.get(f"/api/v1/jobs/{taught['id']}/metrics").json()["epochs"][0]["loss_mmd"] > 0
    assert learn(api, "four", ["grey"], 12, experts=0)["options"]["method"] == "m2kd"


def test_damage_is_refused_and_can_be_cleared(api):
    learn(api, "one", ["red", "green"], 8)
    path = api.daemon.data_dir / "exemplars" / "1"
    content = bytearray(path.read_bytes())
    content[200] ^= 1
    path.write_bytes(content)
    assert api.get(PATH).json()["images"] == 7
    api.upload("two", images.tar(["blue"], range(20)))
    job = api.wait(api.train("two", **TINY, exemplars={"total": 8})["id"])
    assert (job["state"], job["error"]["code"]) == ("failed", "corrupt_exemplars")
    api.request("DELETE", PATH)
    api.learn("two", **TINY, exemplars={"total": 8})
    assert kept(api) == {"blue": 2}


def held_back(api):
    """Version 1 keeps 10 images of each of FIRST; version 2, held back, 2 of each of FIRST and SECOND."""
    upload_step(api, "one", FIRST)
    upload_step(api, "two", SECOND)
    api.learn("one", **{**FORGETFUL, "lr_later": TINY["lr_later"]}, exemplars={"total": 30})
    job = api.learn("two", **{**FORGETFUL, "gate": 0}, exemplars={"total": 10})
    assert (job["version"], job["published"]) == (2, False)
    assert files(api) == ["1", "2"]


def size(api, *versions):
    return sum((api.daemon.data_dir / "exemplars" / str(v)).stat().st_size for v in versions)


def restart(api):
    api.daemon.stop()
    api.daemon.start()


def test_what_is_held_back_replaces_none(api):
    held_back(api)
    of_first = dict.fromkeys(FIRST, 10)
    assert kept(api) == of_first
    restart(api)
    assert (kept(api), files(api)) == (of_first, ["1", "2"])
    waiting = size(api, 2)
    said = api.get(PATH).json()
    assert said["other_versions"] == {"images": 10, "bytes": waiting}
    assert api.get("/api/v1/storage").json()["exemplars"] == {"count": 40, "bytes": size(api, 1, 2)}

    assert api.learn("two", **GATED, exemplars={"total": 50})["published"]  # replays all of version 1's
    assert kept(api) == dict.fromkeys(FIRST + SECOND, 10)
    assert files(api) == ["2", "3"]  # what was held back may be activated still
    activate(api, 2)
    assert kept(api) == dict.fromkeys(FIRST + SECOND, 2)
    activate(api, 3)  # neither way deletes any
    assert kept(api) == dict.fromkeys(FIRST + SECOND, 10)
    learn(api, "three", ["grey"], 0, gate=None)  # every file of a version that served is gone
    assert (api.get(PATH).json(), files(api)) == (NOTHING, [])


def test_held_back_then_activated(api):
    held_back(api)
    activate(api, 2)
    restart(api)
    assert (kept(api), files(api)) == (dict.fromkeys(FIRST + SECOND, 2), ["1", "2"])
    activate(api, 1)
    assert kept(api) == dict.fromkeys(FIRST, 10)
    activate(api, 2)
    learn(api, "three", ["grey"], 60, gate=None)
    assert kept(api) == {**dict.fromkeys(FIRST + SECOND, 2), "grey": 10}
    assert files(api) == ["3"]


def test_discard_of_what_was_held_back(api):
    held_back(api)
    sizes = [(api.daemon.data_dir / folder / "2").stat().st_size for folder in ("models", "snapshots", "exemplars")]
    assert api.delete(MODELS + "/2").json()["freed_bytes"] == sum(sizes)
    assert (kept(api), files(api)) == (dict.fromkeys(FIRST, 10), ["1"])
    assert api.get(PATH).json()["other_versions"] == NOTHING["other_versions"]


def test_discard_of_what_served(api):
    """A step back has no other exemplars than those of the version it came from: discarding that one leaves them, and so does a
    restart."""
    learn(api, "one", ["red", "green"], 20)
    learn(api, "two", ["blue", "yellow"], 20)
    activate(api, 1)
    before = api.get(PATH).json()
    sizes = [(api.daemon.data_dir / folder / "2").stat().st_size for folder in ("models", "snapshots")]
    said = api.delete(MODELS + "/2").json()
    assert said["freed_bytes"] == sum(sizes) and "exemplars" in said["remains"]
    assert (api.get(PATH).json(), files(api)) == (before, ["2"])
    restart(api)
    assert (api.get(PATH).json(), files(api)) == (before, ["2"])
    learn(api, "three", ["violet", "grey"], 40)
    assert active(api) == 3
    assert kept(api) == {"red": 5, "green": 5, "violet": 10, "grey": 10}
    assert files(api) == ["3"]


def test_delete_takes_those_that_wait_too(api):
    held_back(api)
    said = api.get(PATH).json()
    assert api.delete(PATH).json() == said
    assert (api.get(PATH).json(), files(api)) == (NOTHING, [])
    assert api.get("/api/v1/storage").json()["exemplars"] == {"count": 0, "bytes": 0}


@pytest.mark.parametrize("options, member", [
    ({"exemplars": {"total": -1}}, "exemplars.total"),
    ({"exemplars": {"select": "best"}}, "exemplars.select"),
    ({"exemplars": 20}, "exemplars"),
])
def test_refused_options(api, options, member):
    api.upload("one", images.tar(["red", "green"], range(3)))
    reply = api.post("/api/v1/jobs", json={"batches": ["one"], "options": options})
    assert member in api.refused(reply, 422, "bad_option")
