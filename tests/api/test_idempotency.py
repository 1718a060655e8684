"""Idempotency-Key: a POST that is sent again does nothing twice, is answered alike, over restarts too."""

import concurrent.futures
import json
import sqlite3
import time

import pytest

import images
from conftest import DOCUMENTS, Client, wait_for

SLOW = {"depth": 8, "epochs": 5000, "batch": 32}
HARMLESS = ("/api/v1/predict", "/v2/", "/api/v1/session", "/api/v1/tokens")


def keyed(key, **more):
    return {"headers": {"Idempotency-Key": key, **more}}


def post_job(api, key, names=("one",), options=SLOW, **headers):
    return api.post("/api/v1/jobs", json={"batches": list(names), "options": options}, **keyed(key, **headers))


@pytest.fixture
def ready(api):
    """A client whose daemon has two batches to train on."""
    api.upload("one", images.tar(["red", "green"], range(20)))
    api.upload("two", images.tar(["blue", "yellow"], range(20)))
    return api


def jobs(api):
    return [job["id"] for job in api.get("/api/v1/jobs").json()["jobs"]]


def same(again, first):
    assert again.status_code == first.status_code
    assert again.content == first.content
    assert again.headers["Idempotency-Replayed"] == "true"
    assert "Idempotency-Replayed" not in first.headers
    for name in ("Location", "Retry-After", "Content-Type"):
        assert again.headers.get(name) == first.headers.get(name)


def test_every_post_that_changes_something_takes_a_key():
    for path, item in DOCUMENTS["openapi.json"]["paths"].items():
        if "post" in item and not path.startswith(HARMLESS):
            assert {"$ref": "#/components/parameters/idempotency_key"} in item["post"]["parameters"], path


def test_a_repeated_post_is_replayed_over_a_restart(ready):
    first = post_job(ready, "k1")
    assert (first.status_code, first.headers["Location"]) == (202, "/api/v1/jobs/1")
    same(post_job(ready, "k1"), first)
    ready.daemon.kill()
    ready.daemon.start()
    same(post_job(ready, "k1"), first)
    assert jobs(ready) == [1]


def test_another_request_with_the_key_is_refused(ready):
    first = post_job(ready, "k1")
    for again in (post_job(ready, "k1", ["two"]), post_job(ready, "k1", options={**SLOW, "epochs": 4999}),
                  ready.post("/api/v1/jobs/1/cancel", **keyed("k1")),
                  ready.post("/api/v1/batches?name=x", data=images.tar(["red"], range(2)), **keyed("k1"))):
        ready.refused(again, 422, "idempotency_key_reused")
    assert jobs(ready) == [1]
    same(post_job(ready, "k1"), first)


def test_a_refusal_is_not_kept(ready):
    ready.refused(post_job(ready, "k1", ["three"]), 404, "batch_not_found")
    ready.upload("three", images.tar(["violet"], range(20)))
    assert post_job(ready, "k1", ["three"]).status_code == 202
    assert post_job(ready, "k2", ["two"]).status_code == 202  # refused or not, keys stand for themselves


def test_every_route_replays(ready):
    first = post_job(ready, "job")
    cancelled = ready.post("/api/v1/jobs/1/cancel", **keyed("cancel"))
    wait_for(lambda: ready.job(1)["state"] == "cancelled")
    same(ready.post("/api/v1/jobs/1/cancel", **keyed("cancel")), cancelled)
    same(post_job(ready, "job"), first)  # what it was told then, not what became of it
    tar = images.tar(["grey"], range(3))
    uploaded = ready.post("/api/v1/batches?name=tar", data=tar, **keyed("tar"))
    assert uploaded.status_code == 201
    same(ready.post("/api/v1/batches?name=tar", data=tar, **keyed("tar")), uploaded)  # without the key it were 200
    ready.refused(ready.post("/api/v1/batches?name=other", data=tar, **keyed("tar")), 422, "idempotency_key_reused")
    ready.refused(ready.post("/api/v1/batches?name=tar", data=tar + b"\0", **keyed("tar")), 422,
                  "idempotency_key_reused")


