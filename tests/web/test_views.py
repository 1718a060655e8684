"""Every view, light and dark, wide and narrow; keys, words behind pictures, and what is shown when there is nothing."""

import pytest

import images
from conftest import NARROW, WIDE, learn_steps, wait_for

VIEWS = ["now", "accuracy", "store", "work", "try"]


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("size", [WIDE, NARROW], ids=["wide", "narrow"])
def test_every_view(browser, trained, dark, size):
    browser.resize(size)
    browser.dark(dark)
    browser.open(trained)
    for view in VIEWS:
        browser.view(view)
        browser.settle()
        assert browser.script("return document.documentElement.scrollWidth") <= size[0], f"{view} is wider than the screen"
        browser.picture(f"{view}-{'dark' if dark else 'light'}-{'wide' if size == WIDE else 'narrow'}")
    ground = browser.script("return getComputedStyle(document.body).backgroundColor")
    assert (sum(int(v) for v in ground[4:-1].split(",")) < 384) == dark, ground


def test_empty_views_say_what_is_next(browser, daemon):
    browser.open(daemon)
    for view in VIEWS:
        browser.view(view)
        browser.picture(f"{view}-empty")
    browser.view("now")
    assert "No model yet" in browser.text("#view-now")
    browser.css("#view-now a[href='#work']").click()
    assert browser.css("#view-work .drop").is_displayed()
    browser.view("accuracy")
    assert "Nothing is measured yet" in browser.text("#view-accuracy")


def test_keys_alone(browser, trained):
    browser.open(trained)
    body = browser.css("body")
    for key, view in enumerate(VIEWS, 1):
        body.send_keys(str(key))
        assert browser.css(f"#view-{view}").is_displayed(), key
        assert browser.css("#tabs a[aria-current]").get_attribute("hash") == f"#{view}"
    nameless = browser.script("""
        return [...document.querySelectorAll("button, a, input, select, canvas[tabindex]")].filter((e) =>
            !(e.textContent.trim() || e.ariaLabel || e.labels?.length || e.title)).map((e) => e.outerHTML)""")
    assert nameless == []


def test_a_table_behind_every_chart(browser, trained):
    browser.open(trained)
    for view, canvases in (("now", 2), ("accuracy", 2), ("store", 1)):
        browser.view(view)
        browser.settle()
        behind = browser.all(f"#view-{view} details.behind")
        assert len(behind) == canvases
        for details in behind:
            details.find_element("css selector", "summary").click()
            wait_for(lambda d=details: d.find_elements("css selector", "tbody tr"), what=f"rows behind a chart of {view}")
    browser.view("accuracy")
    rows = browser.text("#view-accuracy .behind tbody tr").splitlines()
    assert any(row.split("\t")[:2] == ["3", "6"] for row in rows), rows


def test_colours_by_choice(browser, trained):
    browser.open(trained)
    scheme = "return getComputedStyle(document.documentElement).colorScheme"
    for text, want in (("light", "light"), ("dark", "dark"), ("auto", "light dark")):
        browser.css("#theme").click()
        browser.wait_text(text, "#theme")
        assert browser.script(scheme) == want
    browser.css("#theme").click()
    browser.open(trained)
    browser.wait_text("light", "#theme")  # remembered


def test_another_run_beside_this_one(browser, trained, tmp_path):
    browser.open(trained, "accuracy")
    (tmp_path / "joint.json").write_text("[[2, 1.0], [4, 0.9], [6, 0.85]]")
    browser.css("#reference-file").send_keys(str(tmp_path / "joint.json"))
    browser.wait_text("Remove it", "#view-accuracy")
    (tmp_path / "wrong.json").write_text("{}")
    browser.css("#reference-file").send_keys(str(tmp_path / "wrong.json"))
    browser.wait_text("wrong.json is not a history", "#notices")


def test_classes_are_text(browser, daemon, api, tmp_path):
    """A name that would be markup or script stays a name."""
    evil = "<img src=x onerror=alert(1)>"
    (tmp_path / "photos" / evil).mkdir(parents=True)
    browser.open(daemon, "work")

    for seed in range(10):
        (tmp_path / "photos" / evil / f"{seed}.png").write_bytes(images.png("red", seed))
    browser.drop("#view-work .drop", [tmp_path / "photos"])
    browser.wait_text("Keep aside", "#view-work")
    browser.click("Upload", "#view-work")
    browser.wait_text("10 accepted", "#view-work")
    browser.wait_text(evil, "#view-work")
    assert browser.all("#view-work img") == []
    assert api.get("/api/v1/batches").json()["batches"][0]["classes"][0]["name"] == evil


def test_what_another_client_does(browser, daemon, api):
    """What another client does is shown without a reload."""
    browser.open(daemon)
    browser.wait_text("live", "#link")
    browser.wait_text("No model yet", "#view-now")
    learn_steps(api, ["red", "green"], count=30)
    browser.wait_text("Version 1", "#view-now")
    assert browser.script("return performance.getEntriesByType('navigation').length") == 1
