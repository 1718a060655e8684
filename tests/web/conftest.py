"""The dashboard in a real browser: headless Chromium against a real daemon.

Each test's daemon and API client are those of tests/api. What every page is held to, whatever the test does: no violation of
the Content-Security-Policy, nothing on the console, no request to anywhere but the daemon. Pictures go to build/screens.
One file: /usr/bin/python3 -m pytest -q tests/web/test_views.py; all: make check-web."""

import importlib.util
import json
import os
import pathlib
import sys
import urllib.parse

import pytest
from selenium import webdriver
from selenium.common.exceptions import ElementClickInterceptedException, StaleElementReferenceException
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By

ROOT = pathlib.Path(__file__).resolve().parents[2]
SCREENS = pathlib.Path(os.environ.get("SCREENS", ROOT / "build/screens"))

# tests/api/conftest.py has this file's name, so it comes in under another.
sys.path.insert(0, str(ROOT / "tests/api"))
_spec = importlib.util.spec_from_file_location("api_fixtures", ROOT / "tests/api/conftest.py")
api_fixtures = importlib.util.module_from_spec(_spec)
sys.modules["api_fixtures"] = api_fixtures
_spec.loader.exec_module(api_fixtures)
import images  # noqa: E402  of tests/api

Client = api_fixtures.Client
Started = api_fixtures.Started
wait_for = api_fixtures.wait_for
start_daemon = api_fixtures.start_daemon
daemon = api_fixtures.daemon
api = api_fixtures.api

WIDE, NARROW = (1280, 900), (390, 844)
TINY = {"depth": 8, "epochs": 5, "batch": 32, "prune": {"keep": 0.5, "epochs": 1}, "gate": None}
LATER = {key: value for key, value in TINY.items() if key != "depth"}

FLAGS = ["--headless=new", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync",
         "--disable-background-networking", "--disable-component-update", "--disable-dev-shm-usage",
         "--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream", "--hide-scrollbars"]


