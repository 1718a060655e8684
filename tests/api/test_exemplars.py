"""Exemplars: what is kept, that it is replayed, that it can be counted and deleted, and what a damaged store does."""

import images
import pytest

TINY = {"depth": 8, "epochs": 6, "batch": 32, "lr": 0.02, "lr_later": 1, "flip": False, "pad": 2,
        "prune": {"keep": 0.5, "epochs": 0}}
PATH = "/api/v1/exemplars"
NOTHING = {"images": 0, "bytes": 0, "classes": []}


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
    assert kept(api) == {"red": 6, "green": 6}
    assert files(api) == ["1"]
    before = (api.daemon.data_dir / "exemplars" / "1").read_bytes()
    api.daemon.stop()  # they outlast a restart
    api.daemon.start()
    assert (api.daemon.data_dir / "exemplars" / "1").read_bytes() == before

    second = learn(api, "two", ["blue"], 13, loss="softmax")  # one class, which needs them
    assert second["train_images"] == 40  # new images, not what is replayed
    assert kept(api) == {"red": 4, "green": 4, "blue": 4}
    assert files(api) == ["2"]  # those of the version before are gone

    stored = api.get("/api/v1/storage").json()["exemplars"]
    assert stored == {"count": 12, "bytes": (api.daemon.data_dir / "exemplars" / "2").stat().st_size}
    deleted = api.request("DELETE", PATH).json()
    assert deleted["images"] == 12
    assert api.get("/api/v1/storage").json()["exemplars"] == {"count": 0, "bytes": 0}
    assert api.get(PATH).json() == NOTHING and files(api) == []
    assert api.request("DELETE", PATH).json() == NOTHING

    learn(api, "three", ["yellow"], 8)  # nothing left to replay; it keeps its own
    assert kept(api) == {"yellow": 2}
    learn(api, "four", ["grey"], 0)
    assert api.get(PATH).json() == NOTHING and files(api) == []


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


@pytest.mark.parametrize("options, member", [
    ({"exemplars": {"total": -1}}, "exemplars.total"),
    ({"exemplars": {"select": "best"}}, "exemplars.select"),
    ({"exemplars": 20}, "exemplars"),
])
def test_refused_options(api, options, member):
    api.upload("one", images.tar(["red", "green"], range(3)))
    reply = api.post("/api/v1/jobs", json={"batches": ["one"], "options": options})
    assert member in api.refused(reply, 422, "bad_option")
