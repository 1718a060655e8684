"""The front of the daemon over raw sockets: Host and Origin, routes, limits, uploads that end badly, and the stop. A daemon
of its own, with small limits. What framing could smuggle is in test_probe.py."""

import contextlib
import io
import json
import resource
import signal
import subprocess
import time

import pytest

import images
from raw import BINARY, HOST, JSON_LIMIT, UPLOAD_LIMIT, Front, ask, front, read_reply, request, wait_for  # noqa: F401

# ---- who asks ----

@pytest.mark.parametrize("host", ["evil.example", "localhost.evil.example", "127.0.0.1.evil.example", "10.0.0.1",
                                  "localhost:80:80", "[::2]", "", "localhost:x", "[::1", "::1"])
def test_foreign_host(front, host):
    reply, rest = ask(front, request("GET", "/healthz", host=f"Host: {host}\r\n"))
    reply.problem(421, "host_not_allowed")
    assert rest is None


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:1", "127.0.0.1", "127.0.0.1:8080", "[::1]", "[::1]:80"])
def test_own_host(front, host):
    reply, _ = ask(front, request("GET", "/healthz", host=f"Host: {host}\r\n"))
    assert reply.status == 200


def test_foreign_origin_changes_nothing(front):
    for origin in ("http://evil.example", "null", "https://localhost", "http://localhost:1"):
        reply, _ = ask(front, request("POST", "/api/v1/jobs", f"Origin: {origin}", "Content-Length: 2"), b"{}")
        reply.problem(403, "origin_not_allowed")
    reply, _ = ask(front, request("POST", "/api/v1/jobs", "Origin: http://localhost", "Content-Length: 1"), b"{")
    assert reply.status != 403


# ---- routes ----

def test_health_and_common_headers(front):
    reply, _ = ask(front, request("GET", "/healthz"))
    health = json.loads(reply.body)
    assert (health["status"], health["live"], health["ready"]) == ("ok", True, True)
    assert reply.headers["content-type"] == "application/json"
    assert reply.headers["cache-control"] == "no-store"
    assert reply.headers["x-content-type-options"] == "nosniff"
    again, _ = ask(front, request("GET", "/healthz"))
    assert again.headers["x-request-id"] != reply.headers["x-request-id"]


def test_head_follows_get(front):
    full, _ = ask(front, request("GET", "/healthz"))
    head, _ = ask(front, request("HEAD", "/healthz"), head=True)
    assert (head.status, head.headers["content-length"]) == (200, str(len(full.body)))


def test_connection_is_kept_even_after_a_refusal(front):
    with front.connect() as sock, sock.makefile("rb") as stream:
        for path, status in (("/healthz", 200), ("/nope", 404), ("/healthz", 200)):
            sock.sendall(request("GET", path).encode())
            assert read_reply(stream).status == status


def test_not_found(front):
    for path in ("/nope", "/api/v1", "/api/v1/jobs/", "/web/", "/web/nope.js"):
        reply, _ = ask(front, request("GET", path))
        assert reply.problem(404, "not_found")["instance"] == path


def test_method_not_allowed(front):
    reply, _ = ask(front, request("DELETE", "/api/v1/jobs"))
    reply.problem(405, "method_not_allowed")
    assert reply.headers["allow"] == "POST, GET, HEAD"


@pytest.mark.parametrize("path", ["/api/v1/batches/..", "/api/v1/batches/%2e%2e", "/api/v1/batches/a%2fb",
                                  "/api/v1/batches/%00", "/api/v1/batches/%zz", "/web/..%2fMakefile",
                                  "/web/../Makefile", "http://localhost/healthz"])
def test_bad_path(front, path):
    reply, _ = ask(front, request("GET", path))
    reply.problem(400, "bad_path")


def test_bad_query(front):
    reply, _ = ask(front, request("GET", "/api/v1/jobs?limit=%zz"))
    reply.problem(400, "bad_query")


def test_long_target(front):
    reply, _ = ask(front, request("GET", "/healthz?" + "x" * 9000))
    reply.problem(414, "uri_too_long")


def test_page_has_policy_and_etag(front):
    page, _ = ask(front, request("GET", "/"))
    assert page.status == 200
    assert page.headers["content-type"].startswith("text/html")
    assert "default-src 'none'" in page.headers["content-security-policy"]
    again, _ = ask(front, request("GET", "/", f"If-None-Match: {page.headers['etag']}"))
    assert (again.status, again.body) == (304, b"")


# ---- bodies ----

