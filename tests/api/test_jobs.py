"""A job's life beside its training: repeating it, its log, cancelling in each phase, and trying an upload out."""

import pytest

import images
from conftest import wait_for
from test_end_to_end import FIRST, LONG, SECOND, TINY, running, upload_step


def logs(api, job, **query):
    reply = api.get(f"/api/v1/jobs/{job}/logs", params=query)
    assert reply.status_code == 200, reply.text
    return reply.json()


def cancel(api, job):
    assert api.post(f"/api/v1/jobs/{job}/cancel").status_code == 200
    return api.wait(job, 10)


# ---- repeating ----

def test_cancelled_job_is_repeated(api):
    api.upload("one", images.tar(FIRST, range(30)))
    first = api.train("one", **LONG)
    api.refused(api.post(f"/api/v1/jobs/{first['id']}/retry"), 409, "not_retryable")
    running(api, first, 1)
    old = cancel(api, first["id"])
    reply = api.post(f"/api/v1/jobs/{first['id']}/retry")
    assert reply.status_code == 202, reply.text
    again = reply.json()
    assert reply.headers["Location"] == f"/api/v1/jobs/{again['id']}"
    assert (again["id"], again["retry_of"], again["batches"]) == (2, 1, ["one"])
    assert again["options"] == old["options"]
    assert old["retry_of"] is None
    # Its batches are taken now, so it cannot be repeated twice at once.
    api.refused(api.post(f"/api/v1/jobs/{first['id']}/retry"), 409, "batch_in_use")
    assert api.job(first["id"]) == old  # what ended stays as it was
    cancel(api, again["id"])
    api.daemon.kill()
    api.daemon.start()
    assert api.job(2)["retry_of"] == 1


def test_failed_job_is_repeated(api):
    """Its images were unreadable for a while."""
    batch = api.upload("one", images.tar(FIRST, range(12)))
    pack = api.daemon.data_dir / "batches" / (batch["hash"] + ".train")
    pack.rename(pack.with_suffix(".aside"))
    failed = api.wait(api.train("one", **{**TINY, "epochs": 1})["id"])
    assert (failed["state"], failed["error"]["code"]) == ("failed", "corrupt_batch")
    assert logs(api, 1)["lines"][-1]["event"] == "corrupt_batch"
    pack.with_suffix(".aside").rename(pack)
    again = api.wait(api.post("/api/v1/jobs/1/retry").json()["id"])
    assert (again["state"], again["retry_of"], again["version"]) == ("succeeded", 1, 1)


def test_what_cannot_be_repeated(api):
    api.upload("one", images.tar(FIRST, range(12)))
    job = api.learn("one", **{**TINY, "epochs": 1})
    api.refused(api.post(f"/api/v1/jobs/{job['id']}/retry"), 409, "not_retryable")
    for unknown in ("7", "0", "x"):
        api.refused(api.post(f"/api/v1/jobs/{unknown}/retry"), 404, "job_not_found")


# ---- the log ----

def test_log_tells_the_job_from_start_to_end(api):
    upload_step(api, "one", FIRST)
    job = api.learn("one", **{**TINY, "epochs": 1})["id"]
    whole = logs(api, job, limit=500)
    events = [line["event"] for line in whole["lines"]]
    assert events[:3] == ["queued", "started", "data"]
    assert events[-1] == "published"
    phases = [line["message"] for line in whole["lines"] if line["event"] == "phase"]
    assert phases == [f"Phase {p}." for p in ("distil", "train", "prune", "evaluate", "publish")]
    ids = [line["id"] for line in whole["lines"]]
    assert ids == sorted(ids) and whole["last"] == ids[-1]
    assert logs(api, job, after=ids[2], limit=2)["lines"] == whole["lines"][3:5]
    assert logs(api, job, after=ids[-1]) == {"job": job, "lines": [], "last": ids[-1]}
    api.daemon.kill()
    api.daemon.start()
    assert logs(api, job, limit=500) == whole


def test_log_of_a_job_that_was_interrupted_and_cancelled(api):
    api.upload("one", images.tar(FIRST, range(30)))
    job = api.train("one", **LONG)
    running(api, job, 1)
    api.daemon.kill()
    api.daemon.start()
    wait_for(lambda: api.job(job["id"])["state"] == "running", what="the job to go on")
    cancel(api, job["id"])
    lines = logs(api, job["id"], limit=500)["lines"]
    assert [line["level"] for line in lines if line["event"] == "daemon_crashed"] == ["warning"]
    events = [line["event"] for line in lines]
    assert events[-1] == "cancelled" and "cancel_asked" in events[-3:]  # one line of the worker may come between


@pytest.mark.parametrize("query", [{"after": "-1"}, {"after": "x"}, {"limit": "0"}, {"limit": "501"}])
def test_bad_query_of_a_log(api, query):
    api.refused(api.get("/api/v1/jobs/1/logs", params=query), 400, "bad_query")
    api.refused(api.get("/api/v1/jobs/1/logs"), 404, "job_not_found")


# ---- an upload tried out ----

def test_dry_run_of_an_upload_keeps_nothing(api):
    body = images.tar(FIRST, range(3))
    said = api.put("/api/v1/batches/one", params={"dry_run": 1, "holdout": 0.3}, data=body)
    assert said.status_code == 200, said.text
    assert (said.json()["state"], said.json()["accepted"]) == ("not_stored", 9)
    assert api.get("/api/v1/batches").json()["batches"] == []
    api.refused(api.get("/api/v1/batches/one"), 404, "batch_not_found")
    assert wait_for(lambda: not list((api.daemon.data_dir / "tmp").iterdir()), 5)
    assert list((api.daemon.data_dir / "batches").iterdir()) == []
    stored = api.upload("one", body, holdout=0.3)
    assert {**said.json(), "state": "ready", "created": stored["created"]} == stored
    again = api.put("/api/v1/batches/one", params={"dry_run": 1}, data=images.tar(SECOND, range(2)))
    assert [c["name"] for c in again.json()["classes"]] == SECOND  # whatever the name holds already
    assert api.get("/api/v1/batches/one").json() == stored


def test_dry_run_refuses_alike(api):
    api.refused(api.put("/api/v1/batches/one", params={"dry_run": 1}, data=b"no tar" * 100), 415, "bad_archive")
    api.refused(api.put("/api/v1/batches/one", params={"dry_run": "yes"}, data=b"x"), 400, "bad_query")
