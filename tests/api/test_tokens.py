"""Tokens, scopes and the dashboard's sign-in: over the API, and with `accreted token` while the daemon does not run."""

import json
import re
import sqlite3
import subprocess

import pytest
import requests

from conftest import BINARY, SCHEMA, Client

TOKEN = re.compile(r"^acr_[A-Za-z0-9_-]{43}$")
UNKNOWN = "acr_" + "A" * 43


def bearer(token):
    return {"Authorization": f"Bearer {token}"}


def make(api, scope, name="", by=None):
    reply = api.post("/api/v1/tokens", json={"scope": scope, "name": name}, headers=bearer(by) if by else {})
    assert reply.status_code == 201, reply.text
    assert reply.headers["Location"] == f"/api/v1/tokens/{reply.json()['id']}"
    return reply.json()


@pytest.fixture
def tokens(api):
    """An admin token and one of scope predict."""
    admin = make(api, "admin", "the first")
    return admin, make(api, "predict", "camera 1", by=admin["token"])


def command(data_dir, *arguments):
    return subprocess.run([BINARY, "token", *arguments, "--config", "/dev/null", "--data-dir", str(data_dir)],
                          capture_output=True, text=True, timeout=30, check=False)


# ---- before there is a token ----

def test_without_a_token_everything_is_open(api):
    session = api.get("/api/v1/session").json()
    assert session == {"required": False, "scope": "admin", "expires": None}
    assert api.get("/api/v1/jobs", headers=bearer(UNKNOWN)).status_code == 200
    assert api.get("/api/v1/tokens").json() == {"tokens": [], "next_page_token": None}


def test_the_first_token_must_be_admin(api):
    api.refused(api.post("/api/v1/tokens", json={"scope": "predict"}), 409, "admin_token_first")
    assert api.get("/api/v1/jobs").status_code == 200


@pytest.mark.parametrize("body", [{}, {"scope": "root"}, {"scope": 1}, {"scope": "admin", "name": None},
                                  {"scope": "admin", "name": "x" * 65}, {"scope": "admin", "name": "a\nb"},
                                  {"scope": "admin", "name": "é"}, {"scope": "admin", "hash": "00"}, []])
def test_bad_fields(api, body):
    api.refused(api.post("/api/v1/tokens", json=body), 422, "bad_field")
    assert api.get("/api/v1/tokens").json() == {"tokens": [], "next_page_token": None}


def test_bad_json(api):
    api.refused(api.post("/api/v1/tokens", data="{"), 400, "bad_json")
    api.refused(api.post("/api/v1/session", data=""), 400, "bad_json")


# ---- with tokens ----

def test_a_token_is_shown_once_and_kept_as_a_hash(api, daemon, tokens):
    admin, _ = tokens
    assert TOKEN.match(admin["token"])
    listed = api.get("/api/v1/tokens", headers=bearer(admin["token"])).text
    assert "\"token\":" not in listed and admin["token"] not in listed
    assert [t["name"] for t in json.loads(listed)["tokens"]] == ["the first", "camera 1"]
    daemon.stop()
    for path in daemon.data_dir.rglob("*"):
        assert not path.is_file() or admin["token"].encode() not in path.read_bytes(), path
    assert admin["token"] not in daemon.log()


@pytest.mark.parametrize("headers", [
    {}, bearer(UNKNOWN), bearer(""), {"Authorization": "Basic dXNlcjpwYXNz"}, {"X-API-Key": UNKNOWN}, {"X-API-Key": ""},
    {"Cookie": "accreted_session=" + UNKNOWN}, {"Cookie": "accreted_session="},
])
@pytest.mark.parametrize("method, path", [("GET", "/api/v1/jobs"), ("POST", "/api/v1/jobs"), ("POST", "/api/v1/predict"),
                                          ("GET", "/v2"), ("GET", "/api/v1/tokens"), ("DELETE", "/api/v1/tokens/1"),
                                          ("GET", "/nowhere"), ("DELETE", "/healthz")])
def test_without_a_good_token_nothing_is_told(api, tokens, method, path, headers):
    reply = requests.request(method, api.daemon.url + path, headers=headers, timeout=30)
    assert reply.status_code == 401
    assert reply.json()["code"] == "unauthorized"
    assert reply.headers["WWW-Authenticate"].startswith('Bearer realm="accreted"')
    assert ("invalid_token" in reply.headers["WWW-Authenticate"]) == ("Cookie" not in headers and bool(headers))


