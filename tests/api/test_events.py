"""GET /api/v1/events over raw sockets: every message against schema/event.json, replay, restarts, clients that leave."""

import json
import socket
import time

import jsonschema
import pytest

import images
from conftest import DOCUMENTS, SCHEMA, Api, wait_for

TINY = {"depth": 8, "epochs": 4, "batch": 32, "prune": {"keep": 0.5, "epochs": 1}}
LONG = {**TINY, "epochs": 5000}
KEPT = 1000
MAX_CLIENTS = 32


def validate(kind, data):
    store = {f"{SCHEMA.as_uri()}/{name}": document for name, document in DOCUMENTS.items()}
    schema = {"$ref": f"event.json#/$defs/{kind}"}
    resolver = jsonschema.RefResolver(SCHEMA.as_uri() + "/", schema, store=store)
    jsonschema.Draft202012Validator(schema, resolver=resolver).validate(data)


class Message:
    def __init__(self, fields):
        self.id = int(fields["id"]) if "id" in fields else None
        self.kind = fields["event"]
        self.data = json.loads(fields["data"])
        validate(self.kind, self.data)


class Stream:
    """One client: the head of the reply, then its messages."""

    def __init__(self, daemon, last_id=None, query="", method="GET"):
        self.socket = socket.create_connection(("127.0.0.1", daemon.port), timeout=30)
        self.file = self.socket.makefile("rb")
        seen = "" if last_id is None else f"Last-Event-ID: {last_id}\r\n"
        self.socket.sendall(f"{method} /api/v1/events{query} HTTP/1.1\r\nHost: localhost\r\n{seen}\r\n".encode())
        self.status = int(self.file.readline().split()[1])
        self.headers = {}
        while (line := self.file.readline()) != b"\r\n":
            name, _, value = line.decode().partition(": ")
            self.headers[name.lower()] = value.strip()
        self.comments, self.retry, self.text = 0, None, b""

    def line(self):
        """The next line of the stream, out of its chunks; None at its end."""
        while b"\n" not in self.text:
            size = self.file.readline()
            if not size or int(size, 16) == 0:
                return None
            self.text += self.file.read(int(size, 16))
            assert self.file.read(2) == b"\r\n"
        line, _, self.text = self.text.partition(b"\n")
        return line.decode()

    def next(self):
        """The next message; None at the stream's end."""
        fields = {}
        while (line := self.line()) is not None:
            name, _, value = line.partition(": ")
            if line == "" and "event" in fields:
                return Message(fields)
            if line.startswith(":"):
                self.comments += 1
            elif name == "retry":
                self.retry = int(value)
            elif line:
                fields[name] = value
        return None

    def until(self, condition):
        """The messages up to the first that fits."""
        messages = []
        while True:
            message = self.next()
            assert message, "the stream ended"
            messages.append(message)
            if condition(message):
                return messages

    def close(self):
        self.file.close()
        self.socket.close()


@pytest.fixture
def listen(daemon):
    """A function that opens a stream on the daemon; all are closed with the test."""
    streams = []

    def open_stream(*arguments, **options):
        streams.append(Stream(daemon, *arguments, **options))
        return streams[-1]

    yield open_stream
    for stream in streams:
        stream.close()


def ends(message):
    return message.kind == "job" and message.data["state"] in ("succeeded", "failed", "cancelled")


def told(messages):
    """What they say, without times and figures."""
    short = {"job": lambda d: (d["state"], d["phase"]), "epoch": lambda d: d["epoch"]["epoch"],
             "batch": lambda d: (d["batch"], d["state"]), "version": lambda d: (d["version"], d["change"])}
    return [(m.kind, short[m.kind](m.data)) for m in messages if m.kind in short]


def learn(api):
    api.upload("one", images.tar(["red", "green"], range(40)))
    return api.train("one", **TINY)["id"]


# ---- what is told ----

def test_a_job_from_upload_to_version(api, listen):
    stream = listen()
    assert stream.status == 200
    assert stream.headers["content-type"] == "text/event-stream"
    assert stream.headers["cache-control"] == "no-store"
    hello = stream.next()
    assert (hello.kind, hello.data, stream.retry) == ("hello", {"last_id": 0}, 2000)
    job = learn(api)
    messages = stream.until(ends)
    assert api.job(job)["state"] == "succeeded", "told before it was so"
    order = told(messages)
    assert order[:4] == [("batch", ("one", "ready")), ("job", ("queued", None)), ("batch", ("one", "in_use")),
                         ("job", ("running", "validate"))]
    assert [o[1] for o in order if o[0] == "epoch"] == [0, 1, 2, 3, 4]
    phases = [o[1][1] for o in order if o[0] == "job" and o[1][0] == "running"]
    assert phases == ["validate", "distil", "train", "prune", "evaluate", "publish"]
    assert ("version", (1, "activated")) in order[-3:]
    assert order[-1] == ("job", ("succeeded", "publish"))
    ids = [m.id for m in messages if m.kind != "progress"]
    assert ids == list(range(1, len(ids) + 1))
    assert [m.id for m in messages if m.kind == "progress"].count(None) == len([m for m in messages if m.kind == "progress"])


def test_epochs_are_those_of_the_curves(api, listen):
    stream = listen()
    job = learn(api)
    messages = stream.until(ends)
    curve = api.get(f"/api/v1/jobs/{job}/metrics").json()["epochs"]
    assert [m.data["epoch"] for m in messages if m.kind == "epoch"] == curve


