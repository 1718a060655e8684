"""Requests as an attacker or a broken client would send them, over raw sockets: each row of a table of what libmicrohttpd
0.9.75 by itself lets through or waits for, and what the daemon says. Behind a proxy that frames a request otherwise, any of
them could hide a second one in the first."""

import contextlib
import socket
import time

import pytest

from raw import HOST, Front, ask, front, read_reply, request, wait_for  # noqa: F401

SMUGGLED = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n"
ROUTES = [("POST", "/api/v1/jobs"), ("GET", "/healthz"), ("PUT", "/api/v1/batches/a"), ("DELETE", "/nope")]


def is_alone(reply, rest, status, code=None):
    """Refused, and the connection closed: nothing that came behind was taken for a request. No code: libmicrohttpd's page."""
    if code:
        reply.problem(status, code)
    assert reply.status == status
    assert rest is None or b"HTTP/1." not in rest


# ---- where a body ends ----

@pytest.mark.parametrize("status, headers", [
    (400, ["Content-Length: 4", "Transfer-Encoding: chunked"]),
    (400, ["Transfer-Encoding: chunked", "Content-Length: 4"]),
    (400, ["Content-Length: 4", "Content-Length: 5"]),
    (400, ["Content-Length: 4", "Content-Length: 4"]),
    (501, ["Transfer-Encoding: gzip, chunked"]),
    (501, ["Transfer-Encoding: gzip"]),
    (501, ["Transfer-Encoding: xchunked"]),
    (501, ["Transfer-Encoding: chunked", "Transfer-Encoding: chunked"]),
    (501, ["Transfer-Encoding: identity"]),
])
@pytest.mark.parametrize("method, path", ROUTES)
def test_two_ways_to_frame(front, method, path, status, headers):
    is_alone(*ask(front, request(method, path, *headers), b"0\r\n\r\n" + SMUGGLED), status, "bad_framing")


@pytest.mark.parametrize("value", ["-1", "+3", "0x3", "3, 3", "a", "3 3", ""])
def test_content_length_that_is_no_number(front, value):
    is_alone(*ask(front, request("POST", "/api/v1/jobs", f"Content-Length: {value}"), b"abc" + SMUGGLED), 400)


@pytest.mark.parametrize("method, path", ROUTES)
def test_content_length_of_23_digits(front, method, path):
    is_alone(*ask(front, request(method, path, "Content-Length: " + "9" * 23), SMUGGLED), 413)


def test_chunked_in_http_1_0(front):
    is_alone(*ask(front, f"POST /api/v1/jobs HTTP/1.0\r\n{HOST}Transfer-Encoding: chunked\r\n\r\n", SMUGGLED), 400, "bad_framing")


@pytest.mark.parametrize("size", [b"x", b"-1", b"+2", b"0x2", b" 2", b"", b"2 "])
def test_chunk_of_no_size(front, size):
    is_alone(*ask(front, request("POST", "/api/v1/jobs", "Transfer-Encoding: chunked"), size + b"\r\n{}\r\n0\r\n\r\n" + SMUGGLED), 400)


@pytest.mark.parametrize("body", [b"2\r\n{}\r\n0\r\n\r\n", b"2\n{}\n0\n\n", b"2\r\n{}\n0\r\n\n", b"2;a=b\n{}\r\n0;\n\r\n",
                                  b"2\r\n{}\r\n0\r\nX-Trailer: a\n\n"])
def test_nothing_is_taken_from_behind_chunks(front, body):
    """libmicrohttpd takes LF alone between chunks, and does not tell: whatever the ends, the connection ends with them."""
    reply, rest = ask(front, request("POST", "/api/v1/jobs", "Transfer-Encoding: chunked"), body + SMUGGLED)
    reply.problem(422, "bad_field")
    assert reply.headers["connection"] == "close"
    assert rest is None