def test_a_token_in_the_query_is_no_token(api, tokens):
    for name in ("token", "access_token", "api_key", "key"):
        api.refused(api.get(f"/api/v1/jobs?{name}={tokens[0]['token']}"), 401, "unauthorized")


@pytest.mark.parametrize("path", ["/healthz", "/", "/web/style.css", "/api/v1/session"])
@pytest.mark.parametrize("headers", [{}, bearer(UNKNOWN)])
def test_what_stays_open(api, tokens, path, headers):
    assert api.get(path, headers=headers).status_code == 200


@pytest.mark.parametrize("header", ["Bearer {}", "bearer {}", "BEARER   {}"])
def test_the_ways_to_show_a_token(api, tokens, header):
    for token in tokens:
        assert api.get("/api/v1/jobs", headers={"Authorization": header.format(token["token"])}).status_code == 200
        assert api.get("/api/v1/jobs", headers={"X-API-Key": token["token"]}).status_code == 200


def test_every_character_of_a_token_counts(api, tokens):
    token = tokens[0]["token"]
    for i in range(len(token)):
        other = token[:i] + ("x" if token[i] != "x" else "y") + token[i + 1:]
        api.refused(api.get("/api/v1/jobs", headers=bearer(other)), 401, "unauthorized")
    for other in (token + "A", token[:-1], token[4:], token.upper()):
        api.refused(api.get("/api/v1/jobs", headers=bearer(other)), 401, "unauthorized")


READS = ["/api/v1/models", "/api/v1/classes", "/api/v1/snapshots", "/api/v1/history", "/api/v1/jobs", "/api/v1/batches",
         "/v2", "/v2/health/live"]
CHANGES = [("PUT", "/api/v1/batches/a"), ("POST", "/api/v1/batches"), ("POST", "/api/v1/jobs"),
           ("POST", "/api/v1/jobs/1/cancel"), ("POST", "/api/v1/models"), ("GET", "/api/v1/models/1/export"),
           ("POST", "/api/v1/tokens"), ("GET", "/api/v1/tokens"), ("DELETE", "/api/v1/tokens/1"),
           ("POST", "/v2/repository/models/accreted/load")]


def test_scope_predict_predicts_and_reads(api, tokens):
    key = bearer(tokens[1]["token"])
    for path in READS:
        assert api.get(path, headers=key).status_code == 200, path
    api.refused(api.post("/api/v1/predict", data=b"x", headers=key), 503, "no_model")
    assert api.get("/api/v1/session", headers=key).json()["scope"] == "predict"


@pytest.mark.parametrize("method, path", CHANGES)
def test_scope_predict_changes_nothing(api, tokens, method, path):
    reply = requests.request(method, api.daemon.url + path, headers=bearer(tokens[1]["token"]), timeout=30)
    assert (reply.status_code, reply.json()["code"]) == (403, "forbidden")
    assert 'error="insufficient_scope"' in reply.headers["WWW-Authenticate"]


def test_every_route_says_who_may_call_it():
    """No route is open, or within scope predict, unless it stands here."""
    table = (SCHEMA.parent / "server/api/routes.c").read_text()
    rows = re.findall(r'\{"(\w+)", (?:V1 )?"([^"]*)"[^}]*?(ACCESS_\w+)\}', re.sub(r"\{(\w+)\}", r":\1", table))
    described = json.loads((SCHEMA / "openapi.json").read_text())["paths"]
    assert len(rows) == sum(len(item) for item in described.values())
    assert {(m, p) for m, p, access in rows if access == "ACCESS_OPEN"} == {
        ("GET", "/healthz"), ("GET", "/"), ("GET", "/web/:file"),
        ("GET", "/session"), ("POST", "/session"), ("DELETE", "/session")}
    writes = {(m, p) for m, p, access in rows if access == "ACCESS_PREDICT" and m != "GET"}
    assert writes == {("POST", "/predict"), ("POST", "/v2/models/:model/infer"),
                      ("POST", "/v2/models/:model/versions/:version/infer"), ("POST", "/v2/repository/index")}


