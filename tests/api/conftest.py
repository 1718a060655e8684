"""What every test of the API stands on: real daemons on temporary data directories, and a client that checks each reply
against schema/. ACCRETED names the binary; build/release/accreted where it is not set."""

import json
import os
import pathlib
import re
import signal
import subprocess
import time

import jsonschema
import pytest
import requests

ROOT = pathlib.Path(__file__).resolve().parents[2]
BINARY = os.environ.get("ACCRETED", str(ROOT / "build/release/accreted"))
SCHEMA = ROOT / "schema"
DOCUMENTS = {path.name: json.loads(path.read_text()) for path in SCHEMA.glob("*.json")}
SANITIZER = re.compile(r"ERROR: \w+Sanitizer|WARNING: ThreadSanitizer|: runtime error: ")
# What the daemon's front answers for any route, before the route itself is asked.
FRONT_STATUSES = (400, 401, 403, 413, 414, 421, 431, 501, 503)
START_SECONDS = 30  # under a sanitizer on a busy machine; else a few hundredths
STOP_SECONDS = 10


def wait_for(condition, seconds=60, what="a condition"):
    """Polls until `condition()` is true; its value."""
    end = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < end, f"waited {seconds} s for {what}"
        time.sleep(0.02)
    return value


class Daemon:
    """One process on one data directory; `start` again after it ended."""

    def __init__(self, data_dir, **options):
        self.data_dir = pathlib.Path(data_dir)
        self.log_path = self.data_dir.with_name(self.data_dir.name + ".log")
        self.arguments = [BINARY, "--config", "/dev/null", "--data-dir", str(data_dir), "--port", "0"]
        for name, value in {"min_free_bytes": 0, **options}.items():
            self.arguments += ["--" + name.replace("_", "-"), str(value)]
        self.process = None

    def start(self):
        port_file = self.data_dir / "port"
        port_file.unlink(missing_ok=True)  # of one that was killed
        with open(self.log_path, "ab") as log:
            self.process = subprocess.Popen(self.arguments, stderr=log)
        wait_for(lambda: port_file.exists() or self.process.poll() is not None, START_SECONDS, "the port file")
        assert self.process.poll() is None, f"the daemon ended: {self.log()}"
        self.port = int(port_file.read_text())
        self.url = f"http://127.0.0.1:{self.port}"
        assert requests.get(self.url + "/healthz", timeout=START_SECONDS).status_code == 200
        return self

    def log(self):
        return self.log_path.read_text(errors="replace")

    def running(self):
        return self.process is not None and self.process.poll() is None

    def kill(self):
        """As a power cut, but for what the kernel has already been told."""
        self.process.kill()
        self.process.wait()

    def stop(self):
        """A clean stop, in time and without a complaint from a sanitizer."""
        self.process.send_signal(signal.SIGTERM)
        try:
            status = self.process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self.kill()
            pytest.fail(f"still there {STOP_SECONDS} s after SIGTERM")
        assert status == 0, f"exit status {status} after SIGTERM"
        self.check_log()

    def check_log(self):
        found = SANITIZER.search(self.log())
        assert not found, self.log()[found.start():][:4000]


