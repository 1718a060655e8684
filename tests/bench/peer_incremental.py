#!/usr/bin/python3
"""The peer of incremental.py: the row `finetune` of a CIFAR-100 profile trained in PyTorch, with the same network, classes, steps,
epochs, batches, schedule and views, so that accuracy can be compared within noise and time side by side.

    peer_incremental.py --data FOLDER [--profile short] [--seeds 1 2 3] [--threads N]

Writes one file a seed under tests/bench/results/peer; tables.py puts them beside ours. Needs Debian's python3-torch.
"""
import argparse
import json
import math
import os
import pathlib
import sys
import time

import numpy
import torch
import torch.nn.functional as F
from torch import nn

import protocol
from datasets import Cifar100
from incremental import machine, write
from peer_network import network

HERE = pathlib.Path(__file__).resolve().parent
LR, LR_LATER, MOMENTUM, WEIGHT_DECAY, PAD = 0.1, 1.0, 0.9, 2e-3, 4  # the daemon's defaults


def initial_network(depth, classes):
    net = network(depth, classes=classes)
    for m in net.modules():
        if isinstance(m, nn.Conv2d):
            nn.init.kaiming_normal_(m.weight, mode="fan_out", nonlinearity="relu")
    return net


def images(records, classes, order):
    """(pixels (N,3,32,32) of 0..1, labels as places in the order)"""
    chosen = [(r[2:], order.index(c)) for c in classes for r in records[c]]
    pixels = numpy.frombuffer(b"".join(p for p, _ in chosen), numpy.uint8).reshape(-1, 3, 32, 32)
    return torch.from_numpy(pixels.astype(numpy.float32) / 255), torch.tensor([label for _, label in chosen])


def views(x, rng):
    """A random crop of each padded image, mirrored or not."""
    padded = F.pad(x, (PAD,) * 4)
    out = torch.empty_like(x)
    for i, (dx, dy, flip) in enumerate(zip(*(rng.integers(0, n, len(x)) for n in (2 * PAD + 1, 2 * PAD + 1, 2)))):
        view = padded[i, :, dy:dy + 32, dx:dx + 32]
        out[i] = view.flip(2) if flip else view
    return out.contiguous(memory_format=torch.channels_last)


def learn_step(net, x, y, old, new, epochs, batch, rate, rng):
    """Sigmoid cross-entropy over the new classes' outputs, summed over them, mean over the batch."""
    head = net[-1]
    with torch.no_grad():
        head.weight[old:new].uniform_(-1 / 8, 1 / 8)
        head.bias[old:new] = -math.log(max(1, new - old - 1))  # a probability of one in so many
    decayed = [p for p in net.parameters() if p.dim() > 1]
    plain = [p for p in net.parameters() if p.dim() == 1]
    sgd = torch.optim.SGD([{"params": decayed, "weight_decay": WEIGHT_DECAY}, {"params": plain}], rate, MOMENTUM)
    batches = math.ceil(len(x) / batch)
    net.train()
    for epoch in range(epochs):
        for i, rows in enumerate(numpy.array_split(rng.permutation(len(x)), batches)):
            for group in sgd.param_groups:
                group["lr"] = rate * 0.5 * (1 + math.cos(math.pi * (epoch * batches + i) / (epochs * batches)))
            targets = F.one_hot(y[rows] - old, new - old).float()
            logits = net(views(x[rows], rng))[:, old:new]
            loss = F.binary_cross_entropy_with_logits(logits, targets, reduction="sum") / len(rows)
            sgd.zero_grad()
            loss.backward()
            sgd.step()


def accuracies(net, x, y, seen, steps):
    """Of each step's classes among all seen, and of all."""
    net.eval()
    with torch.inference_mode():
        right = torch.cat([net(part.contiguous(memory_format=torch.channels_last))[:, :seen].argmax(1)
                           for part in x.split(500)]) == y
    return [right[(y >= a) & (y < b)].float().mean().item() for a, b in steps], right.float().mean().item()


def run(profile, seed, data, threads):
    p = protocol.PROFILES[profile]
    plan = protocol.Run(profile, "finetune", seed, False, p.training["epochs"])
    order = [c for step in plan.steps for c in step]
    torch.manual_seed(seed)
    rng = numpy.random.default_rng(seed)
    net = initial_network(p.network["depth"], p.classes)
    matrix, total, seconds, steps = [], [], 0, []
    for number, classes in enumerate(plan.steps):
        x, y = images(data.records("train"), classes, order)
        if number == 0:
            mean, std = x.mean((0, 2, 3), keepdim=True), x.std((0, 2, 3), keepdim=True)
        steps.append((number * p.per_step, (number + 1) * p.per_step))
        started = time.monotonic()
        learn_step(net, (x - mean) / std, y, *steps[-1], plan.epochs, p.training["batch"], LR * (LR_LATER if number else 1), rng)
        seconds += time.monotonic() - started
        test, labels = images(data.records("test"), order[:steps[-1][1]], order)
        row, all_seen = accuracies(net, (test - mean) / std, labels, steps[-1][1], steps)
        matrix.append(row)
        total.append(all_seen)
        print(f"seed {seed}, step {number + 1} of {len(plan.steps)}: {100 * all_seen:.1f} %, {seconds:.0f} s", flush=True)
    forgotten = [max(matrix[t][i] for t in range(i, len(steps) - 1)) - matrix[-1][i] for i in range(len(steps) - 1)]
    return {**plan.description(), "average_incremental": sum(total) / len(total), "last": total[-1],
            "forgetting": sum(forgotten) / len(forgotten), "accuracy": total, "accuracy_matrix": matrix,
            "seconds": round(seconds, 1), "threads": threads, "program": f"PyTorch {torch.__version__}, channels_last, fp32",
            "machine": machine(), "made": time.strftime("%Y-%m-%d", time.gmtime())}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=pathlib.Path, required=True)
    parser.add_argument("--profile", default="short", choices=[k for k, p in protocol.PROFILES.items() if "finetune" in p.rows
                                                               and p.source == "cifar100"])
    parser.add_argument("--seeds", type=int, nargs="+", default=[1])
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--results", type=pathlib.Path, default=HERE / "results")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    data = Cifar100(args.data)
    for seed in args.seeds:
        made = run(args.profile, seed, data, args.threads)
        write(args.results / "peer" / f"{args.profile}-finetune-s{seed}.json", made)
        ours = args.results / args.profile / f"{args.profile}-finetune-s{seed}.json"
        for name, one in [("PyTorch", made), *([("accreted", json.loads(ours.read_text()))] if ours.exists() else [])]:
            print(f"{name:9} average incremental {100 * one['average_incremental']:.1f} %, last {100 * one['last']:.1f} %, "
                  f"{one['seconds']:.0f} s")
    return 0


if __name__ == "__main__":
    sys.exit(main())
