"""ETag, If-None-Match and If-Match: what a client has is not sent again, and what it has not seen is not changed."""

import json
import re

import pytest

import images
from conftest import DOCUMENTS, Client, wait_for

TINY = {"depth": 8, "epochs": 1, "batch": 32, "prune": {"keep": 0.5, "epochs": 1}}
SLOW = {**TINY, "epochs": 5000}
KNOWN = {"class": "red", "name": "one", "id": "1", "version": "1", "model": "accreted", "file": "style.css"}
READ = [path for path, item in DOCUMENTS["openapi.json"]["paths"].items()
        if "get" in item and path != "/api/v1/events"]  # a stream without an end
TAGGED = [path for path in READ if path.startswith("/api/v1/")
          and path != "/api/v1/storage"]  # the disk's free room changes under the test


def known(path):
    return re.sub(r"{(\w+)}", lambda m: KNOWN[m[1]], path)


@pytest.fixture(scope="module")
def learned(module_daemon):
    api = Client(module_daemon)
    api.upload("one", images.tar(["red", "green"], range(24)), holdout=0.25)
    api.learn("one", **TINY)
    return api


def test_what_a_dashboard_polls_is_tagged():
    polled = {"/api/v1/" + name for name in ("jobs", "jobs/{id}", "jobs/{id}/metrics", "models", "models/{version}",
                                             "snapshots", "history", "classes", "batches", "batches/{name}")}
    assert polled <= set(TAGGED)


@pytest.mark.parametrize("path", READ)
def test_what_is_tagged_is_promised(learned, path):
    get = DOCUMENTS["openapi.json"]["paths"][path]["get"]
    tagged = "ETag" in learned.get(known(path)).headers
    assert ({"$ref": "#/components/parameters/if_none_match"} in get.get("parameters", [])) == tagged
    assert ("304" in get["responses"]) == tagged
    assert tagged or not path.startswith("/api/v1/")


@pytest.mark.parametrize("path", TAGGED)
def test_not_sent_again(learned, path):
    first = learned.get(known(path))
    assert first.status_code == 200
    tag = first.headers["ETag"]
    assert re.fullmatch(r'"[0-9a-f]{32}"', tag)
    for condition in (tag, f'"x", {tag}', f"W/{tag}", "*", f'W/"y",{tag} , "z"'):
        again = learned.get(known(path), headers={"If-None-Match": condition})
        assert (again.status_code, again.content, again.headers["ETag"]) == (304, b"", tag), condition
    for condition in ('"x"', "", tag.strip('"'), tag[:-2] + '"', f'x, {tag}', '"'):
        again = learned.get(known(path), headers={"If-None-Match": condition})
        assert (again.status_code, again.content) == (200, first.content), condition


def test_browsers_may_keep_what_is_tagged_but_ask(learned):
    assert learned.get("/api/v1/jobs").headers["Cache-Control"] == "private, no-cache"
    for path in ("/api/v1/tokens", "/api/v1/session", "/healthz"):
        assert learned.get(path).headers["Cache-Control"] == "no-store"


def test_tag_holds_over_a_restart_and_changes_with_the_thing(learned):
    paths = ["/api/v1/batches", "/api/v1/models", "/api/v1/history", "/api/v1/jobs"]
    tags = {path: learned.get(path).headers["ETag"] for path in paths}
    learned.daemon.stop()
    learned.daemon.start()
    for path in paths:
        assert learned.get(path, headers={"If-None-Match": tags[path]}).status_code == 304
    learned.upload("later", images.tar(["blue"], range(5)))
    reply = learned.get(paths[0], headers={"If-None-Match": tags[paths[0]]})
    assert reply.status_code == 200
    assert reply.headers["ETag"] != tags[paths[0]]


def test_refusals_have_no_tag(learned):
    reply = learned.get("/api/v1/jobs/99", headers={"If-None-Match": "*"})
    learned.refused(reply, 404, "job_not_found")
    assert "ETag" not in reply.headers


def test_different_queries_have_different_tags(learned):
    assert learned.get("/api/v1/history").headers["ETag"] != learned.get("/api/v1/history?format=csv").headers["ETag"]


# ---- If-Match ----

def test_cancel_only_what_was_seen(api):
    api.upload("one", images.tar(["red", "green"], range(20)))
    api.upload("two", images.tar(["blue", "yellow"], range(20)))
    api.train("one", **SLOW)
    api.train("two", **SLOW)
    seen = api.get("/api/v1/jobs/2")
    assert seen.json()["state"] == "queued"

    def cancel(tag):
        return api.post("/api/v1/jobs/2/cancel", headers={"If-Match": tag})

    for tag in ('"x"', "W/" + seen.headers["ETag"], "x"):
        api.refused(cancel(tag), 412, "precondition_failed")
    assert api.job(2)["state"] == "queued"
    assert cancel(seen.headers["ETag"]).status_code == 200
    assert api.job(2)["state"] == "cancelled"
    api.refused(cancel(seen.headers["ETag"]), 412, "precondition_failed")
    assert cancel("*").status_code == 200

    def progress():
        return api.get("/api/v1/jobs/1").json()["progress"]

    wait_for(progress)
    then = api.get("/api/v1/jobs/1")
    wait_for(lambda: progress() > then.json()["progress"])
    assert api.get("/api/v1/jobs/1").headers["ETag"] != then.headers["ETag"]
    api.refused(api.post("/api/v1/jobs/9/cancel", headers={"If-Match": '"x"'}), 404, "job_not_found")
    api.refused(api.post("/api/v1/jobs/1/cancel", headers={"If-Match": seen.headers["ETag"]}), 412, "precondition_failed")
    late = api.post("/api/v1/jobs/1/cancel", headers={"If-Match": then.headers["ETag"]})
    assert late.json()["state"] in ("cancelling", "cancelled")  # its progress is no change
