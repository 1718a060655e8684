"""GET /api/v1/storage: what is kept, counted before, between and after a job. And curves thinned out, which are many."""

import os
import sqlite3

import images
from conftest import Client

TINY = {"depth": 8, "epochs": 3, "batch": 32, "prune": {"keep": 0.5, "epochs": 1}}


def test_what_is_kept(start_daemon, tmp_path):
    daemon = start_daemon(tmp_path / "data", min_free_bytes=12345)
    api = Client(daemon)
    nothing = {"count": 0, "bytes": 0}
    kept = api.get("/api/v1/storage").json()
    assert {kept[k] == nothing for k in ("test_images", "training_images", "snapshots", "models", "prototypes")} == {True}
    assert kept["disk"]["reserve_bytes"] == 12345

    batch = api.upload("one", images.tar(["red", "green"], range(20)), holdout=0.2)
    kept = api.get("/api/v1/storage").json()
    assert kept["training_images"] == {"count": 32, "bytes": batch["train_bytes"]}
    assert kept["test_images"] == {"count": 8, "bytes": batch["test_bytes"]}

    version = api.learn("one", **TINY)["version"]
    kept = api.get("/api/v1/storage").json()
    snapshot, = api.get("/api/v1/snapshots").json()["snapshots"]
    assert kept["training_images"] == nothing
    assert kept["test_images"] == {"count": 8, "bytes": batch["test_bytes"]}
    assert kept["snapshots"] == {"count": 1, "bytes": snapshot["bytes"]}
    assert kept["models"] == {"count": 1, "bytes": api.get(f"/api/v1/models/{version}").json()["model_bytes"]}
    assert kept["prototypes"] == {"count": 2, "bytes": 2 * 64 * 4}

    api.upload("two", images.tar(["blue"], range(50, 70)))
    kept = api.get("/api/v1/storage").json()
    assert kept["training_images"]["count"] == 20
    files = os.statvfs(tmp_path)
    assert kept["disk"]["total_bytes"] == files.f_blocks * files.f_frsize
    assert 0 < kept["disk"]["free_bytes"] < kept["disk"]["total_bytes"]
    daemon.stop()
    with sqlite3.connect(tmp_path / "data/accreted.db") as db:
        pages, size = db.execute("SELECT page_count, page_size FROM pragma_page_count, pragma_page_size").fetchone()
    assert kept["database_bytes"] <= pages * size


def test_a_long_curve_is_thinned_out(daemon, api):
    api.upload("one", images.tar(["red", "green"], range(4)))
    job = api.learn("one", **{**TINY, "epochs": 60})["id"]
    path = f"/api/v1/jobs/{job}/metrics"
    whole = api.get(path).json()["epochs"]
    assert len(whole) == 61
    assert api.get(path, params={"points": 61}).json()["epochs"] == whole
    thin = api.get(path, params={"points": 10}).json()["epochs"]
    assert 4 <= len(thin) <= 10
    assert thin[0] == whole[0] and thin[-1] == whole[-1]
    assert all(epoch in whole for epoch in thin)
    loss = [sum(e[k] or 0 for k in ("loss_class", "loss_mmd", "loss_ad")) for e in whole[1:-1]]
    assert whole[1 + loss.index(max(loss))] in thin


def test_points_that_are_none(api):
    for points in ("3", "0", "-1", "10001", "many", "1e3"):
        api.refused(api.get("/api/v1/jobs/1/metrics", params={"points": points}), 400, "bad_query")