def chunked(body, size=65536):
    parts = [body[i:i + size] for i in range(0, len(body), size)]
    return b"".join(b"%x\r\n%s\r\n" % (len(p), p) for p in parts) + b"0\r\n\r\n"


@pytest.mark.parametrize("method, path, limit", [("PUT", "/api/v1/batches/a", UPLOAD_LIMIT),
                                                 ("POST", "/api/v1/batches", UPLOAD_LIMIT),
                                                 ("POST", "/api/v1/jobs", JSON_LIMIT),
                                                 ("POST", "/api/v1/jobs/1/cancel", 65536)])
class TestBodyOverTheLimit:
    def test_announced_is_refused_before_it_is_sent(self, front, method, path, limit):
        reply, rest = ask(front, request(method, path, f"Content-Length: {limit + 1}"))
        reply.problem(413, "body_too_large")
        assert rest is None

    def test_announced_and_sent_anyway(self, front, method, path, limit):
        with front.connect() as sock, sock.makefile("rb") as stream:
            sock.sendall(request(method, path, f"Content-Length: {limit + 1}").encode())
            time.sleep(0.05)  # so that the refusal is out and the daemon done with it
            sock.sendall(b"x" * (limit + 1))  # not reset while we send, or many clients never read the reply
            read_reply(stream).problem(413, "body_too_large")
        assert not front.uploads()

    def test_chunked(self, front, method, path, limit):
        reply, _ = ask(front, request(method, path, "Transfer-Encoding: chunked"), chunked(b"x" * (limit + 1)))
        reply.problem(413, "body_too_large")
        wait_for(lambda: not front.uploads())


def test_huge_declared_body_costs_nothing(front):
    reply, _ = ask(front, request("PUT", "/api/v1/batches/a", f"Content-Length: {2**63 - 1}"))
    reply.problem(413, "body_too_large")


@pytest.mark.parametrize("path", ["/api/v1/batches/a", "/api/v1/jobs"])
def test_expect_continue(front, path):
    method = "PUT" if "batches" in path else "POST"
    with front.connect() as sock, sock.makefile("rb") as stream:
        sock.sendall(request(method, path, "Content-Length: 4", "Expect: 100-continue").encode())
        assert read_reply(stream).status == 100
        sock.sendall(b"nope")
        assert read_reply(stream).status in (400, 415, 422)


def test_expect_is_refused_before_the_body(front):
    reply, rest = ask(front, request("PUT", "/api/v1/batches/a", f"Content-Length: {UPLOAD_LIMIT + 1}",
                                     "Expect: 100-continue"))
    reply.problem(413, "body_too_large")
    assert rest is None


def start_upload(front, sock, sent=3 << 20):
    """Sends the head and part of an upload; returns once the daemon has some of it on disk."""
    sock.sendall(request("PUT", "/api/v1/batches/a", f"Content-Length: {UPLOAD_LIMIT}").encode() + b"x" * sent)
    wait_for(lambda: any(p.stat().st_size for p in front.uploads()))


def test_client_leaving_mid_upload_leaves_no_file(front):
    for _ in range(5):  # libmicrohttpd misses a close now and then, when it comes right behind data
        with contextlib.ExitStack() as stack:
            for sock in [stack.enter_context(front.connect()) for _ in range(12)]:
                start_upload(front, sock, 1500000)
        wait_for(lambda: not front.uploads())


def test_uploads_at_once_are_limited(front):
    with contextlib.ExitStack() as stack:
        for _ in range(16):
            sock = stack.enter_context(front.connect())
            sock.sendall(request("PUT", "/api/v1/batches/a", "Content-Length: 2000000").encode() + b"x" * 1500000)
        wait_for(lambda: len(front.uploads()) == 16)
        reply, _ = ask(front, request("PUT", "/api/v1/batches/b", "Content-Length: 5"))
        assert reply.problem(503, "too_many_uploads")["retryable"]
    wait_for(lambda: not front.uploads())


def test_full_disk_is_told_before_the_upload(tmp_path):
    front = Front(tmp_path / "data", "--min-free-bytes", "1048576G")
    reply, _ = ask(front, request("PUT", "/api/v1/batches/a", "Content-Length: 5"))
    assert reply.problem(507, "disk_full")["retryable"]
    assert front.stop() == 0


