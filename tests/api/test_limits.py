"""GET /api/v1/limits and the limits themselves; and the contract as the daemon serves it."""

import http.client
import json
import re

import jsonschema
import pytest
import requests

import images
from conftest import DOCUMENTS, ROOT, Client, wait_for

OPTIONS = {"max_upload_bytes": 200000, "max_image_bytes": 20000, "max_queued_jobs": 1, "max_connections": 99}


@pytest.fixture(scope="module")
def limits(module_daemon):
    return {limit["name"]: limit for limit in Client(module_daemon).get("/api/v1/limits").json()["limits"]}


def test_options_are_in_force(start_daemon, tmp_path):
    api = Client(start_daemon(tmp_path / "data", **OPTIONS))
    found = {limit["option"]: limit["value"] for limit in api.get("/api/v1/limits").json()["limits"]}
    for name, value in {**OPTIONS, "min_free_bytes": 0}.items():
        assert found[name.replace("_", "-")] == value


def test_every_refusal_for_size_or_number_is_listed(limits):
    """Each code that the daemon sends with 413, 429, 431 or 507 has its limit."""
    sources = "".join(p.read_text() for p in (ROOT / "server").rglob("*.c"))
    codes = set(re.findall(r'(?:413|429|431|507),\s*"([a-z_]+)"', sources))
    assert {"body_too_large", "disk_full", "queue_full", "overloaded"} <= codes
    assert codes == {limit["code"] for limit in limits.values() if limit["status"] in (413, 429, 431, 507)}


def test_options_exist(limits):
    usage = (ROOT / "server/config.c").read_text()
    for limit in limits.values():
        assert limit["option"] is None or f'{{"{limit["option"]}",' in usage


def refused(reply, status, limit):
    assert (reply.status_code, reply.json().get("limit")) == (status, limit), reply.text


@pytest.mark.parametrize("method, path, name", [
    ("PUT", "batches/a", "upload_bytes"), ("POST", "predict", "image_bytes"), ("POST", "models?format=safetensors", "model_bytes"),
    ("POST", "jobs", "json_bytes"), ("POST", "tokens", "small_json_bytes"), ("POST", "jobs/1/cancel", "unread_body_bytes")])
def test_bodies(start_daemon, tmp_path, limits, method, path, name):
    api = Client(start_daemon(tmp_path / "data", **OPTIONS))
    frame = 65536 if name == "image_bytes" else 0
    most = OPTIONS.get("max_" + name, limits[name]["value"]) + frame

    connection = http.client.HTTPConnection("127.0.0.1", api.daemon.port, timeout=60)
    connection.putrequest(method, "/api/v1/" + path)
    connection.putheader("Content-Length", str(most + 1))  # refused as announced: no byte of it has to come
    connection.endheaders()
    reply = connection.getresponse()
    assert (reply.status, json.loads(reply.read())["limit"]) == (413, name)
    connection.close()


def test_headers(module_daemon, limits):
    most = limits["header_bytes"]["value"]
    for size, status in ((most - 1000, 200), (most + 1, 431)):
        reply = requests.get(module_daemon.url + "/healthz", headers={"X-Long": "x" * size}, timeout=60)
        assert reply.status_code == status
        if status == 431:
            refused(reply, 431, "header_bytes")


def test_target(module_daemon, limits):
    reply = requests.get(module_daemon.url + "/healthz?" + "x" * limits["target_bytes"]["value"], timeout=60)
    refused(reply, 414, "target_bytes")


def test_disk(start_daemon, tmp_path):
    api = Client(start_daemon(tmp_path / "data", min_free_bytes="1048576G"))
    refused(api.put("/api/v1/batches/a", data=images.tar(["red"], [1])), 507, "min_free_bytes")


def test_queue(start_daemon, tmp_path):
    api = Client(start_daemon(tmp_path / "data", **OPTIONS))
    for i, label in enumerate(("red", "green", "blue")):
        api.upload(f"b{i}", images.tar([label, images.CLASSES[i + 3]], range(20)))
    first = api.train("b0", depth=8, epochs=5000)
    wait_for(lambda: api.job(first["id"])["state"] == "running", what="a start")  # until then it is queued too
    api.train("b1", depth=8, epochs=5000)
    reply = api.post("/api/v1/jobs", json={"batches": ["b2"]})
    refused(reply, 429, "queued_jobs")
    assert reply.headers["Retry-After"]


# ---- the contract ----

def refs(node):
    if isinstance(node, dict):
        for key, value in node.items():
            if key == "$ref":
                yield value
            else:
                yield from refs(value)
    elif isinstance(node, list):
        for value in node:
            yield from refs(value)


def test_the_contract_is_whole(module_daemon):
    served = Client(module_daemon).get("/openapi.json").json()
    source = DOCUMENTS["openapi.json"]
    assert served["openapi"] == "3.1.0"
    assert {(p, m) for p, item in served["paths"].items() for m in item} == {
        (p, m) for p, item in source["paths"].items() for m in item}
    assert set(served["components"]["schemas"]) == {n[:-5] for n in DOCUMENTS if n != "openapi.json"}
    for ref in refs(served):
        node = served
        assert ref.startswith("#/"), ref
        for part in ref[2:].split("/"):
            node = node[part]
    for name, schema in served["components"]["schemas"].items():
        assert schema.get("title") == DOCUMENTS[name + ".json"].get("title")


def test_the_served_schemas_judge_as_the_files_do(module_daemon):
    api = Client(module_daemon)
    served = api.get("/openapi.json").json()

    def valid(name, value):
        resolver = jsonschema.RefResolver("", served)
        return jsonschema.Draft202012Validator({"$ref": f"#/components/schemas/{name}"}, resolver=resolver).is_valid(value)

    problem = api.get("/api/v1/jobs/9").json()
    assert valid("problem", problem) and not valid("problem", {**problem, "more": 1})
    jobs = api.get("/api/v1/jobs").json()
    assert valid("job_list", jobs) and not valid("job_list", {"jobs": [{}], "next_page_token": None})
    assert json.dumps(served).count("components/schemas/job_options") >= 1
