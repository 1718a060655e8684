#!/usr/bin/python3
"""Predictions per second and their latency, idle and while a job trains: `make bench-serve`.

A daemon learns a ResNet-32 on 3x32x32; then wrk posts one PNG again and again to /api/v1/predict:
with --busy connections for the throughput, with --few for the latency, which is measured once more
while a second job trains. The peer (peer_serve.py) runs the same network behind FastAPI; without
Debian's packages for it its figure stays null. Writes build/bench-serve.json.
"""
import argparse
import io
import json
import os
import pathlib
import re
import signal
import socket
import subprocess
import sys
import tarfile
import tempfile
import time
import urllib.request

import numpy
from PIL import Image

HERE = pathlib.Path(__file__).parent
SIZE = 32
LUA = """
wrk.method = "POST"
local file = io.open(os.getenv("BENCH_IMAGE"), "rb")
wrk.body = file:read("*a")
file:close()
function response(status) if status ~= 200 then print("status " .. status) end end
"""


def options():
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    p.add_argument("--build", default="build/release")
    p.add_argument("--seconds", type=int, default=15, help="of one measurement")
    p.add_argument("--few", type=int, default=1, help="connections when latency is measured")
    p.add_argument("--busy", type=int, default=16, help="connections when throughput is measured")
    p.add_argument("--output", default="build/bench-serve.json")
    return p.parse_args()


