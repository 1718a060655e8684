"""The dashboard's files: precompressed, kept by the browser until they change, under a policy that lets nothing else in."""

import gzip
import re

import pytest
import requests

from conftest import ROOT, Api

FILES = sorted(path.name for path in (ROOT / "web").iterdir() if path.is_file())


@pytest.fixture
def api(module_daemon):
    return Api(module_daemon)


@pytest.mark.parametrize("name", [*FILES, "chart.min.js"])
def test_a_file_plain_and_by_gzip(api, name):
    plain = api.get(f"/web/{name}", headers={"Accept-Encoding": "identity"})
    small = requests.get(f"{api.daemon.url}/web/{name}", headers={"Accept-Encoding": "br, gzip"}, stream=True, timeout=30)
    assert plain.status_code == small.status_code == 200
    assert "Content-Encoding" not in plain.headers
    assert small.headers["Content-Encoding"] == "gzip"
    assert small.headers["Vary"] == plain.headers["Vary"] == "Accept-Encoding"
    assert gzip.decompress(small.raw.read(decode_content=False)) == plain.content
    assert plain.headers["ETag"] != small.headers["ETag"], "two bodies, two tags"
    if name in FILES:
        assert plain.content == (ROOT / "web" / name).read_bytes()


@pytest.mark.parametrize("accepted, coded", [("gzip", True), ("deflate, gzip;q=0.5", True), ("gzip;q=0", False), ("br", False)])
def test_gzip_for_who_takes_it(api, accepted, coded):
    reply = api.get("/", headers={"Accept-Encoding": accepted})
    assert ("Content-Encoding" in reply.headers) == coded


@pytest.mark.parametrize("path", ["/", "/web/app.js"])
def test_what_the_browser_has_is_not_sent_again(api, path):
    first = api.get(path)
    assert first.headers["Cache-Control"] == "no-cache"
    again = requests.get(api.daemon.url + path, headers={"If-None-Match": first.headers["ETag"]}, timeout=30)
    assert (again.status_code, again.content, again.headers["ETag"]) == (304, b"", first.headers["ETag"])
    assert api.get(path, headers={"If-None-Match": '"other"'}).status_code == 200


def test_nothing_from_elsewhere(api):
    headers = api.get("/").headers
    policy = dict(rule.strip().split(" ", 1) for rule in headers["Content-Security-Policy"].split(";"))
    assert policy["default-src"] == policy["base-uri"] == policy["frame-ancestors"] == policy["trusted-types"] == "'none'"
    assert policy["require-trusted-types-for"] == "'script'"
    assert {policy[rule] for rule in ("script-src", "style-src", "img-src", "connect-src")} == {"'self'"}
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["Referrer-Policy"] == "no-referrer"
    assert headers["Cross-Origin-Opener-Policy"] == headers["Cross-Origin-Resource-Policy"] == "same-origin"


def test_the_page_names_only_what_is_there(api):
    for address in re.findall(r'(?:src|href)="(/web/[^"]+)"', api.get("/").text):
        assert api.get(address).status_code == 200, address
    modules = {n for n in FILES if n.endswith(".js")}
    preloaded = set(re.findall(r'rel="modulepreload" href="/web/([^"]+)"', api.get("/").text))
    assert preloaded == modules - {"app.js"}, "else the browser finds out one after the other"
    for name in modules:
        source = (ROOT / "web" / name).read_text()
        for other in re.findall(r'from "\./([^"]+)"', source):
            assert other in FILES, f"{name} imports {other}"