def test_body_of_a_get_is_not_a_second_request(front):
    with front.connect() as sock, sock.makefile("rb") as stream:
        sock.sendall(request("GET", "/healthz", f"Content-Length: {len(SMUGGLED)}").encode()
                     + SMUGGLED + request("GET", "/nope").encode())
        assert read_reply(stream).status == 200
        assert read_reply(stream).status == 404


def test_body_of_a_refused_request_is_not_a_second_request(front):
    is_alone(*ask(front, request("GET", "/nope", f"Content-Length: {len(SMUGGLED)}"), SMUGGLED), 404, "not_found")


# ---- where a line ends ----

LINES = {
    "LF after the request line": f"GET /healthz HTTP/1.1\n{HOST}\r\n",
    "LF after a header": "GET /healthz HTTP/1.1\r\nHost: localhost\n\r\n",
    "LF between headers": f"GET /healthz HTTP/1.1\r\nX-A: b\nX-B: c\r\n{HOST}\r\n",
    "LF for the empty line": f"GET /healthz HTTP/1.1\r\n{HOST}\n",
    "LF everywhere": "GET /healthz HTTP/1.1\nHost: localhost\n\n",
    "LF and more of it by a space": f"GET /healthz HTTP/1.1\r\nX-A:  b\n{HOST}\r\n",
    "a folded header": f"GET /healthz HTTP/1.1\r\n{HOST}X-A: b\r\n c\r\n\r\n",
    "a folded header, by a tab": f"GET /healthz HTTP/1.1\r\nX-A: b\r\n\tc\r\n{HOST}\r\n",
    "a folded empty header": f"GET /healthz HTTP/1.1\r\nX-A:\r\n \r\n{HOST}\r\n",
    "a folded first header": f"GET /healthz HTTP/1.1\r\n X-A: b\r\n{HOST}\r\n",
    "NUL in a value": f"GET /healthz HTTP/1.1\r\nX-A: b\0c\r\n{HOST}\r\n",
    "NUL at a value's end": f"GET /healthz HTTP/1.1\r\n{HOST}X-A: b\0\r\n\r\n",
    "NULs like a line's end": f"GET /healthz HTTP/1.1\r\n{HOST}X-A: b\0\0X-B\0c\r\n\r\n",
    "NUL in a name": f"GET /healthz HTTP/1.1\r\nX\0A: b\r\n{HOST}\r\n",
    "NUL before a name": f"GET /healthz HTTP/1.1\r\n{HOST}\0X-A: b\r\n\r\n",
    "NUL in the target": f"GET /healthz\0b HTTP/1.1\r\n{HOST}\r\n",
    "NUL in the query": f"GET /healthz?a=b\0c HTTP/1.1\r\n{HOST}\r\n",
    "CR in a value": f"GET /healthz HTTP/1.1\r\nX-A: b\rc\r\n{HOST}\r\n",
    "CR like a line's end": f"GET /healthz HTTP/1.1\r\nX-A: b\rX-B: c\r\n{HOST}\r\n",
    "CR twice": f"GET /healthz HTTP/1.1\r\nX-A: b\r\r\n{HOST}\r\n",
    "a space before the colon": f"GET /healthz HTTP/1.1\r\n{HOST}Content-Length : 4\r\n\r\n",
    "a tab before the colon": f"GET /healthz HTTP/1.1\r\n{HOST}Transfer-Encoding\t: chunked\r\n\r\n",
    "a control character in a value": f"GET /healthz HTTP/1.1\r\n{HOST}X-A: b\x01c\r\n\r\n",
    "DEL in a value": f"GET /healthz HTTP/1.1\r\n{HOST}X-A: b\x7f\r\n\r\n",
    "a name that is no token": f"GET /healthz HTTP/1.1\r\n{HOST}X(A): b\r\n\r\n",
    "no name": f"GET /healthz HTTP/1.1\r\n{HOST}: b\r\n\r\n",
    "no colon": f"GET /healthz HTTP/1.1\r\n{HOST}X-A\r\n\r\n",
    "a version in lower case": f"GET /healthz http/1.1\r\n{HOST}\r\n",
    "no version": f"GET /healthz\r\n{HOST}\r\n",
    "a space behind the version": f"GET /healthz HTTP/1.1 \r\n{HOST}\r\n",
    "a space in the target": f"GET /healthz /nope HTTP/1.1\r\n{HOST}\r\n",
    "two spaces before the target": f"GET  /healthz HTTP/1.1\r\n{HOST}\r\n",
}