@pytest.mark.parametrize("framing", ["chunked", "announced"])
def test_disk_that_fills_up_during_the_upload(tmp_path, framing):
    def limit_files():
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)  # then write() says EFBIG, much like ENOSPC
        resource.setrlimit(resource.RLIMIT_FSIZE, (1500000, 1500000))

    front = Front(tmp_path / "data", before_exec=limit_files)
    body = b"x" * (UPLOAD_LIMIT - 1)
    if framing == "chunked":
        reply, _ = ask(front, request("PUT", "/api/v1/batches/a", "Transfer-Encoding: chunked"), chunked(body))
    else:
        reply, _ = ask(front, request("PUT", "/api/v1/batches/a", f"Content-Length: {len(body)}"), body)
    reply.problem(507, "disk_full")
    wait_for(lambda: not front.uploads())
    assert front.stop() == 0


def test_predict_without_a_model(front):
    png = b"\x89PNG\r\n\x1a\n" + bytes(50)
    reply, _ = ask(front, request("POST", "/api/v1/predict", f"Content-Length: {len(png)}"), png)
    assert reply.problem(503, "no_model")["retryable"]
    reply, _ = ask(front, request("POST", "/api/v1/predict", "Content-Length: 0"))
    reply.problem(400, "empty_body")
    reply, _ = ask(front, request("POST", "/api/v1/predict?top=0", f"Content-Length: {len(png)}"), png)
    reply.problem(400, "bad_parameter")


# ---- start and stop ----

def test_stop_with_an_upload_in_flight(tmp_path):
    front = Front(tmp_path / "data")
    with front.connect() as sock, front.connect() as idle:
        start_upload(front, sock)
        idle.sendall(b"GET /hea")
        assert front.stop() == 0
    assert not front.uploads()
    assert not (front.data_dir / "port").exists()


def test_stop_answers_what_is_deferred(tmp_path):
    """Also what takes a long time, and what waits for its turn: nothing of it is stored."""
    body = images.slow_tar(150, 5000)
    assert len(body) < UPLOAD_LIMIT
    front = Front(tmp_path / "data")
    with contextlib.ExitStack() as stack:
        streams = []
        for i in range(6):
            sock = stack.enter_context(front.connect())
            streams.append(stack.enter_context(sock.makefile("rb")))
            sock.sendall(request("PUT", f"/api/v1/batches/{i}", f"Content-Length: {len(body)}").encode() + body)
        wait_for(lambda: sum(p.stat().st_size == len(body) for p in front.uploads()) == len(streams))
        wait_for(lambda: any((front.data_dir / "tmp").glob("ingest-*.stage")))
        assert front.stop() == 0
        for stream in streams:
            assert read_reply(stream).problem(503, "shutting_down")["retryable"]
    assert not list((front.data_dir / "tmp").iterdir()) and not list((front.data_dir / "batches").iterdir())


def test_second_daemon_is_refused(front):
    second = subprocess.run([BINARY, "--config", "/dev/null", "--data-dir", str(front.data_dir), "--port", "0"],
                            capture_output=True, text=True, timeout=20, check=False)
    assert second.returncode == 1
    assert "already_running" in second.stderr
    assert second.stderr.count("\n") == 1


def test_port_in_use_is_one_clear_line(front, tmp_path):
    second = subprocess.run([BINARY, "--config", "/dev/null", "--data-dir", str(tmp_path / "d"),
                             "--port", str(front.port)], capture_output=True, text=True, timeout=20, check=False)
    assert second.returncode == 1
    assert second.stderr.splitlines()[-1] == (f"accreted: cannot listen on 127.0.0.1 port {front.port}: "
                                              "Address already in use")


def test_crash_leftovers_are_cleared(tmp_path):
    front = Front(tmp_path / "data")
    with front.connect() as sock:
        start_upload(front, sock)
        front.process.kill()
        front.process.wait()
    assert front.uploads()
    (front.data_dir / "port").unlink()  # so that waiting for it means the new daemon
    front = Front(tmp_path / "data")
    assert not front.uploads()
    assert front.stop() == 0


@pytest.mark.parametrize("arguments, expected", [
    (["--version"], "accreted 0.1.0\n"),
    (["--help"], "Usage: accreted [OPTION]...\n"),
])
def test_help_and_version(arguments, expected):
    result = subprocess.run([BINARY, *arguments], capture_output=True, text=True, timeout=20, check=True)
    assert result.stdout.startswith(expected)


def test_bad_option_is_one_clear_line():
    result = subprocess.run([BINARY, "--port", "many"], capture_output=True, text=True, timeout=20, check=False)
    assert result.returncode == 1
    assert result.stderr == "accreted: --port must be a number from 0 to 65535\n"