def test_progress_of_the_running_job(api, listen):
    api.upload("one", images.tar(["red", "green"], range(40)))
    job = api.train("one", **LONG)["id"]
    start = time.monotonic()
    first = listen()
    messages = first.until(lambda m: m.kind == "progress" and m.data["progress"] > 0)
    assert messages[-1].data["job"] == job
    for _ in range(3):
        messages += first.until(lambda m: m.kind == "progress")
    told = sum(m.kind == "progress" for m in messages)
    assert told <= 2 + 2 * (time.monotonic() - start), "more often than twice a second"
    second = listen()
    assert second.until(lambda m: m.kind == "progress")[-1].data["job"] == job
    assert api.post(f"/api/v1/jobs/{job}/cancel").status_code == 200
    ended = first.until(ends)
    assert ("job", "cancelling") in [(m.kind, m.data.get("state")) for m in ended]
    assert ended[-1].data["state"] == "cancelled"
    wait_for(lambda: "job_progress_ratio" not in api.get("/metrics").text, what="the end of its thread")
    late = listen()
    time.sleep(1.2)
    api.upload("two", images.tar(["blue"], range(3)))
    assert [m.kind for m in late.until(lambda m: m.kind == "batch")] == ["hello", "batch"], "progress of an ended job"


# ---- replay ----

def test_replay_goes_on_after_the_last_id(api, listen):
    first = listen()
    learn(api)
    messages = [m for m in first.until(ends) if m.id]
    for last_id in (0, 1, messages[-2].id):
        again = listen(last_id).until(ends)
        assert [(m.id, m.kind, m.data) for m in again] == [(m.id, m.kind, m.data) for m in messages if m.id > last_id]
    by_query = listen(query=f"?last_event_id={messages[-2].id}")
    assert by_query.next().id == messages[-1].id


def test_ids_go_on_over_restarts(daemon, api, listen):
    first = listen()
    api.upload("one", images.tar(["red", "green"], range(5)))
    last = first.until(lambda m: m.kind == "batch")[-1].id
    daemon.stop()
    assert first.next() is None, "a stop ends streams cleanly"
    daemon.start()
    resumed = listen(last)
    api.upload("two", images.tar(["blue"], range(5)))
    message = resumed.next()
    assert (message.id, message.data["batch"]) == (last + 1, "two")
    daemon.kill()
    daemon.start()
    message = listen(last).next()
    assert (message.id, message.data["batch"]) == (last + 1, "two")


def upload_many(api, count):
    for i in range(count):
        api.upload(f"b{i}", images.tar(["red"], [i]))


@pytest.mark.parametrize("unknown", [7_000_000, "nonsense", 10**30])
def test_an_id_that_was_never_given_out_resets(api, listen, unknown):
    api.upload("one", images.tar(["red"], range(3)))
    stream = listen(unknown)
    message = stream.next()
    assert (message.kind, message.id, message.data) == ("reset", 1, {"last_id": 1})
    api.upload("two", images.tar(["blue"], range(3)))
    assert stream.next().id == 2


def test_what_is_no_longer_kept_resets(api, listen):
    api.upload("one", images.tar(["red", "green"], range(1)))
    job = api.train("one", **LONG, seed=3)["id"]
    count = wait_for(lambda: (n := len(api.get(f"/api/v1/jobs/{job}/metrics").json()["epochs"])) > KEPT + 50 and n, 120)
    api.post(f"/api/v1/jobs/{job}/cancel")
    api.wait(job)
    message = listen(1).next()
    assert message.kind == "reset"
    assert message.id > count
    replayed = listen(message.id - KEPT).until(lambda m: m.id == message.id)
    assert any(ends(m) for m in replayed)
    assert len([m for m in replayed if m.id]) == KEPT


# ---- clients ----

def test_number_of_clients_is_limited(daemon, api, listen):
    streams = [listen() for _ in range(MAX_CLIENTS)]
    assert {s.next().kind for s in streams} == {"hello"}
    api.refused(api.get("/api/v1/events"), 429, "too_many_streams")
    for stream in streams[1:]:
        stream.close()

    def accepted():
        stream = Stream(daemon)
        stream.close()
        return stream.status == 200

    wait_for(accepted, 10, "closed streams to be noticed")
    api.upload("one", images.tar(["red"], range(3)))
    assert streams[0].next().data["batch"] == "one"


def test_heartbeat(listen):
    start = time.monotonic()
    stream = listen()
    stream.next()
    stream.socket.settimeout(60)
    while not stream.line().startswith(":"):
        pass
    assert time.monotonic() - start > 13


def test_head_has_no_stream(daemon, api, listen):
    stream = listen(method="HEAD")
    assert (stream.status, stream.headers["content-type"]) == (200, "text/event-stream")
    stream.socket.sendall(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
    assert stream.file.readline() == b"HTTP/1.1 200 OK\r\n"


def test_a_client_that_never_reads_holds_up_nobody(api, listen):
    deaf, stream = listen(), listen()
    deaf.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
    upload_many(api, 60)
    assert [m.data["batch"] for m in stream.until(lambda m: m.id == 60)[1:]] == [f"b{i}" for i in range(60)]
    assert deaf.until(lambda m: m.id == 60)[-1].data["batch"] == "b59"


def test_stop_with_streams_of_every_kind(daemon, api, listen):
    streams = [listen() for _ in range(5)]
    streams[0].next()
    streams[1].close()
    api.upload("one", images.tar(["red", "green"], range(40)))
    api.train("one", **LONG)
    daemon.stop()
    assert streams[0].until(lambda m: m.kind == "job")
