#!/usr/bin/python3
"""The engine's speed beside PyTorch's on the same cores: `make bench`.

Ours and the peer run in turn, never at once, ROUNDS times; figures are medians over the rounds, and
so are ratios: each is taken of neighbours in one round, as the machine's speed drifts.
Without Debian's python3-torch the peer's columns stay empty. Writes build/bench.json: ratios are
ours / peer (train_ratio, infer_ratio: images/s; batch1_ratio: milliseconds; rss_ratio: peak memory
above the loaded libraries), or, for teachers*_ratio, a training step with that many teachers over
one with none, and, for contended_ratio, images/s beside a busy process over images/s alone.
"""
import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request

# At its best PyTorch keeps the memory it has freed, in huge pages: else most of a step goes into page
# faults, and it is two to three times slower on a virtual machine.
PEER_ENVIRONMENT = {**os.environ, "MALLOC_TRIM_THRESHOLD_": "4000000000",
                    "MALLOC_MMAP_THRESHOLD_": "4000000000", "MALLOC_TOP_PAD_": "268435456",
                    "GLIBC_TUNABLES": "glibc.malloc.hugetlb=1"}
HERE = os.path.dirname(os.path.abspath(__file__))
NETWORKS = {"resnet32": ("32", "3", "32", "32", "128"), "resnet18": ("18", "3", "64", "64", "64")}
TEACHERS = (1, 5, 10, 19)
TEACHER_EPOCHS = 70  # a step's fixed cost (loading teachers) is spread over this many


def options():
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    p.add_argument("--build", default="build/release")
    p.add_argument("--rounds", type=int, default=5)
    p.add_argument("--seconds", type=float, default=3, help="of one measurement")
    p.add_argument("--output", default="build/bench.json")
    return p.parse_args()


class Bench:
    def __init__(self, opt):
        self.opt, self.samples, self.threads = opt, {}, str(os.cpu_count())
        self.peer = subprocess.run(["/usr/bin/python3", "-c", "import torch"],
                                   capture_output=True).returncode == 0

    def run(self, name, command, environment=None):
        """One measurement in a process of its own, added to the samples of `name`."""
        done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
        if done.returncode:
            sys.exit(f"{' '.join(command)}: {done.stderr.strip()}")
        self.samples.setdefault(name, []).append(json.loads(done.stdout))
        return self.samples[name][-1]

    def ours(self, name, mode, network, *more, batch=None, threads=None, precision="fp32"):
        arch, c, h, w, size = NETWORKS[network]
        return self.run(name, [f"{self.opt.build}/bench/bench_engine", mode, precision, arch, c, h,
                               w, batch or size, threads or self.threads, str(self.opt.seconds),
                               *more])

    def theirs(self, name, mode, network, precision="fp32", batch=None):
        if not self.peer:
            return
        arch, c, h, w, size = NETWORKS[network]
        self.run(name, ["/usr/bin/python3", f"{HERE}/peer_torch.py", mode, arch, c, h, w,
                        batch or size, self.threads, str(self.opt.seconds), precision],
                 PEER_ENVIRONMENT)

    def median(self, name, key="images_per_s"):
        values = [s[key] for s in self.samples.get(name, []) if key in s]
        return statistics.median(values) if values else None

    def ratio(self, a, b, key="images_per_s"):
        return self.ratio_of(lambda sample: sample.get(key), a, b)

    def ratio_of(self, value, a, b):
        """Median over the rounds of value(sample of a) / value(sample of b), or None."""
        pairs = [(value(x), value(y)) for x, y in zip(self.samples.get(a, []), self.samples.get(b, []))]
        ratios = [x / y for x, y in pairs if x is not None and y]
        return statistics.median(ratios) if ratios else None


def busy_process():
    return subprocess.Popen(["/usr/bin/python3", "-c", "while True: pass"])