class Browser:
    """Chromium and what tests do with it, one test after the other."""

    def __init__(self, profile):
        options = webdriver.ChromeOptions()
        options.binary_location = "/usr/bin/chromium"
        for flag in [*FLAGS, f"--user-data-dir={profile}"]:
            options.add_argument(flag)
        options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
        self.driver = webdriver.Chrome(options=options, service=Service("/usr/bin/chromedriver"))
        self.driver.execute_cdp_cmd("Page.addScriptToEvaluateOnNewDocument", {"source": """
            window.violations = [];
            addEventListener("securitypolicyviolation", (e) => window.violations.push(`${e.violatedDirective} ${e.blockedURI}`));
        """})
        self.begin()

    def begin(self):
        """As new: nothing remembered, no page, light and wide."""
        self.driver.get("about:blank")
        self.driver.execute_cdp_cmd("Network.clearBrowserCookies", {})
        self.driver.execute_cdp_cmd("Network.clearBrowserCache", {})
        for kind in ("browser", "performance"):
            self.driver.get_log(kind)
        self.origin = None
        self.expected = ()  # texts of console lines that the test brings about
        self.resize(WIDE)
        self.dark(False)

    # ---- looking ----

    def open(self, daemon, view="now"):
        self.origin = daemon.url
        self.driver.get(f"{daemon.url}/#{view}")
        self.ready()
        return self

    def ready(self):
        wait_for(lambda: self.script("return document.documentElement.dataset.ready") == "true", what="the page")

    def view(self, name):
        self.css(f"#tabs a[href='#{name}']").click()
        wait_for(lambda: self.css(f"#view-{name}").is_displayed(), what=name)

    def script(self, text, *arguments):
        return self.driver.execute_script(text, *arguments)

    def css(self, selector):
        return self.driver.find_element(By.CSS_SELECTOR, selector)

    def all(self, selector):
        return self.driver.find_elements(By.CSS_SELECTOR, selector)

    def text(self, selector="body"):
        return self.script("""
            return [...document.querySelectorAll(arguments[0])].filter((e) => e.checkVisibility()).map((e) => e.innerText)
                .join('\\n')""", selector)

    def wait_text(self, text, selector="body", seconds=60):
        wait_for(lambda: text in self.text(selector), seconds, f"'{text}' in {selector}; it says: {self.text(selector)[:1500]}")

    def button(self, name, inside="body"):
        """The button that is called so, by its text or its label."""
        for element in self.all(f"{inside} button"):
            try:
                if name in (element.text, element.get_attribute("aria-label")) and element.is_displayed():
                    return element
            except StaleElementReferenceException:
                continue  # drawn anew meanwhile
        return None

    def click(self, name, inside="body"):
        """As a person would: what lies under the head is scrolled out first, and a table redrawn meanwhile is looked up anew."""
        def clicked():
            button = self.button(name, inside)
            if not button:
                return False
            try:
                self.script("arguments[0].scrollIntoView({ block: 'center' })", button)
                button.click()
            except (ElementClickInterceptedException, StaleElementReferenceException):
                return False
            return True

        wait_for(clicked, what=f"a click on '{name}'")

    # ---- doing ----

    def drop(self, selector, paths):
        """Drags files or folders from outside onto an element."""
        box = self.css(selector)
        self.script("arguments[0].scrollIntoView({ block: 'center' })", box)
        place = self.script("const r = arguments[0].getBoundingClientRect(); return [r.x + r.width / 2, r.y + 12]", box)
        data = {"items": [], "files": [str(p) for p in paths], "dragOperationsMask": 1}
        for kind in ("dragEnter", "dragOver", "drop"):
            self.driver.execute_cdp_cmd("Input.dispatchDragEvent", {"type": kind, "x": place[0], "y": place[1], "data": data})

    def resize(self, size):
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride",
                                    {"width": size[0], "height": size[1], "deviceScaleFactor": 1, "mobile": False})

    def dark(self, on):
        self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [
            {"name": "prefers-color-scheme", "value": "dark" if on else "light"}]})

    def picture(self, name):
        """The whole page, as high as it is, to build/screens."""
        SCREENS.mkdir(parents=True, exist_ok=True)
        width = self.script("return innerWidth")
        before = (width, self.script("return innerHeight"))
        self.script("document.activeElement?.blur(); scrollTo(0, 0)")
        self.resize((width, max(before[1], self.script("return document.documentElement.scrollHeight"))))
        self.settle()
        self.driver.save_screenshot(str(SCREENS / f"{name}.png"))
        self.resize(before)

    def settle(self):
        """Two frames and what they set off."""
        self.driver.execute_async_script(
            "const done = arguments[0]; requestAnimationFrame(() => requestAnimationFrame(() => setTimeout(done, 150)))")

    # ---- judging ----

    def requests(self):
        """Addresses asked for since the last look."""
        messages = (json.loads(entry["message"])["message"] for entry in self.driver.get_log("performance"))
        return [m["params"]["request"]["url"] for m in messages if m["method"] == "Network.requestWillBeSent"]

    def judge(self):
        assert self.script("return window.violations ?? []") == []
        said = [e["message"] for e in self.driver.get_log("browser") if not any(t in e["message"] for t in self.expected)]
        assert said == [], said
        elsewhere = [url for url in self.requests() if urllib.parse.urlsplit(url).scheme not in ("data", "blob", "about", "chrome")
                     and self.origin and not url.startswith(self.origin + "/")]
        assert elsewhere == []

    def end(self):
        if self.origin:
            self.driver.execute_cdp_cmd("Storage.clearDataForOrigin", {"origin": self.origin, "storageTypes": "all"})
        for extra in self.driver.window_handles[1:]:
            self.driver.switch_to.window(extra)
            self.driver.close()
        self.driver.switch_to.window(self.driver.window_handles[0])
        self.driver.get("about:blank")


@pytest.fixture(scope="session")
def chromium(tmp_path_factory):
    """The process: it takes seconds to start, so all tests of a run share it."""
    process = Browser(tmp_path_factory.mktemp("chromium") / "profile")
    yield process
    process.driver.quit()


@pytest.fixture
def browser(chromium, start_daemon):
    """Judged when the test is over, while the daemons of start_daemon are still there."""
    chromium.begin()
    try:
        yield chromium
        chromium.judge()
    finally:
        chromium.end()


def folder_of(folder, labels, seeds):
    """Writes folder/label/seed.png for each; the folder."""
    for label in labels:
        (folder / label).mkdir(parents=True, exist_ok=True)
        for seed in seeds:
            (folder / label / f"{seed}.png").write_bytes(images.png(label, seed))
    return folder


def learn_steps(client, *groups, count=60):
    """A step for each group of labels; a fifth of the images is kept aside."""
    for i, labels in enumerate(groups, 1):
        client.upload(f"week-{i}", images.tar(labels, range(count)), holdout=0.2)
        client.learn(f"week-{i}", **(TINY if i == 1 else LATER))


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A daemon that has learned three steps of two classes; tests must not change it."""
    started = Started()
    try:
        running = started.start(tmp_path_factory.mktemp("trained") / "data")
        learn_steps(Client(running), ["red", "green"], ["blue", "yellow"], ["violet", "grey"])
        yield running
    finally:
        started.end()
