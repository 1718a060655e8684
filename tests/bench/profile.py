#!/usr/bin/python3
"""Where the time of a training step goes, by kind of operation: the table of core/README.md.

    /usr/bin/python3 tests/bench/profile.py [--build build/release] [--seconds 8]

Samples bench_engine (ResNet-32, 3x32x32, batch 128) with Debian's linux-perf and adds up its functions by kind.
For the kinds that multiply it also counts the operations they really do (Winograd's, not the plain loop's) and
sets them against the rate of the best direct kernel, which does nothing but multiply and add in registers.
"""
import argparse
import collections
import json
import os
import re
import subprocess
import sys
import tempfile

KINDS = {
    "forward and data products": r"sum_pixels|^sum$",
    "weight products": r"weights_floats|sum_weights",
    "Winograd transforms": r"^(input|output|gradient|weights|kernels)$",
    "batch norm, ReLU, residual": r"norm_|backward_row|gradient_(sums|output|affine)|column_sums|add_sums|train_backward",
    "views and update": r"dataset|sgd_|rng_|resample|crop",
    "im2col, heads, losses": r"gemm|dgemm|im2col|objective|loss|linear|openblas|pool_",
    "copies and clearing": r"mem(move|set|cpy)|__mem",
    "kernel (page faults, interrupts)": r"^\[k\]",
}
BLOCKS = 5  # of a stage: ResNet-32


def multiplications():
    """Of one image: forward + data products, and weight products."""
    both = weights = 0
    for stage, (side, width) in enumerate(((32, 16), (16, 32), (8, 64))):
        tiles = (side // 4) ** 2 * 36 * width * width
        inner = 2 * BLOCKS - (stage > 0)
        both += 2 * inner * tiles
        weights += inner * tiles
        if stage:
            strided = side * side * 9 * (width // 2) * width
            both += 2 * strided
            weights += strided
    stem = 32 * 32 * 27 * 16
    return both + stem, weights + stem


def peak(build):
    """GFLOP/s of one core: the fastest direct row of bench_conv."""
    text = subprocess.run([f"{build}/bench/bench_conv"], capture_output=True, text=True, check=True).stdout
    rows = [line for line in text.splitlines() if " direct " in line]
    return max(float(f) for line in rows for f in re.findall(r"\d+", line.split("direct")[1]))


def sample(build, seconds):
    with tempfile.TemporaryDirectory() as folder:
        data = os.path.join(folder, "perf.data")
        command = ["perf", "record", "-q", "-o", data, f"{build}/bench/bench_engine", "train", "fp32", "32", "3",
                   "32", "32", "128", str(os.cpu_count()), str(seconds)]
        try:
            done = subprocess.run(command, capture_output=True, text=True, check=True)
        except (OSError, subprocess.CalledProcessError) as e:
            sys.exit(f"perf does not work here (apt-get install linux-perf): {e}")
        report = subprocess.run(["perf", "report", "-i", data, "--stdio", "--no-children", "-g", "none"],
                                capture_output=True, text=True, check=True).stdout
    return json.loads(done.stdout)["images_per_s"], re.findall(r"^\s+([\d.]+)%\s+\S+\s+\S+\s+\[(.)\] (\S+)", report, re.M)


def main():
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    p.add_argument("--build", default="build/release")
    p.add_argument("--seconds", type=float, default=8)
    opt = p.parse_args()
    best = peak(opt.build)
    rate, rows = sample(opt.build, opt.seconds)
    shares = collections.Counter()
    for share, ring, symbol in rows:
        name = "[k]" if ring == "k" else symbol.split(".")[0]
        kind = next((k for k, pattern in KINDS.items() if re.search(pattern, name)), "the rest")
        shares[kind] += float(share)
    total, core_us = sum(shares.values()), 1e6 * os.cpu_count() / rate
    work = dict(zip(("forward and data products", "weight products"), multiplications()))
    print(f"{rate:.0f} images/s while sampled; one core multiplies and adds at {best:.0f} GFLOP/s at best\n")
    print(f"| kind | share | us an image and core | of peak |\n|---|---|---|---|")
    for kind, share in shares.most_common():
        us = share / total * core_us
        of_peak = f"{2e-3 * work[kind] / us / best:.0%}" if kind in work else ""
        print(f"| {kind} | {share / total:.0%} | {us:.0f} | {of_peak} |")


main()
