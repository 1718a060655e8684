"""Who may connect: another address than loopback needs a token, and TLS or a declared proxy; and one client does not take
all connections."""

import contextlib
import socket
import ssl
import subprocess
import time

import pytest
import requests

import images
from conftest import BINARY, Client, Daemon, wait_for


def start_and_fail(data_dir, *options):
    """What the daemon says on refusing to start: one line."""
    done = subprocess.run([BINARY, "--config", "/dev/null", "--data-dir", str(data_dir), "--port", "0", *options],
                          capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == 1
    return done.stderr.splitlines()[-1]


def make_token(data_dir):
    done = subprocess.run([BINARY, "token", "create", "--scope", "admin", "--data-dir", str(data_dir), "--config", "/dev/null"],
                          capture_output=True, text=True, timeout=30, check=True)
    return next(word for word in done.stdout.split() if word.startswith("acr_"))


@pytest.fixture(scope="module")
def pem(tmp_path_factory):
    """(certificate, key) for localhost and 127.0.0.1."""
    folder = tmp_path_factory.mktemp("pem")
    subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2",
                    "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1",
                    "-keyout", "key.pem", "-out", "cert.pem"], cwd=folder, capture_output=True, check=True)
    return str(folder / "cert.pem"), str(folder / "key.pem")


# ---- the start ----

@pytest.mark.parametrize("address", ["0.0.0.0", "::", "192.0.2.1"])
def test_another_address_needs_token_and_tls(tmp_path, pem, address):
    data = tmp_path / "data"
    data.mkdir()
    tls = ["--tls-certificate", pem[0], "--tls-key", pem[1]]
    for options in ([], tls, ["--trusted-proxy", "192.0.2.9"]):
        said = start_and_fail(data, "--listen", address, *options)
        assert said.startswith(f"accreted: listening on {address} needs a token") and "accreted token create" in said
    make_token(data)
    said = start_and_fail(data, "--listen", address)
    assert said.startswith(f"accreted: listening on {address} without TLS") and "tls-certificate" in said


def test_bad_certificates(tmp_path, pem):
    (tmp_path / "junk").write_text("junk")
    for cert, key in ((pem[0], str(tmp_path / "junk")), (str(tmp_path / "none"), pem[1]), (str(tmp_path / "junk"), pem[1])):
        said = start_and_fail(tmp_path / "data", "--tls-certificate", cert, "--tls-key", key)
        assert said.startswith("accreted: cannot use the certificate") and cert in said
    assert "need each other" in start_and_fail(tmp_path / "data", "--tls-key", pem[1])


# ---- TLS ----

class TlsDaemon(Daemon):
    def start(self):
        port_file = self.data_dir / "port"
        with open(self.log_path, "ab") as log:
            self.process = subprocess.Popen(self.arguments, stderr=log)
        wait_for(lambda: port_file.exists() or self.process.poll() is not None)
        assert self.running(), self.log()
        self.port = int(port_file.read_text())
        self.url = f"https://127.0.0.1:{self.port}"
        return self


@pytest.fixture
def tls(tmp_path, pem):
    data = tmp_path / "data"
    data.mkdir()
    daemon = TlsDaemon(data, listen="0.0.0.0", tls_certificate=pem[0], tls_key=pem[1], host_names="box.example,accreted.lan")
    daemon.headers = {"Authorization": "Bearer " + make_token(data)}
    daemon.start()
    yield daemon
    daemon.stop()


def test_tls(tls, pem, monkeypatch):
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", pem[0])
    api = Client(tls)
    assert api.get("/healthz").status_code == 200
    api.refused(api.get("/api/v1/jobs"), 401, "unauthorized")
    tar = images.tar(["red", "green"], range(500))  # more than one record each way
    assert api.put("/api/v1/batches/one", data=tar, headers=tls.headers).status_code == 201
    assert api.get("/api/v1/batches", headers=tls.headers).json()["batches"][0]["train_images"] == 1000
    cookie = api.post("/api/v1/session", json={"token": tls.headers["Authorization"][7:]}).headers["Set-Cookie"]
    assert "; Secure" in cookie and "; HttpOnly" in cookie