def png(seed, label):
    pixels = numpy.random.default_rng([seed, label]).integers(0, 120, (SIZE, SIZE, 3))
    pixels[..., label % 3] += 40 * (1 + label // 3)
    out = io.BytesIO()
    Image.fromarray(pixels.astype(numpy.uint8)).save(out, "PNG")
    return out.getvalue()


def tar(labels, count):
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        for label in labels:
            for seed in range(count):
                data = png(seed, label)
                info = tarfile.TarInfo(f"class-{label}/{seed}.png")
                info.size = len(data)
                archive.addfile(info, io.BytesIO(data))
    return out.getvalue()


class Daemon:
    def __init__(self, build, folder):
        self.process = subprocess.Popen([f"{build}/accreted", "--config", "/dev/null", "--data-dir", f"{folder}/data",
                                         "--port", "0", "--log-level", "warning"])
        wait(lambda: os.path.exists(f"{folder}/data/port"))
        self.url = "http://127.0.0.1:" + pathlib.Path(f"{folder}/data/port").read_text().strip()

    def ask(self, method, path, body=None, kind="application/json"):
        request = urllib.request.Request(self.url + path, body, {"Content-Type": kind}, method=method)
        with urllib.request.urlopen(request) as reply:
            return json.load(reply)

    def train(self, name, labels, count, **more):
        self.ask("PUT", f"/api/v1/batches/{name}", tar(labels, count), "application/x-tar")
        text = json.dumps({"batches": [name], "options": more}).encode()
        return self.ask("POST", "/api/v1/jobs", text)["id"]

    def job(self, number):
        return self.ask("GET", f"/api/v1/jobs/{number}")

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(20)


def wait(condition, seconds=120):
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            sys.exit("waited too long")
        time.sleep(0.05)


def milliseconds(text):
    value, unit = re.fullmatch(r"([\d.]+)(us|ms|s|m)", text).groups()
    return float(value) * {"us": 1e-3, "ms": 1, "s": 1e3, "m": 6e4}[unit]


def wrk(url, connections, seconds, folder):
    """(requests a second, p50, p99 in ms)"""
    environment = {**os.environ, "BENCH_IMAGE": f"{folder}/image.png"}
    done = subprocess.run(["wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "--latency", "-s", f"{folder}/post.lua", url],
                          capture_output=True, text=True, env=environment, check=True)
    if "status " in done.stdout or "Socket errors" in done.stdout:
        sys.exit(f"{url}: not every request was answered:\n{done.stdout[-2000:]}")
    text = done.stdout
    rate = float(re.search(r"Requests/sec:\s+([\d.]+)", text)[1])
    if rate == 0:
        sys.exit(f"{url}: not one request was answered in {seconds} s")
    return rate, *(milliseconds(re.search(rf"^\s+{p}%\s+(\S+)", text, re.M)[1]) for p in (50, 99))


def ours(opt, folder):
    daemon = Daemon(opt.build, folder)
    try:
        job = daemon.train("one", (0, 1), 40, depth=32, epochs=1, batch=32, mirror=False)  # one look at an image, as the peer's
        wait(lambda: daemon.job(job)["state"] == "succeeded")
        url = daemon.url + "/api/v1/predict"
        wrk(url, opt.busy, 1, folder)
        busy = wrk(url, opt.busy, opt.seconds, folder)
        idle = wrk(url, opt.few, opt.seconds, folder)
        job = daemon.train("two", (2, 3), 1000, epochs=5000)
        wait(lambda: daemon.job(job)["phase"] == "train")
        training = wrk(url, opt.few, opt.seconds, folder)
        if daemon.job(job)["phase"] != "train":
            sys.exit("the job ended before the measurement did")
        daemon.ask("POST", f"/api/v1/jobs/{job}/cancel")
        wait(lambda: daemon.job(job)["state"] == "cancelled")
    finally:
        daemon.stop()
    return busy, idle, training


def theirs(opt, folder):
    """(throughput, latency), or None without the packages."""
    modules = "import fastapi, numpy, PIL, torch, uvicorn"
    if subprocess.run(["/usr/bin/python3", "-c", modules], capture_output=True, check=False).returncode:
        return None
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        port = s.getsockname()[1]
    peer = subprocess.Popen(["/usr/bin/python3", HERE / "peer_serve.py", str(port), str(os.cpu_count())])

    def listens():
        if peer.poll() is not None:
            sys.exit("peer_serve.py ended")
        with socket.socket() as s:
            return s.connect_ex(("127.0.0.1", port)) == 0

    try:
        wait(listens)
        url = f"http://127.0.0.1:{port}/predict"
        urllib.request.urlopen(url, pathlib.Path(folder, "image.png").read_bytes(), timeout=120).close()  # PyTorch warms up
        wrk(url, opt.busy, 1, folder)
        return wrk(url, opt.busy, opt.seconds, folder), wrk(url, opt.few, opt.seconds, folder)
    finally:
        peer.kill()
        peer.wait()


def main():
    opt = options()
    with tempfile.TemporaryDirectory() as folder:
        pathlib.Path(folder, "image.png").write_bytes(png(1, 0))
        pathlib.Path(folder, "post.lua").write_text(LUA)
        busy, idle, training = ours(opt, folder)
        peer = theirs(opt, folder)
    rows = [(f"idle, {opt.busy} connections", busy), (f"idle, {opt.few}", idle), (f"while training, {opt.few}", training)]
    if peer:
        rows += [(f"FastAPI + PyTorch, {opt.busy}", peer[0]), (f"FastAPI + PyTorch, {opt.few}", peer[1])]
    print(f"{'ResNet-32, 3x32x32, one PNG':32}{'requests/s':>12}{'p50 ms':>10}{'p99 ms':>10}")
    for name, (rate, p50, p99) in rows:
        print(f"{name:32}{rate:12.0f}{p50:10.2f}{p99:10.2f}")
    print(f"p99 while training is {training[2] / idle[2]:.2f} times the idle one")
    result = {"p99_idle_ms": idle[2], "p99_training_ms": training[2], "requests_per_s": busy[0],
              "peer_requests_per_s": peer[0][0] if peer else None, "p50_idle_ms": idle[1],
              "p50_training_ms": training[1], "peer_p99_idle_ms": peer[1][2] if peer else None}
    pathlib.Path(opt.output).parent.mkdir(parents=True, exist_ok=True)
    pathlib.Path(opt.output).write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
