"""A class renamed and one retired, a batch deleted: what goes is said beforehand, what remains afterwards."""

from selenium.webdriver.common.keys import Keys

import images
from conftest import LATER, NARROW, TINY, WIDE, learn_steps, wait_for


def bars(browser):
    """Class names beside a bar, of the table by class."""
    return browser.script("""
        return [...document.querySelectorAll("#view-accuracy [aria-label='Accuracy by class'] tr")].filter((row) => row.cells.length === 4 &&
            row.querySelector("td.name") && row.querySelector(".bar")).map((row) => row.cells[0].textContent)""")


def listed(browser):
    """Class names of the list that has the buttons."""
    return browser.script("""
        return [...document.querySelectorAll("#view-work [aria-label='Classes'] td.name")].map((cell) => cell.textContent)""")


def wait_names(browser, look, want):
    wait_for(lambda: sorted(look(browser)) == sorted(want), what=f"{want}; shown: {look(browser)}")


def ask(browser, name):
    """Presses a button that opens a dialog once it has read what it is about; what the dialog says."""
    browser.click(name, "#view-work")
    wait_for(lambda: browser.text("dialog"), what=f"the dialog of '{name}'")
    return browser.text("dialog")


def focused(browser):
    return browser.script("return document.activeElement.ariaLabel ?? document.activeElement.id")


def test_a_class_is_renamed_by_keys_alone(browser, daemon, api):
    learn_steps(api, ["red", "green"])
    browser.open(daemon, "accuracy")
    wait_names(browser, bars, ["red", "green"])
    browser.view("work")
    browser.script("arguments[0].focus()", browser.button("Rename class red", "#view-work"))
    active = browser.driver.switch_to.active_element
    active.send_keys(Keys.ENTER)
    browser.wait_text("Every version calls it by the new name", "dialog")
    assert focused(browser) == "class-name"
    field = browser.driver.switch_to.active_element
    field.send_keys("café <1>", Keys.ENTER)  # what was there is selected
    browser.wait_text("red is called café <1> now.", "#notices")
    wait_names(browser, listed, ["café <1>", "green"])
    assert [c["name"] for c in api.get("/api/v1/classes").json()["classes"]] == ["café <1>", "green"]
    wait_for(lambda: focused(browser) == "Rename class café <1>", what="the focus where it was")
    browser.wait_text("café <1>", "#view-work [aria-label='Batches']")
    browser.view("accuracy")
    wait_names(browser, bars, ["café <1>", "green"])


def test_why_a_class_is_not_renamed(browser, daemon, api):
    learn_steps(api, ["red", "green"])
    browser.expected = ("the server responded with a status of 4",)
    browser.open(daemon, "work")
    ask(browser, "Rename class red")
    field = browser.css("dialog input")
    field.send_keys("green")
    browser.click("Rename", "dialog")
    browser.wait_text("knows a class 'green'. Choose another name.", "dialog [role=alert]")
    browser.picture("class-rename-refused")
    assert api.request("PATCH", "/api/v1/classes/red", json={"name": "crimson"}).status_code == 200
    field.clear()
    field.send_keys("ruby")
    browser.click("Rename", "dialog")  # red is another class than what was asked about
    browser.wait_text("Close this and look at the list again.", "dialog [role=alert]")
    browser.click("Not now", "dialog")

    api.upload("week-2", images.tar(["blue"], range(40)))
    job = api.train("week-2", **{**LATER, "epochs": 5000})["id"]
    ask(browser, "Rename class crimson")
    browser.wait_text(f"First job {job} has to end or be cancelled", "dialog")
    browser.css("dialog input").send_keys("ruby")
    browser.click("Rename", "dialog")
    browser.wait_text(f"Job {job} is queued or running. Wait for it, or cancel it. Jobs are cancelled under Data & jobs.",
                      "dialog [role=alert]")
    api.post(f"/api/v1/jobs/{job}/cancel")
    api.wait(job)
    browser.click("Rename", "dialog")
    wait_names(browser, listed, ["ruby", "green"])


def test_a_class_is_retired(browser, daemon, api):
    learn_steps(api, ["red", "green"], ["blue"])
    api.upload("again", images.tar(["red"], range(200, 210)))
    browser.open(daemon, "work")
    said = ask(browser, "Retire class red")
    kept = next(c["test_images"] for c in api.get("/api/v1/classes").json()["classes"] if c["name"] == "red")
    assert kept > 0 and f"its prototype, {kept} test images" in said
    assert "the earlier ones neither: rolling back does not bring it back" in said
    assert "Its images in again stay" in said
    for dark in (False, True):
        browser.dark(dark)
        for size in (WIDE, NARROW):
            browser.resize(size)
            browser.picture(f"class-retire-{'dark' if dark else 'light'}-{'wide' if size == WIDE else 'narrow'}")
    browser.click("Not now", "dialog")
    assert len(api.get("/api/v1/classes").json()["classes"]) == 3, "nothing happens before it is confirmed"

    ask(browser, "Retire class red")
    browser.click("Retire red", "dialog")
    browser.wait_text("Class red is retired", "dialog")
    browser.wait_text("What was learned from it cannot be taken out of the weights", "dialog")
    browser.wait_text("Learned by versions 1, 2.", "dialog")
    assert f"{kept} test images and 0 exemplars are deleted." in browser.text("dialog")
    browser.picture("class-retired")
    browser.click("Close", "dialog")
    wait_names(browser, listed, ["green", "blue"])
    browser.view("accuracy")
    wait_names(browser, bars, ["green", "blue"])
    assert [m["class_names"] for m in api.get("/api/v1/models").json()["models"]] == [["green", "blue"], ["green"]]


