"""What keeps the page true: one stream for all tabs, a daemon that comes and goes, no stream at all; who may do what; and
a hundred classes after fifty steps."""

import io
import socket
import tarfile

import numpy
import pytest

import images
from conftest import LATER, TINY, api_fixtures, learn_steps


def event_requests(browser):
    return [url for url in browser.requests() if "/api/v1/events" in url]


def test_tabs_share_one_stream(browser, daemon, api):
    browser.open(daemon)
    browser.wait_text("live", "#link")
    driver = browser.driver
    first = driver.current_window_handle
    for _ in range(7):  # more than the six connections a browser allows
        driver.switch_to.new_window("tab")
        driver.get(f"{daemon.url}/#now")
        browser.ready()
        browser.wait_text("live", "#link")
    assert len(event_requests(browser)) == 1
    api.upload("one", images.tar(["red", "green"], range(30)))
    api.learn("one", **TINY)
    browser.wait_text("Version 1", "#view-now")  # told by another tab
    driver.switch_to.window(first)
    driver.close()  # the tab that reads the stream: another goes on
    driver.switch_to.window(driver.window_handles[-1])
    browser.wait_text("live", "#link")
    api.upload("two", images.tar(["blue", "yellow"], range(100, 130)))
    api.learn("two", **LATER)
    browser.wait_text("Version 2", "#view-now")


def test_a_restart_of_the_daemon(browser, start_daemon, tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]  # the address of the page must stay
    daemon = start_daemon(tmp_path / "data", port=port)
    api = api_fixtures.Client(daemon)
    browser.expected = ("net::ERR_", "reading failed")
    browser.open(daemon)
    browser.wait_text("live", "#link")
    daemon.stop()
    browser.wait_text("no answer", "#link")
    assert "does not answer" in browser.text("#trouble")
    daemon.start()
    browser.wait_text("live", "#link")
    assert browser.text("#trouble") == ""
    learn_steps(api, ["red", "green"], count=20)
    browser.wait_text("Version 1", "#view-now")


def test_without_a_stream_it_asks(browser, daemon, api):
    browser.expected = ("Failed to load resource",)
    browser.driver.execute_cdp_cmd("Network.enable", {})
    browser.driver.execute_cdp_cmd("Network.setBlockedURLs", {"urls": ["*/api/v1/events*"]})
    try:
        browser.open(daemon)
        browser.wait_text("asks every 3 s", "#link")
        learn_steps(api, ["red", "green"], count=20)
        browser.wait_text("Version 1", "#view-now")
    finally:
        browser.driver.execute_cdp_cmd("Network.setBlockedURLs", {"urls": []})


# ---- who may do what ----

def sign_in(browser, token):
    field = browser.css("#token")
    field.clear()
    field.send_keys(token)
    browser.click("Sign in", "#sign-in")


def test_signing_in_and_out(browser, daemon, api):
    admin = api.post("/api/v1/tokens", json={"scope": "admin"}).json()["token"]
    api.post("/api/v1/tokens", json={"scope": "predict"}, headers={"Authorization": f"Bearer {admin}"})
    browser.expected = ("401 (Unauthorized)",)
    browser.driver.get(daemon.url)
    browser.origin = daemon.url
    browser.wait_text("This daemon wants a token", "#sign-in")
    assert not browser.css("#views").is_displayed()
    sign_in(browser, "acr_" + "x" * 43)
    browser.wait_text("not known here", "#sign-in")
    sign_in(browser, admin)
    browser.wait_text("admin", "#session")
    browser.wait_text("live", "#link")
    browser.view("work")
    assert browser.css("#view-work .drop").is_displayed()
    assert admin not in browser.script("return document.cookie + JSON.stringify(localStorage)")
    browser.click("Sign out", "#session")
    browser.wait_text("This daemon wants a token", "#sign-in")


def test_read_only_without_the_admin_scope(browser, daemon, api):
    admin = api.post("/api/v1/tokens", json={"scope": "admin"}).json()["token"]
    by = {"Authorization": f"Bearer {admin}"}
    reader = api.post("/api/v1/tokens", json={"scope": "predict"}, headers=by).json()["token"]
    reply = api.put("/api/v1/batches/one", data=images.tar(["red", "green"], range(30)), headers=by)
    assert reply.status_code == 201
    job = api.post("/api/v1/jobs", json={"batches": ["one"], "options": {**TINY, "epochs": 5000}}, headers=by).json()["id"]
    browser.driver.get(daemon.url)
    browser.origin = daemon.url
    browser.wait_text("This daemon wants a token", "#sign-in")
    sign_in(browser, reader)
    browser.wait_text("read only", "#session")
    browser.wait_text(f"Job {job}", "#view-now")
    browser.view("work")
    assert "Read only" in browser.text("#view-work")
    assert browser.all("#view-work .drop") == []
    names = {b.text for view in ("now", "store", "work") for b in browser.all(f"#view-{view} button")}
    assert not names & {"Cancel", "Start", "Upload", "Export", "Roll back"}, names
    api.post(f"/api/v1/jobs/{job}/cancel", headers=by)


# ---- size ----

@pytest.fixture(scope="module")
def big(tmp_path_factory):
    """Fifty steps of two classes, of a handful of images each."""
    started = api_fixtures.Started()

    def batch(step):
        out = io.BytesIO()
        with tarfile.open(fileobj=out, mode="w") as archive:
            for label in (2 * step, 2 * step + 1):
                for seed in range(6):
                    pixels = numpy.random.default_rng([label, seed]).integers(0, 256, (8, 8), dtype=numpy.uint8)
                    data = images.encode(pixels)
                    info = tarfile.TarInfo(f"class-{label:03}/{seed}.png")
                    info.size = len(data)
                    archive.addfile(info, io.BytesIO(data))
        return out.getvalue()

    try:
        daemon = started.start(tmp_path_factory.mktemp("big") / "data")
        api = api_fixtures.Client(daemon)
        options = {"gate": None, "epochs": 1, "batch": 16, "prune": {"keep": 0.5, "epochs": 0}}
        for step in range(50):
            api.upload(f"step-{step:02}", batch(step), holdout=0.34)
            api.learn(f"step-{step:02}", **options, **({} if step else {"depth": 8}))
        yield daemon
    finally:
        started.end()


def test_a_hundred_classes_and_fifty_steps(browser, big):
    browser.open(big)
    browser.script("""
        window.longest = 0;
        new PerformanceObserver((list) => list.getEntries().forEach((e) => { window.longest = Math.max(window.longest, e.duration); }))
            .observe({ type: "longtask", buffered: true });""")
    for view in ("accuracy", "store", "work", "try", "now"):
        browser.view(view)
        browser.settle()
        browser.picture(f"{view}-big")
        rows = browser.script("return document.querySelectorAll(arguments[0]).length", f"#view-{view} tr")
        assert rows < 120, f"{view} draws {rows} rows at once"
    assert "Version 50" in browser.text("#view-now")
    browser.view("accuracy")
    browser.css("#worst-only").click()
    browser.settle()
    browser.click("Next", "#view-accuracy")
    heat = browser.css("#view-accuracy canvas.heat")
    heat.send_keys("\ue013")
    browser.wait_text("After step 50, on the classes of step 1", "#view-accuracy output")
    print(f"longest task {browser.script('return window.longest')} ms")