@pytest.mark.parametrize("host, status", [("box.example", 200), ("BOX.example:443", 200), ("accreted.lan", 200), ("10.1.2.3", 200),
                                          ("evil.example", 421), ("box.example.evil", 421), ("example", 421)])
def test_names(tls, pem, host, status):
    assert requests.get(tls.url + "/healthz", headers={"Host": host}, verify=pem[0], timeout=30).status_code == status


def test_plain_http_and_old_tls_get_nothing(tls, pem):
    with pytest.raises(requests.ConnectionError):
        requests.get(tls.url.replace("https", "http") + "/healthz", timeout=30)
    context = ssl.create_default_context(cafile=pem[0])
    context.minimum_version = ssl.TLSVersion.TLSv1
    context.maximum_version = ssl.TLSVersion.TLSv1_1
    context.set_ciphers("ALL:@SECLEVEL=0")
    with socket.create_connection(("127.0.0.1", tls.port), timeout=30) as plain, pytest.raises((ssl.SSLError, OSError)):
        context.wrap_socket(plain, server_hostname="localhost")


@pytest.mark.parametrize("origin, allowed", [("https://localhost", True), ("http://localhost", False), ("https://evil", False)])
def test_origin_over_tls(tls, pem, origin, allowed):
    reply = requests.post(tls.url + "/api/v1/session", headers={"Origin": origin, "Host": "localhost"}, json={"token": "x"},
                          verify=pem[0], timeout=30)
    assert reply.status_code == (401 if allowed else 403)


# ---- proxy, connections, deadlines ----

def from_address(daemon, address):
    """The status of a request from another loopback address; None: closed without a reply."""
    with socket.create_connection(("127.0.0.1", daemon.port), timeout=30, source_address=(address, 0)) as sock:
        with contextlib.suppress(ConnectionError):
            sock.sendall(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
            line = sock.makefile("rb").readline()
            return int(line.split()[1]) if line else None
    return None


def test_only_the_proxy_may_connect(tmp_path, start_daemon):
    data = tmp_path / "data"
    data.mkdir()
    make_token(data)
    daemon = start_daemon(data, listen="0.0.0.0", trusted_proxy="127.0.0.9")
    assert [from_address(daemon, a) for a in ("127.0.0.9", "127.0.0.1", "127.0.0.8")] == [200, 200, None]


def test_connections_of_one_address_are_limited(tmp_path, start_daemon):
    daemon = start_daemon(tmp_path / "data", max_connections_per_address=3)
    with contextlib.ExitStack() as stack:
        for _ in range(3):
            sock = stack.enter_context(socket.create_connection(("127.0.0.1", daemon.port), source_address=("127.0.0.2", 0)))
            sock.sendall(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
            assert b"200" in sock.recv(4096)
        assert from_address(daemon, "127.0.0.2") is None
        assert from_address(daemon, "127.0.0.3") == 200
        assert requests.get(daemon.url + "/healthz", timeout=30).status_code == 200
    wait_for(lambda: from_address(daemon, "127.0.0.2") == 200)


def test_all_connections_are_limited(tmp_path, start_daemon):
    """More wait to be accepted, and are when there is room."""
    daemon = start_daemon(tmp_path / "data", max_connections=4)
    with contextlib.ExitStack() as stack:
        for _ in range(4):
            stack.enter_context(socket.create_connection(("127.0.0.1", daemon.port)))
        with pytest.raises((requests.Timeout, requests.ConnectionError)):
            requests.get(daemon.url + "/healthz", timeout=0.5)
    wait_for(lambda: from_address(daemon, "127.0.0.1") == 200)
