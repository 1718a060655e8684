"""A job's life beside its training: repeating it, its log, cancelling in each phase, and trying an upload out."""

import functools
import json

import pytest

import images
from conftest import ROOT, wait_for
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
    assert events[-1] == "cancelled" and set(events[events.index("cancel_asked") + 1:-1]) <= {"phase"}  # the worker's


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


# ---- before it starts ----

def test_dry_run_of_a_job_keeps_nothing(api):
    api.upload("one", images.tar(FIRST, range(30)), holdout=0.1)
    body = {"batches": ["one"], "options": TINY}
    said = api.post("/api/v1/jobs", params={"dry_run": 1}, json=body)
    assert said.status_code == 200, said.text
    plan = said.json()
    assert (plan["dry_run"], plan["batches"], plan["base"], plan["step"]) == (True, ["one"], None, 1)
    assert plan["classes"] == [{"name": c, "train_images": 27, "test_images": 3} for c in FIRST]
    assert plan["train_images"] == 27 * len(FIRST)
    assert (plan["estimated_seconds"], plan["queue_position"], plan["warnings"]) == (None, 1, [])
    assert plan["options"]["epochs"] == TINY["epochs"]
    assert api.get("/api/v1/jobs").json()["jobs"] == []
    assert api.get("/api/v1/batches/one").json()["state"] == "ready"
    done = api.learn("one", **TINY)
    assert (done["id"], done["warnings"], done["estimated_start"]) == (1, [], None)
    # The next one is judged against what was learned, and by its speed.
    api.upload("two", images.tar(SECOND, range(30)), holdout=0.1)
    plan = api.post("/api/v1/jobs", params={"dry_run": 1}, json={**body, "batches": ["two"]}).json()
    passes = plan["train_images"] * (TINY["epochs"] + plan["options"]["prune"]["epochs"])
    assert plan["estimated_seconds"] == pytest.approx(passes / done["images_per_second"], rel=0.02)
    assert (plan["base"], plan["step"]) == (1, 2)


def defaults(schema, prefix=()):
    """The path of each option in the contract, and its default."""
    for name, option in schema["properties"].items():
        if "properties" in option:
            yield from defaults(option, (*prefix, name))
        elif name != "input":  # which is the images'
            yield (*prefix, name), option["default"]


def test_defaults_are_those_of_the_contract(api):
    api.upload("one", images.tar(FIRST, range(3)))
    plan = api.post("/api/v1/jobs", params={"dry_run": 1}, json={"batches": ["one"]}).json()
    found = dict(defaults(json.loads((ROOT / "schema/job_options.json").read_text())))
    assert len(found) > 30
    for path, default in found.items():
        value = functools.reduce(dict.get, path, plan["options"])
        # What is fastest depends on the CPU; a plan names it.
        assert value == default or (default == "fastest" and value in ("fp32", "bf16")), path


def test_dry_run_of_a_job_refuses_alike(api):
    api.upload("one", images.tar(FIRST, range(12)))
    api.refused(api.post("/api/v1/jobs", params={"dry_run": 1}, json={"batches": ["no"]}), 404, "batch_not_found")
    api.refused(api.post("/api/v1/jobs", params={"dry_run": 2}, json={"batches": ["one"]}), 400, "bad_query")
    api.refused(api.post("/api/v1/jobs", params={"dry_run": 1}, json={"batches": ["one"], "options": {"epochs": 0}}), 422,
                "bad_option")


def test_warnings_stay_with_the_job(api):
    large, small = sorted(FIRST)[:2]
    api.upload("much", images.tar([large], range(50)), holdout=0.1)
    api.upload("little", images.tar([small], range(100, 104)))
    job = api.train("much", "little", **TINY)
    warned = {w["code"]: w for w in job["warnings"]}
    assert set(warned) == {"few_images", "imbalanced", "no_test_images"}
    assert warned["few_images"]["classes"] == [small]
    assert warned["imbalanced"]["classes"] == [large, small]
    assert "45" in warned["imbalanced"]["detail"] and "4 of" in warned["imbalanced"]["detail"]
    assert warned["no_test_images"]["classes"] == [small]
    assert api.wait(job["id"])["warnings"] == job["warnings"]


def test_when_a_queued_job_starts(api):
    api.upload("one", images.tar(FIRST, range(30)))
    api.learn("one", **TINY)
    for name, label, count in (("two", "blue", 20), ("three", "yellow", 120), ("four", "grey", 120)):
        api.upload(name, images.tar([label], range(count)))
    first = api.train("two", **LONG)
    running(api, first, 1)
    third, fourth = api.train("three", **LONG), api.train("four", **LONG)
    wait_for(lambda: api.job(third["id"])["estimated_start"], 300)  # not known in the first 5 %
    seen = {job["id"]: job for job in api.get("/api/v1/jobs").json()["jobs"]}
    third, fourth = seen[third["id"]], seen[fourth["id"]]
    assert third["created"] < third["estimated_start"] < fourth["estimated_start"]
    for job in (fourth, third, first):
        cancel(api, job["id"])
