#!/usr/bin/python3
"""The peer of bench_engine: the same networks in PyTorch, at its best setting (channels_last).

    peer_torch.py train|infer ARCH C H W BATCH THREADS SECONDS fp32|bf16

ARCH is a depth 6n+2 (CIFAR ResNet) or 18 (ResNet-18). Prints one line of JSON like bench_engine.
A training step is forward, cross-entropy, backward and SGD with momentum on one fixed batch: no
views are drawn and no data is moved, which favours the peer. Needs Debian's python3-torch.
"""
import json
import resource
import statistics
import sys
import time

import torch
import torch.nn.functional as F

from peer_network import network


def resident_mb():
    with open("/proc/self/statm") as f:
        return int(f.read().split()[1]) * resource.getpagesize() / 2**20


def timed(step, seconds):
    """Median seconds of a step, over steps that fill the time; two before to warm up."""
    step(), step()
    runs, start = [], time.monotonic()
    while time.monotonic() - start < seconds or len(runs) < 3:
        before = time.perf_counter()
        step()
        runs.append(time.perf_counter() - before)
    return statistics.median(runs)


def main():
    mode = sys.argv[1]
    arch, channels, height, width, batch, threads = map(int, sys.argv[2:8])
    seconds, bf16 = float(sys.argv[8]), sys.argv[9] == "bf16"
    torch.set_num_threads(threads)
    libraries = resident_mb()
    torch.manual_seed(0)
    net = network(arch, channels)
    x = torch.randn(batch, channels, height, width).to(memory_format=torch.channels_last)
    labels = torch.randint(0, 10, (batch,))
    optimiser = torch.optim.SGD(net.parameters(), lr=1e-3, momentum=0.9)

    def cast():
        return torch.autocast("cpu", dtype=torch.bfloat16, enabled=bf16)

    def train():
        optimiser.zero_grad()
        with cast():
            loss = F.cross_entropy(net(x), labels)
        loss.backward()
        optimiser.step()

    def infer():
        with torch.inference_mode(), cast():
            net(x)

    if mode == "infer":
        net.eval()
    took = timed(train if mode == "train" else infer, seconds)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(json.dumps({"images_per_s": batch / took, "milliseconds": 1e3 * took,
                      "memory_mb": peak - libraries}))


main()