def test_a_batch_is_deleted(browser, daemon, api):
    learn_steps(api, ["red", "green"])
    api.upload("wait", images.tar(["blue", "yellow"], range(30)), holdout=0.2)
    browser.expected = ("the server responded with a status of 412",)
    browser.open(daemon, "work")
    browser.wait_text("wait: blue, yellow", "#view-work")
    said = ask(browser, "Delete batch wait")
    batch = api.get("/api/v1/batches/wait").json()
    assert f"{batch['train_images']} training images of blue, yellow go" in said
    assert f"{batch['test_images']} test images go" in said

    job = api.train("wait", **{**LATER, "epochs": 5000})["id"]
    browser.click("Delete wait", "dialog")  # a job uses it by now
    browser.wait_text("This has changed since", "dialog [role=alert]")
    browser.wait_text("Close this and open it again.", "dialog [role=alert]")
    browser.click("Not now", "dialog")
    wait_for(lambda: not browser.button("Delete batch wait", "#view-work"), what="a batch in use without its button")
    api.post(f"/api/v1/jobs/{job}/cancel")
    api.wait(job)

    ask(browser, "Delete batch wait")
    browser.click("Delete wait", "dialog")
    browser.wait_text("Batch wait is gone", "#notices")
    browser.wait_text("Nothing of its images.", "#notices")
    wait_for(lambda: "yellow" not in browser.text("#view-work [aria-label='Batches']"), what="the table without it")
    assert [b["name"] for b in api.get("/api/v1/batches").json()["batches"]] == ["week-1"]
    assert "wait: blue" not in browser.text("#view-work"), "nor can it be chosen to be learned"

    said = ask(browser, "Delete batch week-1")  # learned: what it taught stays
    assert "What version 1 learned from it stays" in said
    assert "training image" not in said
    browser.click("Delete week-1", "dialog")
    browser.wait_text("The classes it taught stay known", "#notices")
    wait_names(browser, listed, ["red", "green"])


def test_only_an_admin_changes_classes(browser, daemon, api):
    learn_steps(api, ["red", "green"])
    admin = api.post("/api/v1/tokens", json={"scope": "admin"}).json()["token"]
    by = {"Authorization": f"Bearer {admin}"}
    reader = api.post("/api/v1/tokens", json={"scope": "predict"}, headers=by).json()["token"]
    browser.driver.get(f"{daemon.url}/#work")
    browser.origin = daemon.url
    for token, scope, buttons in ((reader, "read only", set()), (admin, "admin", {"Rename", "Retire", "Delete"})):
        browser.wait_text("This daemon wants a token", "#sign-in")
        browser.css("#token").send_keys(token)
        browser.click("Sign in", "#sign-in")
        browser.wait_text(scope, "#session")
        wait_names(browser, listed, ["red", "green"])
        browser.settle()
        shown = {b.text for b in browser.all("#view-work button")}
        assert shown & {"Rename", "Retire", "Delete"} == buttons, shown
        browser.click("Sign out", "#session")


def test_the_buttons_on_a_phone(browser, daemon, api):
    learn_steps(api, ["red", "green"])
    browser.resize(NARROW)
    browser.open(daemon, "work")
    browser.settle()
    for name in ("Rename class red", "Retire class red", "Delete batch week-1"):
        box = browser.script("const r = arguments[0].getBoundingClientRect(); return [r.left, r.right]",
                             browser.button(name, "#view-work"))
        assert 0 <= box[0] < box[1] <= NARROW[0], f"{name} is at {box}"
    wider = browser.script("const s = document.querySelector(\"#view-work [aria-label='Classes']\"); return s.scrollWidth - s.clientWidth")
    assert wider <= 0, f"the classes are {wider} pixels wider than the screen"
    for name, word in (("Rename class red", "Rename"), ("Retire class red", "Retire red")):
        ask(browser, name)
        for dark in (False, True):
            browser.dark(dark)
            browser.picture(f"{word.split()[0].lower()}-{'dark' if dark else 'light'}-narrow")
        box = browser.script("const r = arguments[0].getBoundingClientRect(); return [r.left, r.right]", browser.button(word, "dialog"))
        assert 0 <= box[0] < box[1] <= NARROW[0], f"{word} is at {box}"
        browser.click("Not now", "dialog")