@pytest.mark.parametrize("name", LINES)
def test_malformed_line(front, name):
    is_alone(*ask(front, LINES[name], SMUGGLED), 400)


@pytest.mark.parametrize("head", [
    f"GET /healthz?a=b%20c&d HTTP/1.1\r\n{HOST}X-A:b\r\nX-B: \t b \t\r\nX-C:\r\nX-D: \r\nCookie: a=b; c=d\r\n\r\n",
    f"\r\nGET /healthz? HTTP/1.1\r\n{HOST}X-A: b c: d\r\nX-A: \xe4\r\n\r\n",
])
def test_unusual_lines_that_are_well_formed(front, head):
    with front.connect() as sock, sock.makefile("rb") as stream:
        for _ in range(3):
            sock.sendall(head.encode("latin-1"))
            assert read_reply(stream).status == 200


def test_a_head_in_single_bytes(front):
    with front.connect() as sock, sock.makefile("rb") as stream:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for byte in request("GET", "/healthz", "X-A: b"):
            sock.sendall(byte.encode())
        assert read_reply(stream).status == 200


# ---- who is meant ----

@pytest.mark.parametrize("host", ["", HOST + "Host: 127.0.0.1\r\n", HOST + HOST])
def test_not_exactly_one_host(front, host):
    is_alone(*ask(front, request("GET", "/healthz", host=host), SMUGGLED), 400, "bad_host")


# ---- how much, how slow ----

@pytest.mark.parametrize("headers", [["X-A: " + "x" * 40960], [f"X-{i}: {'x' * 32}" for i in range(1000)],
                                     [f"X-{'y' * 40960}: b"]])
def test_headers_without_end(front, headers):
    is_alone(*ask(front, request("GET", "/healthz", *headers)), 431)


def test_half_open_connections_keep_nobody_out(tmp_path):
    front = Front(tmp_path / "data", "--max-connections", "500")
    with contextlib.ExitStack() as stack:
        for i in range(400):
            sock = stack.enter_context(front.connect())
            sock.sendall(b"GET /healthz HT"[:i % 16])
        for _ in range(50):
            reply, _ = ask(front, request("GET", "/healthz"))
            assert reply.status == 200
    assert front.stop() == 0


@pytest.mark.parametrize("start, drip", [
    (b"", b""),
    (b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nX-A: ", b"x"),
    (b"PUT /api/v1/batches/a HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100000\r\n\r\n", b"x"),
    (b"POST /api/v1/jobs HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n", b"1\r\nx\r\n"),
], ids=["silence", "header", "upload", "chunks"])
def test_a_slow_client_is_cut(tmp_path, start, drip):
    """Whatever it sends now and then: a deadline, not an idle time-out."""
    front = Front(tmp_path / "data", "--header-timeout", "1")
    began = time.monotonic()
    with front.connect() as sock:
        sock.settimeout(0.2)
        sock.sendall(start)
        cut = False
        while not cut:
            assert time.monotonic() < began + 30, "still open"
            with contextlib.suppress(socket.timeout):
                try:
                    sock.sendall(drip)
                    cut = sock.recv(4096) == b""
                except ConnectionError:
                    cut = True
    assert time.monotonic() > began + 0.9
    assert ask(front, request("GET", "/healthz"))[0].status == 200
    assert front.stop() == 0