def test_a_refused_upload_is_refused_before_it_is_sent(api, tokens):
    reply = requests.put(api.daemon.url + "/api/v1/batches/a", data=b"x" * (1 << 20), timeout=30)
    assert reply.status_code == 401
    assert reply.headers["Connection"] == "close"


def test_revoked_at_once(api, tokens):
    admin, camera = tokens
    url = f"/api/v1/tokens/{camera['id']}"
    api.refused(api.request("DELETE", "/api/v1/tokens/99", headers=bearer(admin["token"])), 404, "not_found")
    assert api.request("DELETE", url, headers=bearer(admin["token"])).json() == {"id": camera["id"], "revoked": True}
    api.refused(api.get("/v2", headers=bearer(camera["token"])), 401, "unauthorized")
    api.refused(api.request("DELETE", url, headers=bearer(admin["token"])), 404, "not_found")
    again = make(api, "predict", by=admin["token"])
    assert again["id"] > camera["id"]  # an id is never used twice


def test_the_last_admin_token_stays(api, tokens):
    admin, _ = tokens
    own = f"/api/v1/tokens/{admin['id']}"
    api.refused(api.request("DELETE", own, headers=bearer(admin["token"])), 409, "last_admin_token")
    second = make(api, "admin", by=admin["token"])
    assert api.request("DELETE", own, headers=bearer(admin["token"])).status_code == 200
    api.refused(api.get("/api/v1/tokens", headers=bearer(admin["token"])), 401, "unauthorized")
    assert len(api.get("/api/v1/tokens", headers=bearer(second["token"])).json()["tokens"]) == 2


def test_tokens_outlive_the_daemon(api, daemon, tokens):
    daemon.kill()
    with open(daemon.log_path, "ab"):
        daemon.start()
    api.refused(api.get("/api/v1/jobs"), 401, "unauthorized")
    assert api.get("/api/v1/jobs", headers=bearer(tokens[1]["token"])).status_code == 200


def test_there_is_an_end_to_tokens(api, daemon, tokens):
    daemon.stop()
    with sqlite3.connect(daemon.data_dir / "accreted.db") as db:
        db.executemany("INSERT INTO tokens (name, scope, hash, created_ms) VALUES ('', 'predict', ?, 1)",
                       [(f"{i:064x}",) for i in range(254)])
    daemon.start()
    key = bearer(tokens[0]["token"])
    assert len(api.get("/api/v1/tokens?limit=1000", headers=key).json()["tokens"]) == 256
    api.refused(api.post("/api/v1/tokens", json={"scope": "admin"}, headers=key), 409, "too_many_tokens")


# ---- sessions ----

def sign_in(api, token):
    browser = requests.Session()
    reply = browser.post(api.daemon.url + "/api/v1/session", json={"token": token}, timeout=30)
    assert reply.status_code == 200, reply.text
    api.check("POST", "/api/v1/session", reply)
    return browser, reply


def test_sign_in_and_out(api, tokens):
    url = api.daemon.url
    browser, reply = sign_in(api, tokens[0]["token"])
    assert reply.json()["required"] is True
    assert reply.json()["scope"] == "admin"
    cookie = reply.headers["Set-Cookie"]
    assert re.fullmatch(r"accreted_session=acr_[A-Za-z0-9_-]{43}; Path=/; Max-Age=43200; HttpOnly; SameSite=Strict", cookie)
    assert tokens[0]["token"] not in cookie
    assert browser.get(url + "/api/v1/tokens", timeout=30).status_code == 200
    assert browser.get(url + "/api/v1/session", timeout=30).json()["expires"] == reply.json()["expires"]
    old = {"Cookie": cookie.split(";")[0]}
    out = browser.delete(url + "/api/v1/session", timeout=30)
    api.check("DELETE", "/api/v1/session", out)
    assert "Max-Age=0" in out.headers["Set-Cookie"]
    api.refused(api.get("/api/v1/jobs", headers=old), 401, "unauthorized")


def test_sign_in_needs_a_good_token(api, tokens):
    api.refused(api.post("/api/v1/session", json={"token": UNKNOWN}), 401, "unauthorized")
    api.refused(api.post("/api/v1/session", json={"token": 1}), 422, "bad_field")
    api.refused(api.post("/api/v1/session", json={"token": "x", "more": 1}), 422, "bad_field")
    assert api.get("/api/v1/session").json() == {"required": True, "scope": None, "expires": None}


