"""One sitting of an engineer: adds classes, watches the job, looks at the accuracy, asks, all in the browser."""

import images
from conftest import LATER, TINY, folder_of, wait_for


def add_classes(browser, folder, batch):
    browser.view("work")
    browser.drop("#view-work .drop", [folder])
    browser.wait_text("Keep aside for measuring", "#view-work")
    name = browser.css("#batch-name")
    name.clear()
    name.send_keys(batch)
    browser.script("document.getElementById('holdout').value = '0.2'")
    browser.click("Upload", "#view-work")
    browser.wait_text("accepted", "#view-work .big")


def start_job(browser, epochs, depth=None):
    browser.click("Learn it now …", "#view-work")
    wait_for(lambda: browser.script("return document.activeElement.dataset.key") == "start", what="the form, once the batch is listed")
    browser.css("#job-epochs").send_keys(str(epochs))
    if depth:
        browser.script("document.getElementById('job-depth').value = arguments[0]", str(depth))
    gate = browser.css("#job-gate")
    gate.clear()
    gate.send_keys("1")  # whatever it forgets, it takes over
    browser.click("Start", "#view-work")
    browser.wait_text("is queued", "#notices")


def watch_to_the_end(browser, version):
    browser.view("now")
    browser.wait_text("%", "#view-now .big")
    browser.wait_text(f"Version {version}", "#view-now", 120)
    browser.wait_text("Idle", "#view-now", 120)


def test_from_a_folder_to_a_prediction(browser, daemon, api, tmp_path):
    browser.open(daemon)
    browser.wait_text("No model yet", "#view-now")
    browser.wait_text("live", "#link")

    folder = folder_of(tmp_path / "photos", ["red", "green"], range(50))
    (folder / "green" / "broken.png").write_bytes(b"no picture")
    (folder / "green" / "notes.txt").write_text("no picture either")
    add_classes(browser, folder, "week-1")
    browser.wait_text("1 file left out", "#notices")
    browser.wait_text("100 accepted", "#view-work")
    browser.wait_text("1 rejected", "#view-work")
    assert browser.text("#view-work tbody tr").startswith("green/broken.png"), "what was refused comes first"
    assert "rejected" in browser.text("#view-work tbody tr").splitlines()[0]

    start_job(browser, 30, 8)
    watch_to_the_end(browser, 1)
    assert "Classification" in browser.css("#view-now canvas").get_attribute("aria-label")
    job = api.get("/api/v1/jobs").json()["jobs"][0]
    assert (job["state"], job["options"]["epochs"], job["options"]["depth"]) == ("succeeded", 30, 8)

    add_classes(browser, folder_of(tmp_path / "more", ["blue", "yellow"], range(50)), "week-2")
    start_job(browser, 5)
    watch_to_the_end(browser, 2)

    browser.view("accuracy")
    history = api.get("/api/v1/history").json()
    heat = browser.css("#view-accuracy canvas.heat")
    heat.send_keys("\ue013")  # up: the lower left corner is where it begins
    first = 100 * history["accuracy_matrix"][1][0]
    browser.wait_text(f"After step 2, on the classes of step 1: {first:.1f} %", "#view-accuracy output")
    assert f"{100 * history['average_incremental']:.1f} %" in browser.text("#view-accuracy .figures")

    browser.view("try")
    (tmp_path / "red.png").write_bytes(images.png("red", 999))
    browser.drop("#view-try .drop", [tmp_path / "red.png"])
    said = api.predict(images.png("red", 999))["predictions"][0]["class"]
    browser.wait_text(said, "#view-try .answers .big")
    wait_for(lambda: len(browser.all("#view-try .scores")) == 2, what="the answers of both versions")


def test_a_single_class_by_images_alone(browser, daemon, api, tmp_path):
    folder = folder_of(tmp_path / "photos", ["red"], range(20))
    browser.open(daemon, "work")
    browser.css("#images-input").send_keys("\n".join(str(p) for p in sorted((folder / "red").iterdir())))
    browser.wait_text("Keep aside", "#view-work")
    browser.click("Upload", "#view-work")
    browser.wait_text("Give every class a name.", "#notices")
    browser.css("#view-work td input").send_keys("crimson")
    browser.click("Upload", "#view-work")
    browser.wait_text("20 accepted", "#view-work")
    batch = api.get("/api/v1/batches").json()["batches"][0]
    assert [(c["name"], c["train_images"], c["test_images"]) for c in batch["classes"]] == [("crimson", 18, 2)]


def test_a_job_is_called_off(browser, daemon, api):
    api.upload("one", images.tar(["red", "green"], range(40)))
    job = api.train("one", **{**TINY, "epochs": 5000})["id"]
    browser.open(daemon)
    browser.wait_text("Train", "#view-now .phases .now")
    browser.click(f"Cancel job {job}", "#view-now")
    browser.wait_text(f"Job {job} was cancelled.", "#view-now")
    assert api.job(job)["state"] == "cancelled"


def test_a_refusal_says_what_to_do(browser, daemon, api):
    api.upload("one", images.tar(["red", "green"], range(20)))
    api.learn("one", **TINY)
    api.upload("two", images.tar(["blue"], range(50, 70)))
    api.upload("three", images.tar(["blue"], range(70, 90)))
    assert api.post("/api/v1/jobs", json={"batches": ["two"], "options": {**LATER, "epochs": 5000}}).status_code == 202
    browser.expected = ("the server responded with a status of 4",)
    browser.open(daemon, "work")
    browser.css("#view-work input[type=checkbox]").click()
    browser.css("#job-epochs").send_keys("2")
    browser.click("Start", "#view-work")
    browser.wait_text("blue", "#notices .bad")
    detail = browser.text("#notices .bad")
    reply = api.post("/api/v1/jobs", json={"batches": ["three"], "options": {**LATER, "epochs": 2}})
    assert reply.status_code == 409 and reply.json()["detail"] in detail


def test_an_upload_is_tried_out_first(browser, daemon, api, tmp_path):
    folder = folder_of(tmp_path / "photos", ["red", "green"], range(20))
    browser.open(daemon, "work")
    browser.drop("#view-work .drop", [folder])
    browser.wait_text("Keep aside", "#view-work")
    browser.click("Check only", "#view-work")
    browser.wait_text("40 would be accepted; nothing was stored", "#view-work")
    assert api.get("/api/v1/batches").json()["batches"] == []
    browser.click("Back to the upload", "#view-work")
    browser.click("Upload", "#view-work")
    browser.wait_text("40 accepted", "#view-work")
    assert len(api.get("/api/v1/batches").json()["batches"]) == 1


def test_a_cancelled_job_again_and_its_log(browser, daemon, api):
    api.upload("one", images.tar(["red", "green"], range(40)))
    job = api.train("one", **{**TINY, "epochs": 5000})["id"]
    api.post(f"/api/v1/jobs/{job}/cancel")
    api.wait(job)
    browser.open(daemon, "work")
    browser.click(f"Details of job {job}", "#view-work")
    browser.css("dialog details summary").click()
    line = api.get(f"/api/v1/jobs/{job}/logs").json()["lines"][0]["message"]
    browser.wait_text(line, "dialog .log")
    browser.click("Close", "dialog")
    browser.click(f"Retry job {job}", "#view-work")
    browser.wait_text(f"does job {job} again", "#notices")
    newest = api.get("/api/v1/jobs").json()["jobs"][0]
    assert (newest["retry_of"], newest["batches"]) == (job, ["one"])
    api.post(f"/api/v1/jobs/{newest['id']}/cancel")