class Api:
    """A client of one daemon. Every reply must be one that schema/openapi.json promises for the route, down to its schema."""

    routes = [(re.compile(re.sub(r"{\w+}", "[^/]+", path)), path, item)
              for path, item in DOCUMENTS["openapi.json"]["paths"].items()]

    def __init__(self, daemon):
        self.daemon = daemon

    def get(self, path, **arguments):
        return self.request("GET", path, **arguments)

    def post(self, path, **arguments):
        return self.request("POST", path, **arguments)

    def put(self, path, **arguments):
        return self.request("PUT", path, **arguments)

    def delete(self, path, **arguments):
        return self.request("DELETE", path, **arguments)

    def request(self, method, path, **arguments):
        reply = requests.request(method, self.daemon.url + path, timeout=120, **arguments)
        self.check(method, path, reply)
        return reply

    def check(self, method, path, reply):
        where = f"{method} {path} -> {reply.status_code}"
        assert reply.headers["X-Request-Id"], where
        kind = (reply.headers.get("Content-Type") or "").split(";")[0]
        schema = self.promised(method, path, reply.status_code, kind, where)
        if not kind.endswith("json"):
            return
        body = reply.json()
        resolver = jsonschema.RefResolver(SCHEMA.as_uri() + "/", schema, store={
            f"{SCHEMA.as_uri()}/{name}": document for name, document in DOCUMENTS.items()})
        jsonschema.Draft202012Validator(schema, resolver=resolver).validate(body)
        if kind == "application/problem+json":
            assert body["status"] == reply.status_code, where
            assert body["request_id"] == reply.headers["X-Request-Id"], where

    def promised(self, method, path, status, kind, where):
        """The schema of a reply; fails where openapi.json does not know it."""
        path = path.partition("?")[0]
        item = next((item for pattern, _, item in self.routes if pattern.fullmatch(path)), {})
        operation = item.get(method.lower())
        if operation is None:
            assert status in (*FRONT_STATUSES, 404, 405), f"{where}: schema/openapi.json has no such route"
            return {"$ref": "problem.json"}
        responses = operation["responses"]
        response = responses.get(str(status)) or (responses["default"] if status in FRONT_STATUSES else None)
        assert response, f"{where}: schema/openapi.json has no such status"
        if "$ref" in response:
            response = DOCUMENTS["openapi.json"]["components"]["responses"][response["$ref"].rpartition("/")[2]]
        if not kind and "content" not in response:
            return {}
        assert kind in response["content"], f"{where}: {kind} is not promised"
        return response["content"][kind]["schema"]


class Client(Api):
    """What tests do all the time, in a word each."""

    def upload(self, name, body, **query):
        reply = self.put(f"/api/v1/batches/{name}", data=body, params=query)
        assert reply.status_code == 201, reply.text
        return reply.json()

    def train(self, *batches, **options):
        reply = self.post("/api/v1/jobs", json={"batches": batches, "options": options})
        assert reply.status_code == 202, reply.text
        assert reply.headers["Location"] == f"/api/v1/jobs/{reply.json()['id']}"
        return reply.json()

    def job(self, job_id):
        return self.get(f"/api/v1/jobs/{job_id}").json()

    def wait(self, job_id, seconds=300):
        """The job once its state is final."""
        return wait_for(lambda: (job := self.job(job_id))["state"] in ("succeeded", "failed", "cancelled") and job,
                        seconds, f"the end of job {job_id}")

    def learn(self, *batches, **options):
        """Trains to the end, which must be a success."""
        job = self.wait(self.train(*batches, **options)["id"])
        assert job["state"] == "succeeded", job
        return job

    def predict(self, image, **query):
        reply = self.post("/api/v1/predict", data=image, params=query)
        assert reply.status_code == 200, reply.text
        return reply.json()

    def refused(self, reply, status, code):
        """Asserts the refusal; its detail."""
        assert (reply.status_code, reply.json().get("code")) == (status, code), reply.text
        return reply.json()["detail"]


class Started(list):
    """Daemons of one scope, ended and judged together."""

    def start(self, data_dir, **options):
        self.append(Daemon(data_dir, **options))
        return self[-1].start()

    def end(self):
        try:
            for daemon in self:
                if daemon.running():
                    daemon.stop()
                daemon.check_log()
        finally:
            for daemon in self:
                if daemon.running():
                    daemon.kill()
                print(f"--- {daemon.log_path} ---\n{daemon.log()}")  # pytest shows it where the test failed


@pytest.fixture
def start_daemon():
    """A function (data_dir, **options) that starts a daemon, which ends with the test."""
    started = Started()
    yield started.start
    started.end()


@pytest.fixture
def daemon(start_daemon, tmp_path):
    """A fresh daemon."""
    return start_daemon(tmp_path / "data")


@pytest.fixture
def api(daemon):
    """A client of the fresh daemon."""
    return Client(daemon)


@pytest.fixture(scope="module")
def module_daemon(tmp_path_factory):
    """One daemon for all tests of a file, which must not change what the others see."""
    started = Started()
    yield started.start(tmp_path_factory.mktemp("module") / "data")
    started.end()
