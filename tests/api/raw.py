"""The daemon over raw sockets: what no client library would send, and the reply byte by byte."""

import contextlib
import json
import os
import pathlib
import signal
import socket
import subprocess
import time

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
BINARY = os.environ.get("ACCRETED", str(ROOT / "build/release/accreted"))
UPLOAD_LIMIT = 4 << 20
JSON_LIMIT = 1 << 20
HOST = "Host: localhost\r\n"


class Front:
    """A daemon and the port it listens on."""

    def __init__(self, data_dir, *options, before_exec=None):
        self.data_dir = data_dir
        self.process = subprocess.Popen(
            [BINARY, "--config", "/dev/null", "--data-dir", str(data_dir), "--port", "0",
             "--max-upload-bytes", str(UPLOAD_LIMIT), "--min-free-bytes", "0", *options],
            preexec_fn=before_exec)
        wait_for(lambda: (data_dir / "port").exists() or self.process.poll() is not None)
        self.port = int((data_dir / "port").read_text())

    def connect(self):
        return socket.create_connection(("127.0.0.1", self.port), timeout=20)

    def stop(self):
        """Exit status after SIGTERM."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(timeout=15)

    def uploads(self):
        return [p for p in (self.data_dir / "tmp").iterdir() if p.name.startswith("upload-")]


class Reply:
    def __init__(self, status, headers, body):
        self.status, self.headers, self.body = status, headers, body

    def problem(self, status, code):
        """Asserts a whole RFC 9457 object."""
        assert self.status == status, self.body
        assert self.headers["content-type"] == "application/problem+json"
        problem = json.loads(self.body)
        assert set(problem) - {"limit"} == {"type", "title", "status", "detail", "instance", "code", "error",
                                "retryable", "request_id"}
        assert problem["code"] == code
        assert problem["status"] == status
        assert problem["request_id"] == self.headers["x-request-id"]
        return problem


def wait_for(condition, seconds=20):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "timed out"
        time.sleep(0.01)


def read_reply(stream, head=False):
    """One reply from a socket's file; None at the end of the stream."""
    line = stream.readline()
    if not line:
        return None
    status = int(line.split()[1])
    headers = {}
    while (line := stream.readline()) not in (b"\r\n", b""):
        name, _, value = line.decode("latin-1").partition(":")
        headers[name.lower()] = value.strip()
    size = 0 if head or status in (100, 304) else int(headers.get("content-length", 0))
    return Reply(status, headers, stream.read(size))


def ask(front, text, body=b"", head=False):
    """Sends one request on a new connection; its reply, and what came after it (None: the daemon closed)."""
    with front.connect() as sock, sock.makefile("rb") as stream:
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            sock.sendall(text.encode("latin-1") + body)
        reply = read_reply(stream, head)
        if reply is None or reply.headers.get("connection") == "close":
            return reply, stream.read() or None
        return reply, b""


def request(method, path, *headers, host=HOST):
    return f"{method} {path} HTTP/1.1\r\n{host}" + "".join(h + "\r\n" for h in headers) + "\r\n"


@pytest.fixture(scope="module")
def front(tmp_path_factory):
    daemon = Front(tmp_path_factory.mktemp("front") / "data")
    yield daemon
    assert daemon.stop() == 0
