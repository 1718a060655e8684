"""Deleting a batch: its files and its row go, jobs keep its name, and nothing goes that is in use or was not seen."""

import images
from conftest import wait_for
from test_end_to_end import LONG, TINY, running

BATCHES = "/api/v1/batches/"
QUICK = {**TINY, "epochs": 1}


def files(api):
    return sorted(f.name for f in (api.daemon.data_dir / "batches").iterdir())


def test_gone_with_its_files(api):
    body = images.tar(["red", "green"], range(10))
    batch = api.upload("one", body, holdout=0.2)
    sizes = [(api.daemon.data_dir / "batches" / (batch["hash"] + end)).stat().st_size for end in (".train", ".test")]
    said = api.delete(BATCHES + "one").json()
    assert said["freed_bytes"] == sum(sizes)
    assert (said["training_images_deleted"], said["test_images_deleted"]) == (16, 4)
    assert files(api) == []
    api.refused(api.get(BATCHES + "one"), 404, "batch_not_found")
    api.refused(api.delete(BATCHES + "one"), 404, "batch_not_found")
    assert api.get("/api/v1/batches").json()["batches"] == []
    again = api.upload("one", body, holdout=0.2)  # the name is free, and the files are there again
    assert again["hash"] == batch["hash"] and len(files(api)) == 2
    api.learn("one", **QUICK)


def test_not_while_a_job_uses_it(api):
    api.upload("one", images.tar(["red", "green"], range(20)))
    job = api.train("one", **LONG)
    running(api, job)
    assert "'one'" in api.refused(api.delete(BATCHES + "one"), 409, "batch_in_use")
    api.post(f"/api/v1/jobs/{job['id']}/cancel")
    api.wait(job["id"])
    assert api.delete(BATCHES + "one").status_code == 200
    assert api.job(job["id"])["batches"] == ["one"]  # as history
    api.refused(api.post(f"/api/v1/jobs/{job['id']}/retry"), 404, "batch_not_found")


def test_of_one_that_was_learned(api):
    api.upload("one", images.tar(["red", "green"], range(24)), holdout=0.25)
    job = api.learn("one", **QUICK)
    measured = api.get("/api/v1/history").json()
    assert api.get("/api/v1/classes").json()["classes"][0]["test_images"] == 6
    said = api.delete(BATCHES + "one").json()
    assert (said["training_images_deleted"], said["test_images_deleted"]) == (0, 12)
    assert files(api) == []
    assert api.get("/api/v1/classes").json()["classes"][0]["test_images"] == 0
    assert api.get("/api/v1/history").json() == measured  # what was measured stays
    assert api.job(job["id"])["batches"] == ["one"]
    api.upload("two", images.tar(["blue", "yellow"], range(24)), holdout=0.25)
    api.learn("two", **QUICK)
    matrix = api.get("/api/v1/history").json()["accuracy_matrix"]
    assert matrix[1][0] is None and matrix[1][1] is not None  # and what cannot be measured is not made up


def test_only_what_was_seen(api):
    api.upload("one", images.tar(["red", "green"], range(4)))
    tag = api.get(BATCHES + "one").headers["ETag"]
    for stale in ('"x"', "W/" + tag):
        api.refused(api.delete(BATCHES + "one", headers={"If-Match": stale}), 412, "precondition_failed")
    assert len(files(api)) == 1
    assert api.delete(BATCHES + "one", headers={"If-Match": tag}).status_code == 200


def test_told_as_an_event_and_over_a_restart(api):
    api.upload("one", images.tar(["red", "green"], range(4)))
    api.upload("two", images.tar(["red", "green"], range(4)))
    api.delete(BATCHES + "one")
    api.daemon.kill()
    api.daemon.start()
    assert [b["name"] for b in api.get("/api/v1/batches").json()["batches"]] == ["two"]
    assert len(files(api)) == 1


def test_files_a_crash_left_are_swept(api):
    batch = api.upload("one", images.tar(["red", "green"], range(4)))
    path = api.daemon.data_dir / "batches" / (batch["hash"] + ".train")
    data = path.read_bytes()
    api.delete(BATCHES + "one")
    path.write_bytes(data)  # as if the daemon had died between the row and the file
    api.daemon.kill()
    api.daemon.start()
    wait_for(lambda: not path.exists(), what="the sweep")
