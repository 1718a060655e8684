"""Lists page by page: everything once, in order, whatever the limit; and only with tokens that the list itself gave."""

import sqlite3

import pytest

import images
from conftest import DOCUMENTS, Client

COUNT = 7
# List -> (its key, what tells an entry from another).
LISTS = {"jobs": "id", "batches": "name", "models": "version", "snapshots": "version", "classes": "index", "tokens": "id"}
ROWS = """
WITH RECURSIVE n(i) AS (SELECT 2 UNION ALL SELECT i + 1 FROM n WHERE i < 7)
INSERT INTO jobs (options, state, created_ms) SELECT (SELECT options FROM jobs), 'queued', i FROM n;
UPDATE jobs SET state = 'running', started_ms = 1, kernel = 'avx2', gang = 1 WHERE state = 'queued';
WITH RECURSIVE n(i) AS (SELECT 2 UNION ALL SELECT i + 1 FROM n WHERE i < 7)
INSERT INTO versions (version, parent, job, step, active, classes, model_bytes, snapshot_bytes, dense_bytes, sparsity,
                      created_ms, train_seconds) SELECT i, i - 1, i, i, 0, i, 1, 1, 1, 0.5, i, 1 FROM n;
UPDATE jobs SET state = 'succeeded', version = id, finished_ms = 1, reproducible = 1 WHERE state = 'running';
"""


@pytest.fixture(scope="module")
def filled(module_daemon):
    """A daemon with COUNT of each, most of them made behind its back; and the header with its token."""
    api = Client(module_daemon)
    classes = [(f"class-{i}", "red", 100 + COUNT * seed + i) for i in range(COUNT) for seed in range(5)]
    api.upload("batch-0", images.tar([], [], classes))
    for i in range(1, COUNT):
        api.upload(f"batch-{i}", images.tar(["red", "blue"], range(i, i + 5)))
    api.learn("batch-0", depth=8, epochs=1, batch=32, prune={"keep": 0.5, "epochs": 1})
    module_daemon.stop()
    with sqlite3.connect(module_daemon.data_dir / "accreted.db") as db:
        db.executescript(ROWS)
    module_daemon.start()
    headers = {}
    for _ in range(COUNT):
        reply = api.post("/api/v1/tokens", json={"scope": "admin"}, headers=headers)
        headers = {"Authorization": "Bearer " + reply.json()["token"]}
    return api, headers


def page(filled, name, query=""):
    api, headers = filled
    return api.get(f"/api/v1/{name}{query}", headers=headers)


def test_every_list_is_here():
    paths = DOCUMENTS["openapi.json"]["paths"]
    paged = {path for path, item in paths.items()
             if {"$ref": "#/components/parameters/page_token"} in item.get("get", {}).get("parameters", [])}
    assert paged == {"/api/v1/" + name for name in LISTS}


@pytest.mark.parametrize("name", LISTS)
@pytest.mark.parametrize("limit", [1, 3, COUNT - 1, COUNT, COUNT + 1])
def test_everything_once_and_in_order(filled, name, limit):
    whole = page(filled, name).json()
    assert whole["next_page_token"] is None
    ids = [entry[LISTS[name]] for entry in whole[name]]
    assert len(set(ids)) == COUNT
    found, query, pages = [], f"?limit={limit}", 0
    while query:
        reply = page(filled, name, query)
        assert reply.status_code == 200, reply.text
        entries = [entry[LISTS[name]] for entry in reply.json()[name]]
        assert len(entries) == min(limit, COUNT - len(found))
        found += entries
        pages += 1
        token = reply.json()["next_page_token"]
        query = f"?limit={limit}&page_token={token}" if token else None
    assert found == ids
    assert pages == -(-COUNT // limit)


@pytest.mark.parametrize("name", LISTS)
def test_only_its_own_tokens(filled, name):
    api, _ = filled
    token = page(filled, name, "?limit=2").json()["next_page_token"]
    other = page(filled, next(n for n in LISTS if n != name), "?limit=2").json()["next_page_token"]
    altered = [token[:-1] + ("0" if token[-1] != "0" else "1"), "7" + token, token + "0", token[:-1], token.upper() + "x",
               token.partition("-")[0], "0" + token, "%20" + token, "-1" + token[token.index("-"):]]
    for bad in [*altered, other, "p5", "", "-", "x" * 1000, "%ff", "0-0", "5"]:
        api.refused(page(filled, name, f"?limit=2&page_token={bad}"), 400, "bad_page_token")


@pytest.mark.parametrize("limit", ["0", "-1", "1001", "x", "", "1.0", "+1", "99999999999999999999"])
@pytest.mark.parametrize("name", LISTS)
def test_bad_limit(filled, name, limit):
    filled[0].refused(page(filled, name, f"?limit={limit}"), 400, "bad_query")


def test_a_token_holds_over_a_restart(filled):
    token = page(filled, "jobs", "?limit=2").json()["next_page_token"]
    before = page(filled, "jobs", f"?limit=2&page_token={token}").json()
    filled[0].daemon.stop()
    filled[0].daemon.start()
    assert page(filled, "jobs", f"?limit=2&page_token={token}").json() == before