def contended(b):
    """Both beside one process that keeps a core busy."""
    burner = busy_process()
    try:
        b.ours("train contended", "train", "resnet32")
        b.theirs("peer train contended", "train", "resnet32")
    finally:
        burner.kill()
        burner.wait()


def one_round(b):
    for precision, mark in (("fp32", ""), ("bf16", " bf16")):
        for network in NETWORKS:
            for mode in ("train", "infer"):
                b.ours(f"{network} {mode}{mark}", mode, network, precision=precision)
                b.theirs(f"peer {network} {mode}{mark}", mode, network, precision)
    b.ours("batch 1", "infer", "resnet32", batch="1", threads="1")
    b.theirs("peer batch 1", "infer", "resnet32", batch="1")
    b.ours("teachers 0", "train", "resnet32")
    for count in TEACHERS:
        b.ours(f"teachers {count}", "train", "resnet32", str(count))
    contended(b)


def teacher_ratio(b, count):
    """Seconds of a step of TEACHER_EPOCHS epochs of 5,000 images, fixed costs included."""
    def step(sample):
        return TEACHER_EPOCHS * 5000 / sample["images_per_s"] + sample["overhead_s"]
    return b.ratio_of(step, f"teachers {count}", "teachers 0")


def request(url, body=None, method=None, headers=None):
    r = urllib.request.Request(url, data=body, method=method, headers=headers or {})
    with urllib.request.urlopen(r, timeout=60) as reply:
        return json.loads(reply.read())


def start_daemon(b, directory):
    """Starts the daemon and returns it, its address and the milliseconds until it said it was ready."""
    port = os.path.join(directory, "port")
    if os.path.exists(port):
        os.unlink(port)
    started = time.monotonic()
    daemon = subprocess.Popen([f"{b.opt.build}/accreted", "--data-dir", directory, "--port", "0",
                               "--log-level", "error"])
    while True:
        try:
            with open(port, encoding="ascii") as f:
                url = f"http://127.0.0.1:{int(f.read())}"
            request(url + "/healthz")
            return daemon, url, 1e3 * (time.monotonic() - started)
        except (OSError, ValueError):
            if daemon.poll() is not None or time.monotonic() - started > 30:
                sys.exit("the daemon did not start")
            time.sleep(0.001)


def idx(images, labels, side):
    """Two IDX files of grey images of noise, as multipart/form-data."""
    head = b"\x00\x00\x08\x03" + b"".join(n.to_bytes(4, "big") for n in (images, side, side))
    body = b""
    for name, data in (("images", head + os.urandom(images * side * side)),
                       ("labels", b"\x00\x00\x08\x01" + images.to_bytes(4, "big") + labels)):
        body += (f'--x\r\nContent-Disposition: form-data; name="{name}"; filename="{name}"\r\n\r\n'
                 .encode() + data + b"\r\n")
    return body + b"--x--\r\n"


def make_versions(url, count):
    """`count` small increments of two classes each, with ResNet-32."""
    multipart = {"Content-Type": "multipart/form-data; boundary=x"}
    for step in range(count):
        body = idx(16, bytes([0, 1] * 8), 32)
        request(f"{url}/api/v1/batches?name=b{step}&classes=0,1&names=a{step},b{step}", body,
                headers=multipart)
        job = {"batches": [f"b{step}"], "options": {"depth": 32, "epochs": 1}}
        if step:
            del job["options"]["depth"]
        job = request(url + "/api/v1/jobs", json.dumps(job).encode())
        while job["state"] not in ("succeeded", "failed", "cancelled"):
            time.sleep(0.02)
            job = request(f"{url}/api/v1/jobs/{job['id']}")
        if job["state"] != "succeeded":
            sys.exit(f"increment {step}: {job['error']}")


def start_to_ready(b, versions=20):
    with tempfile.TemporaryDirectory() as directory:
        daemon, url, _ = start_daemon(b, directory)
        try:
            make_versions(url, versions)
        finally:
            daemon.terminate()
            daemon.wait()
        times = []
        for _ in range(b.opt.rounds):
            daemon, _, took = start_daemon(b, directory)
            times.append(took)
            daemon.terminate()
            daemon.wait()
        return statistics.median(times)


