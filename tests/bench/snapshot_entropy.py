#!/usr/bin/python3
"""How near zstd comes to the entropy of a snapshot's mask and codes: snapshot_entropy.py MODEL [KEEP [BITS]]

MODEL is a model file of a CIFAR ResNet (core/m2kd/SNAPSHOT_FORMAT.md), as in a daemon's data directory under models/.
"""
import struct
import subprocess
import sys

import numpy


def sections(path):
    data = open(path, "rb").read()
    if data[:8] != b"ACCRETED" or struct.unpack_from("<I", data, 12)[0] != 1:
        sys.exit(f"{path} is no model file")
    rows = (struct.unpack_from("<4sIQQQ", data, 32 + 32 * i) for i in range(struct.unpack_from("<I", data, 16)[0]))
    return {name.decode(): data[at:at + size] for name, _, at, size, _ in rows}


def convolutions(params, blocks, channels):
    """Weights (k * k * in, out) of each, in parameter order."""
    at, found = 0, []
    shapes = [(channels, 16)]
    for width in (16, 32, 64):
        for _ in range(blocks):
            shapes += [(shapes[-1][1], width), (width, width)]
    for cin, cout in shapes:
        found.append(params[at:at + 9 * cin * cout].reshape(-1, cout))
        at += 9 * cin * cout + 2 * cout
    return found


def zstd(data):
    return len(subprocess.run(["zstd", "-19", "-c", "-q"], input=data, stdout=subprocess.PIPE, check=True).stdout)


def entropy(symbols):
    """Bytes, at the symbols' own frequencies."""
    counts = numpy.unique(symbols, return_counts=True)[1]
    return -(counts * numpy.log2(counts / counts.sum())).sum() / 8


def main(path, keep=0.25, bits=6):
    keep, most = float(keep), 2 ** (int(bits) - 1) - 1
    parts = sections(path)
    arch, blocks, channels = struct.unpack_from("<3i", parts["SPEC"])
    if arch != 0:
        sys.exit("a CIFAR ResNet is needed")
    masks, codes = [], []
    for i, weights in enumerate(convolutions(numpy.frombuffer(parts["PARM"], "<f4"), blocks, channels)):
        size = abs(weights)
        kept = size >= numpy.sort(size, axis=None)[-int(numpy.ceil((keep if i else 1) * weights.size))]
        scale = numpy.where(kept, size, 0).max(0) / most
        masks.append(kept.ravel())
        codes.append(numpy.rint(weights / numpy.where(scale > 0, scale, 1))[kept].astype(numpy.int8))
    bytes_of_mask = numpy.packbits(numpy.concatenate(masks), bitorder="little").tobytes()
    print(f"mask {len(bytes_of_mask)} bytes, zstd {zstd(bytes_of_mask)}, entropy by layer {sum(map(entropy, masks)):.0f}")
    all_codes = numpy.concatenate(codes)
    print(f"codes {all_codes.size * int(bits) // 8} bytes, zstd {zstd(all_codes.tobytes())}, entropy {entropy(all_codes):.0f}, "
          f"by layer {sum(map(entropy, codes)):.0f}")


if __name__ == "__main__":
    if len(sys.argv) not in (2, 3, 4):
        sys.exit(__doc__)
    main(*sys.argv[1:])