def test_a_change_through_the_cookie_needs_our_own_page(api, daemon, tokens):
    browser, _ = sign_in(api, tokens[0]["token"])
    url = daemon.url + "/api/v1/tokens"

    def post(origin):
        reply = browser.post(url, json={"scope": "predict"}, headers={"Origin": origin} if origin else {}, timeout=30)
        return reply.status_code, reply.json().get("code")

    assert post(None) == (403, "origin_required")
    assert post("http://evil.example") == (403, "origin_not_allowed")
    assert post("null") == (403, "origin_not_allowed")
    assert post(f"http://127.0.0.1:{daemon.port + 1}") == (403, "origin_not_allowed")
    assert post(daemon.url) == (201, None)


def test_a_token_in_the_header_beats_the_cookie(api, tokens):
    browser, _ = sign_in(api, tokens[0]["token"])
    reply = browser.get(api.daemon.url + "/api/v1/tokens", headers=bearer(UNKNOWN), timeout=30)
    assert reply.status_code == 401
    reply = browser.get(api.daemon.url + "/api/v1/tokens", headers=bearer(tokens[1]["token"]), timeout=30)
    assert reply.status_code == 403


def test_a_session_ends_with_its_token(api, tokens):
    browser, reply = sign_in(api, tokens[1]["token"])
    assert reply.json()["scope"] == "predict"
    assert browser.get(api.daemon.url + "/api/v1/jobs", timeout=30).status_code == 200
    api.request("DELETE", f"/api/v1/tokens/{tokens[1]['id']}", headers=bearer(tokens[0]["token"]))
    assert browser.get(api.daemon.url + "/api/v1/jobs", timeout=30).status_code == 401


def test_the_oldest_session_makes_room(api, tokens):
    def cookie(token):
        browser, reply = sign_in(api, token["token"])
        browser.close()
        return {"Cookie": reply.headers["Set-Cookie"].split(";")[0]}

    first = cookie(tokens[0])
    later = [cookie(tokens[1]) for _ in range(256)]
    api.refused(api.get("/api/v1/jobs", headers=first), 401, "unauthorized")
    for one in (later[0], later[-1]):
        assert api.get("/api/v1/jobs", headers=one).status_code == 200


# ---- the command ----

def test_command(tmp_path, start_daemon):
    data = tmp_path / "data"
    assert command(data, "create", "--scope", "predict").stderr.startswith("accreted: make a token of scope admin first")
    made = command(data, "create", "--scope", "admin", "--name", "laptop")
    assert made.returncode == 0, made.stderr
    token = made.stdout.strip()
    assert TOKEN.match(token)
    listed = command(data, "list").stdout
    assert re.fullmatch(r"1\tadmin\t\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ\tlaptop\n", listed)
    daemon = start_daemon(data)
    api = Client(daemon)
    api.refused(api.get("/api/v1/jobs"), 401, "unauthorized")
    assert api.get("/api/v1/tokens", headers=bearer(token)).status_code == 200
    busy = command(data, "list")
    assert busy.returncode == 1 and "already_running" in busy.stderr
    daemon.stop()
    assert command(data, "revoke", "1").returncode == 0
    assert command(data, "revoke", "1").stderr == "accreted: there is no token 1\n"
    assert command(data, "list").stdout == ""


@pytest.mark.parametrize("arguments", [[], ["create"], ["create", "--scope", "root"], ["create", "--scope=admin", "7"],
                                       ["revoke"], ["revoke", "x"], ["revoke", "1", "2"], ["list", "1"],
                                       ["list", "--scope", "admin"], ["nothing"], ["list", "--port", "1"],
                                       ["create", "--scope", "admin", "--name", "a\nb"]])
def test_command_that_is_none(tmp_path, arguments):
    result = command(tmp_path / "data", *arguments)
    assert result.returncode == 1
    assert result.stdout == ""
    assert result.stderr == "accreted: that is no `token` command; see accreted token --help\n"


def test_command_help():
    result = subprocess.run([BINARY, "token", "--help"], capture_output=True, text=True, timeout=30, check=True)
    assert result.stdout.startswith("Usage: accreted token create")
