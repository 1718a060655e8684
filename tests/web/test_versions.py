"""Back to an earlier version and on again, with what changes said beforehand; a version held back, compared and discarded."""

import images
from conftest import LATER, TINY, learn_steps, wait_for


def test_a_roll_back_and_on_again(browser, daemon, api):
    learn_steps(api, ["red", "green"], ["blue", "yellow"])
    browser.open(daemon, "store")
    browser.click("Roll back version 1", "#view-store")
    said = browser.text("dialog")
    assert "answers predictions instead of version 2" in said
    assert "It does not know blue, yellow" in said
    accuracy = api.get("/api/v1/models/1").json()["serving_accuracy"]
    assert f"{100 * accuracy:.1f} %" in said
    browser.click("Not now", "dialog")
    assert api.get("/api/v1/models/2").json()["active"], "nothing happens before it is confirmed"

    browser.click("Roll back version 1", "#view-store")
    browser.click("Roll back to version 1", "dialog")
    browser.wait_text("1 serves", "#view-store")
    assert api.get("/api/v1/models/1").json()["active"]
    browser.view("now")
    browser.wait_text("Version 1", "#view-now .big")
    browser.view("accuracy")
    browser.settle()  # the branch that was left stays on the chart, as reference
    assert browser.script("return Chart.getChart(document.querySelector('#view-accuracy canvas:not(.heat)')).data.datasets.length") == 3

    browser.view("store")
    browser.click("Activate version 2", "#view-store")
    browser.click("Activate version 2", "dialog")
    browser.wait_text("2 serves", "#view-store")


def test_a_version_in_the_place_of_another(browser, daemon, api):
    learn_steps(api, ["red", "green"], ["blue", "yellow"])
    api.upload("more", images.tar(["blue"], range(200, 220)))
    api.learn("more", gate=None)
    browser.open(daemon, "store")
    browser.wait_text("3 serves", "#view-store")
    assert "after 3 versions" in browser.script("return document.querySelector('#view-store canvas').getAttribute('aria-label')")
    browser.click("Compare version 3", "#view-store")
    browser.wait_text("Both know the same classes.", "dialog")
    browser.click("Close", "dialog")
    browser.view("accuracy")
    browser.settle()  # it stands where version 2 stood: no branch, and two steps
    points = browser.script("return Chart.getChart(document.querySelector('#view-accuracy canvas:not(.heat)')).data.datasets.map((d) => d.data.length)")
    assert points == [2, 2]


def test_a_version_that_was_held_back(browser, daemon, api):
    api.upload("one", images.tar(["red", "green"], range(100)), holdout=0.2)
    api.learn("one", **{**TINY, "epochs": 12})
    api.upload("two", images.tar(["blue", "yellow"], range(60)), holdout=0.2)
    browser.open(daemon, "store")
    job = api.learn("two", **{**LATER, "method": "finetune", "classifier": "head", "epochs": 12, "lr_later": 5, "gate": 0.3})
    assert job["published"] is False, job["gate"]
    browser.wait_text("2 held back", "#view-store")
    browser.view("now")
    browser.wait_text("made version 2, which does not serve. Held back", "#view-now")
    browser.view("store")
    browser.click("Compare version 2", "#view-store")
    browser.wait_text("Only version 2 knows blue, yellow.", "dialog")
    after = job["gate"]["steps"][0]["after"]
    wait_for(lambda: f"{100 * after:.1f} %" in browser.text("dialog"), what="its accuracy on step 1")
    browser.picture("compare")
    browser.click("Close", "dialog")
    browser.click("Discard version 2", "#view-store")
    browser.click("Discard version 2", "dialog")
    browser.wait_text("Version 2 is gone", "#notices")
    assert [m["version"] for m in api.get("/api/v1/models").json()["models"]] == [1]
    wait_for(lambda: "held back" not in browser.text("#view-store"), what="the table without it")
