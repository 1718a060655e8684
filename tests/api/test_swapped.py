"""Sound files of another data directory where a version's own belong, as after a backup restored in part: a job that would
read them fails, says which way out there is, and leaves its batch; what is restored goes on."""

import shutil

import pytest

from conftest import Client
from test_end_to_end import FIRST, SECOND, TINY, upload_step
from test_versions import active

QUICK = {**TINY, "epochs": 2}
DEEPER = {**QUICK, "depth": 14}
LARGER = {**QUICK, "input": {"channels": 3, "height": 48, "width": 48}}


def learned(started, folder, batches, options):
    api = Client(started(folder))
    for name, classes in batches.items():
        upload_step(api, name, classes)
        api.learn(name, **options)
    return api


@pytest.fixture
def swap(api, start_daemon, tmp_path):
    """A daemon that learned FIRST; a function (folder, batches, options) puts there, for version 1, the last file of another."""
    upload_step(api, "one", FIRST)
    api.learn("one", **QUICK)
    upload_step(api, "two", SECOND)

    def swap(folder, batches, options):
        other = learned(start_daemon, tmp_path / "other", batches, options)
        mine = api.daemon.data_dir / folder / "1"
        shutil.copy(mine, tmp_path / "kept")
        shutil.copy(other.daemon.data_dir / folder / str(len(batches)), mine)
        return mine
    return swap


def fails(api, code, **options):
    job = api.wait(api.train("two", **options)["id"])
    assert (job["state"], job["error"]["code"]) == ("failed", code), job
    assert "backup" in job["error"]["detail"]
    assert api.get(f"/api/v1/jobs/{job['id']}/metrics").json()["epochs"] == []
    assert api.get("/api/v1/batches/two").json()["state"] == "ready"
    assert active(api) == 1


@pytest.mark.parametrize("store", ["standalone", "shared"])
def test_snapshot_of_another_network(api, swap, tmp_path, store):
    mine = swap("snapshots", {"one": FIRST}, DEEPER)
    fails(api, "snapshot_damaged", **QUICK, store=store)
    fails(api, "snapshot_damaged", **QUICK, store=store, feature_weight=0)
    shutil.copy(tmp_path / "kept", mine)
    assert api.learn("two", **QUICK, store=store)["version"] > 1


def test_model_of_another_shape(api, swap, tmp_path):
    mine = swap("models", {"one": FIRST}, LARGER)
    fails(api, "model_unreadable", **QUICK)
    shutil.copy(tmp_path / "kept", mine)
    api.learn("two", **QUICK)


def test_model_of_more_steps(api, swap):
    """It has the classes, but two steps for them, and there is a snapshot of one."""
    swap("models", {"a": FIRST[:1], "b": FIRST[1:]}, QUICK)
    fails(api, "model_unreadable", **QUICK)