def test_at_once_only_one_is_done(ready):
    """Of many at once each is either told to wait or given the one reply."""
    tar = images.tar(["grey", "violet"], range(100))

    def upload(_):
        return ready.post("/api/v1/batches", data=tar, **keyed("same"))

    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        replies = list(pool.map(upload, range(8)))
    codes = sorted(reply.status_code for reply in replies)
    assert set(codes) <= {201, 409} and 201 in codes
    first = [reply for reply in replies if reply.status_code == 201 and "Idempotency-Replayed" not in reply.headers]
    assert len(first) == 1
    for reply in replies:
        if reply.status_code == 409:
            ready.refused(reply, 409, "idempotency_in_flight")
            assert reply.json()["retryable"] and reply.headers["Retry-After"] == "1"
        elif reply is not first[0]:
            same(reply, first[0])
    same(upload(0), first[0])


@pytest.mark.parametrize("key", ["x" * 256, "a b", "é"])
def test_bad_key(ready, key):
    reply = post_job(ready, key.encode())
    ready.refused(reply, 400, "bad_idempotency_key")
    assert jobs(ready) == []


def test_the_longest_key(ready):
    first = post_job(ready, "x" * 255)
    same(post_job(ready, "x" * 255), first)


def test_keys_belong_to_their_token(ready):
    def token(**headers):
        return {"Authorization": "Bearer " + ready.post("/api/v1/tokens", json={"scope": "admin"},
                                                        headers=headers).json()["token"]}
    mine = token()
    yours = token(**mine)
    first = post_job(ready, "k1", **mine)
    assert first.status_code == 202
    ready.refused(post_job(ready, "k1", **yours), 409, "batch_in_use")
    same(post_job(ready, "k1", **mine), first)


def test_a_token_is_never_stored(api):
    reply = api.post("/api/v1/tokens", json={"scope": "admin"}, **keyed("k1"))
    api.refused(reply, 400, "idempotency_key_not_taken")


# ---- what is in the database ----

def rows(daemon, statement, *values):
    """With the daemon stopped: nobody else may write to its database."""
    with sqlite3.connect(daemon.data_dir / "accreted.db") as db:
        return db.execute(statement, values).fetchall()


def test_a_key_is_forgotten_after_a_day(ready):
    first = post_job(ready, "k1")
    day_ms = 24 * 3600 * 1000
    ready.daemon.stop()
    rows(ready.daemon, "UPDATE idempotency_keys SET created_ms = ?", int(time.time() * 1000) - day_ms + 600_000)
    ready.daemon.start()
    same(post_job(ready, "k1"), first)
    ready.daemon.stop()
    rows(ready.daemon, "UPDATE idempotency_keys SET created_ms = ?", int(time.time() * 1000) - day_ms - 1000)
    ready.daemon.start()
    ready.refused(post_job(ready, "k1"), 409, "batch_in_use")


def test_what_a_crash_left_under_way_may_be_tried_again(ready):
    ready.daemon.kill()
    rows(ready.daemon, "INSERT INTO idempotency_keys (owner, key, request_hash, created_ms) VALUES (0, 'k1', ?, ?)",
         "0" * 64, int(time.time() * 1000))
    ready.daemon.start()
    assert post_job(ready, "k1").status_code == 202


def test_keys_are_bounded(ready):
    ready.daemon.stop()
    rows(ready.daemon, "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 10000) "
         "INSERT INTO idempotency_keys SELECT 0, 'n' || i, ?, ?, 200, 'application/json', '{}', '{}' FROM n",
         "0" * 64, int(time.time() * 1000))
    ready.daemon.start()
    ready.refused(post_job(ready, "k1"), 429, "too_many_idempotency_keys")
    assert json.loads(post_job(ready, "n1").text)["code"] == "idempotency_key_reused"
    assert post_job(ready, "", options=SLOW).status_code == 400
    assert jobs(ready) == []