def results(b, ready_ms):
    r = {
        "train_ratio": b.ratio("resnet32 train", "peer resnet32 train"),
        "infer_ratio": b.ratio("resnet32 infer", "peer resnet32 infer"),
        "train_ratio_bf16": b.ratio("resnet32 train bf16", "peer resnet32 train bf16"),
        "infer_ratio_bf16": b.ratio("resnet32 infer bf16", "peer resnet32 infer bf16"),
        "resnet18_train_ratio": b.ratio("resnet18 train", "peer resnet18 train"),
        "resnet18_infer_ratio": b.ratio("resnet18 infer", "peer resnet18 infer"),
        "resnet18_train_ratio_bf16": b.ratio("resnet18 train bf16", "peer resnet18 train bf16"),
        "resnet18_infer_ratio_bf16": b.ratio("resnet18 infer bf16", "peer resnet18 infer bf16"),
        "batch1_ratio": b.ratio("batch 1", "peer batch 1", "milliseconds"),
        "rss_ratio": b.ratio("resnet32 train", "peer resnet32 train", "memory_mb"),
        "contended_ratio": b.ratio("train contended", "resnet32 train"),
        "peer_contended_ratio": b.ratio("peer train contended", "peer resnet32 train"),
        "ready_ms": ready_ms,
    }
    for count in TEACHERS:
        r[f"teachers{count}_ratio"] = teacher_ratio(b, count)
    r["raw"] = b.samples
    return r


def shown(value, digits=2):
    return "-" if value is None else f"{value:,.{digits}f}"


def print_table(b, r):
    print(f"\n{'':34}{'ours':>10}{'PyTorch':>10}{'ratio':>8}   goal")
    rows = [("train", "train_ratio", ">= 1.2 (2.0)"), ("infer", "infer_ratio", ">= 1.1 (2.0)"),
            ("train bf16", "train_ratio_bf16", "(1.5)"), ("infer bf16", "infer_ratio_bf16", "(1.5)")]
    for network in NETWORKS:
        for mode, key, goal in rows:
            key, goal = (key, goal) if network == "resnet32" else (f"{network}_{key}", "")
            name = f"{network} {mode}"
            print(f"{name + ', images/s':34}{shown(b.median(name), 0):>10}"
                  f"{shown(b.median('peer ' + name), 0):>10}{shown(r[key]):>8}   {goal}")
    for label, name, key, ratio, goal in (
            ("one image, ms", "batch 1", "milliseconds", "batch1_ratio", "<= 0.6 (0.5)"),
            ("training memory, MB", "resnet32 train", "memory_mb", "rss_ratio", "<= 0.5")):
        print(f"{label:34}{shown(b.median(name, key)):>10}"
              f"{shown(b.median('peer ' + name, key)):>10}{shown(r[ratio]):>8}   {goal}")
    print(f"{'beside a busy process, of alone':34}{shown(r['contended_ratio']):>10}"
          f"{shown(r['peer_contended_ratio']):>10}")
    for count in TEACHERS:
        goal = "   <= 1.25" if count == 19 else ""
        print(f"{f'step with {count} teachers, of none':34}"
              f"{shown(r[f'teachers{count}_ratio']):>10}{'':18}{goal}")
    print(f"{'start to ready, 20 versions, ms':34}{shown(r['ready_ms'], 1):>10}{'':18}   <= 100")


def main():
    opt = options()
    b = Bench(opt)
    if not b.peer:
        print("python3-torch is not installed: no peer to compare with")
    for i in range(opt.rounds):
        print(f"round {i + 1} of {opt.rounds} ...", flush=True)
        one_round(b)
    r = results(b, start_to_ready(b))
    with open(opt.output, "w", encoding="ascii") as f:
        json.dump(r, f, indent=1)
    print_table(b, r)


main()
