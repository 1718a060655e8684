"""A snapshot's file holds what the daemon exports: judged by a decoder written from core/m2kd/SNAPSHOT_FORMAT.md alone.
Only the checksums are not."""

import collections
import itertools
import json
import math
import struct
import subprocess
import types

import numpy
import pytest

import images
from conftest import Client
from test_export import export, read_safetensors

STEPS = range(22), range(22, 25), range(25, 26)  # classes; more than what MEAN looks back upon
SEEN = 12  # images of each
TINY = {"epochs": 3, "batch": 32, "lr": 0.02, "lr_later": 0.05, "flip": False, "prune": {"keep": 0.4, "epochs": 1}}


# ---- a decoder in Python; int(a / b) rounds towards zero, a // b is for what is not negative ----

BOUNDS = list(itertools.accumulate(range(22), lambda bound, _: bound * 5 // 4, initial=6))
ODDS = [round(8 * math.log((i + 0.5) / (63.5 - i))) for i in range(64)]


class Coded:
    """The bits of a coded section; a model or a context is named by any key."""

    def __init__(self, data):
        self.ahead, self.rest = int.from_bytes(data[:4], "big"), iter(data[4:])
        self.low, self.high = 0, 2 ** 32 - 1
        self.models = collections.defaultdict(lambda: (32768, 0))

    def bit(self, key=None):
        p, n = self.models[key] if key else (32768, 0)
        middle = self.low + (self.high - self.low) * p // 65536
        bit = int(self.ahead <= middle)
        self.low, self.high = (self.low, middle) if bit else (middle + 1, self.high)
        while self.low >> 24 == self.high >> 24:
            self.low, self.high = self.low * 256 % 2 ** 32, self.high * 256 % 2 ** 32 + 255
            self.ahead = self.ahead * 256 % 2 ** 32 + next(self.rest)
        if key:
            n = min(n + 1, 250)
            self.models[key] = min(max(p + int(2 * (65536 * bit - p) / (2 * n + 1)), 32), 65504), n
        return bit

    def number(self, context=None, average=0):
        """In the given context or in that of an average."""
        context = context or sum(bound < average for bound in BOUNDS)
        length = 0
        while length < 15 and self.bit((context, length)):
            length += 1
        value = min(length, 1)
        for _ in range(length - 1):
            value = 2 * value + self.bit((context, length, value) if value < 8 else None)
        return -value if value and self.bit() else value

    def end(self):
        assert self.ahead == self.low and next(self.rest, None) is None


def read_container(data):
    """Section name -> bytes, and the number of the file."""
    *head, count, zero, length = struct.unpack_from("<8sIIIIQ", data)
    assert (head, zero, length) == ([b"ACCRETED", 1, 2], 0, len(data))
    sections, end = {}, 40 + 32 * count
    for name, zero, offset, size, _ in struct.iter_unpack("<4sIQQQ", data[32:end - 8]):
        assert zero == 0 and offset == -(-end // 64) * 64 and not any(data[end:offset])
        sections[name.decode()], end = data[offset:offset + size], offset + size
    assert end == len(data)
    return sections, data[32 + 32 * count:][:8]


def parameters(blocks, channels, classes):
    """Name -> shape of all parameters of a CIFAR ResNet, in order."""
    widths = [channels, 16] + [16] * 2 * blocks + [32] * 2 * blocks + [64] * 2 * blocks
    places = [f"stage{stage}.block{block}" for stage in (1, 2, 3) for block in range(blocks)]
    names = ["stem.%s1"] + [f"{place}.%s{i}" for place in places for i in (1, 2)]
    shapes, statistics = {}, {}
    for name, into, out in zip(names, widths, widths[1:]):
        shapes[name % "conv" + ".weight"] = 3, 3, into, out
        shapes.update({name % "bn" + part: (out,) for part in (".gamma", ".beta")})
        statistics.update({name % "bn" + part: (out,) for part in (".mean", ".var")})
    for name, features in (("head", 64), ("aux1", 16), ("aux2", 32)):
        shapes.update({name + ".weight": (classes, features), name + ".bias": (classes,)})
    return {**shapes, **statistics}


def read_masks(data, layers):
    """Name -> which of a convolution's weights are kept; `layers` says which of them no file below keeps."""
    coded, masks = Coded(data), {}
    for name, free in layers.items():
        masks[name], counts = numpy.zeros(free.shape, bool), collections.defaultdict(lambda: (0, 0))
        for y, x, i, o in numpy.argwhere(free).tolist():
            places = "layer", ("output", o), ("input", i), ("kernel", i, o)
            (n, k), *channels, (_, h) = (counts[place] for place in places)
            dense, j = (64 * k + 64) // (n + 4), y * free.shape[1] + x
            odds = sum(ODDS[(64 * k + 3 * dense) // (n + 4)] for n, k in channels) - ODDS[dense]
            full = 2 * (1 + 4 * h // j) + (j > 4) if j else 0
            masks[name][y, x, i, o] = bit = coded.bit((min(max(int((odds + 40) / 4), 0), 19), full))
            counts.update({place: (counts[place][0] + 1, counts[place][1] + bit) for place in places})
    coded.end()
    return masks


def read_codes(data, masks):
    """Name -> a convolution's weights as multiples of their scales."""
    coded, layers = Coded(data), {}
    for name, mask in masks.items():
        layers[name], counts = numpy.zeros(mask.shape, "f4"), [(0, 0)] * mask.shape[3]
        for y, x, i, o in numpy.argwhere(mask).tolist():
            n, s = counts[o]
            layers[name][y, x, i, o] = code = coded.number(average=16 * (s + 18) // (n + 3))
            counts[o] = n + 1, s + abs(code)
    coded.end()
    return layers


def power_of_two(k):
    """2^(k / 32), by square roots and products, as exact as the daemon's and no more."""
    roots = itertools.accumulate(range(4), lambda root, _: math.sqrt(root), initial=math.sqrt(2))
    return math.ldexp(math.prod(root for i, root in enumerate(roots) if k & 16 >> i), k // 32)


def read_covariance(data, width):
    """Pivots, the factor's rows in sixty-fourths of theirs, and the covariance's lower triangle."""
    coded, factor, rows, columns = Coded(data), 64 * numpy.eye(width), [1024] * width, [1024] * width
    e, q = coded.number("exponent"), [coded.number("pivot") for _ in range(width)]
    for i, j in zip(*(index.tolist() for index in numpy.tril_indices(width, -1))):
        factor[i, j] = c = coded.number(average=(rows[i] + columns[j]) // 32)
        rows[i] += int((256 * abs(c) - rows[i]) / 32)
        columns[j] += int((256 * abs(c) - columns[j]) / 32)
    coded.end()
    pivots = numpy.array([power_of_two(16 * e + q_i) for q_i in q])
    scales = numpy.outer(pivots, pivots)
    numpy.fill_diagonal(scales, [power_of_two(32 * e + 2 * q_i) for q_i in q])
    square = scales * (factor @ factor.T / 64 ** 2) - 2.0 ** e * numpy.eye(width)
    return pivots, factor, square[numpy.tril_indices(width)]


def read_means(data, classes, width):
    """What the factor makes prototypes of, in sixteenths."""
    coded, means = Coded(data), numpy.zeros((classes, width), int)
    for row, feature in itertools.product(range(classes), range(width)):
        before = means[max(row - 20, 0):row, feature].tolist()
        g = int(sum(before) / max(len(before), 1))
        distances = [abs(c - g) for c in before[-3:]]
        means[row, feature] = g + coded.number(average=16 * (8 + sum(distances)) // (len(distances) + 1))
    coded.end()
    return means


def read_snapshot(path):
    """A snapshot in few bits, with the files below it."""
    sections, number = read_container(path.read_bytes())
    s = types.SimpleNamespace(number=number, spec=struct.unpack("<8i9f", sections["SPEC"]), tensors={})
    s.steps, s.seen = (numpy.frombuffer(sections[name], "<u4").tolist() for name in ("STEP", "SEEN"))
    s.experts = [name.rstrip(b"\0").decode() for name, in struct.iter_unpack("56s", sections.get("EXPT", b""))]
    s.mirror, s.power = struct.unpack("<if", sections["VIEW"])
    shapes = parameters(s.spec[1], s.spec[2], s.spec[5])
    layers = {name: numpy.zeros(shape, "f4") for name, shape in shapes.items() if ".conv" in name}
    s.kept = {name: values != 0 for name, values in layers.items()}
    if "BASE" in sections:
        below = read_snapshot(path.with_name(sections["BASE"][8:].rstrip(b"\0").decode()))
        assert below.number == sections["BASE"][:8] and below.steps == s.steps[:-1]
        layers, s.kept = {name: below.tensors[name] for name in layers}, below.kept
    masks = read_masks(sections["MSKA"], {name: ~kept for name, kept in s.kept.items()})
    scales = (numpy.frombuffer(sections["SCAL"], "<u2").astype("<u4") << 16).view("<f4")
    for name, codes in read_codes(sections["CODA"], masks).items():
        own, scales = numpy.split(scales, [codes.shape[3]])
        s.tensors[name], s.kept[name] = layers[name] + codes * own, s.kept[name] | masks[name]
    rest = subprocess.run(["zstd", "-dc"], input=sections["RESF"], capture_output=True, check=True).stdout
    rest = numpy.frombuffer(numpy.frombuffer(rest, "u1").reshape(2, -1).T.tobytes(), "<f2").astype("f4")
    for name, shape in shapes.items():
        if name not in layers:
            own, rest = numpy.split(rest, [math.prod(shape)])
            s.tensors[name] = own.reshape(shape)
    assert len(scales) == len(rest) == 0
    pivots, factor, s.covariance = read_covariance(sections["COVF"], 64 * (len(s.experts) + 1))
    s.prototypes = read_means(sections["MEAN"], s.spec[5], len(pivots)) @ factor.T * pivots / (16 * 64)
    return s


# ---- what the daemon says ----

def same(ours, theirs):
    """Bit for bit, as float32; a convolution is exported (out, in, k, k)."""
    ours = ours.transpose(3, 2, 0, 1) if ours.ndim == 4 else ours
    return ours.shape == theirs.shape and ours.astype("<f4").tobytes() == theirs.tobytes()


def same_facts(s, metadata):
    """Asserts that the small sections say what the export does."""
    spec = json.loads(metadata["spec"])
    assert s.spec[:6] == (0, *(spec[key] for key in ("blocks", "channels", "height", "width", "classes")))
    assert (s.spec[6], s.steps) == (len(s.steps), json.loads(metadata["steps"]))
    assert ("head", "prototypes", "discriminant")[s.spec[7]] == metadata["classifier"]
    assert (s.mirror, s.seen) == (0, [SEEN] * spec["classes"]) and metadata["mirrored"] == "false"
    floats = [json.loads(metadata[key]) for key in ("score_scale", "mean", "std", "feature_power")]
    ours = s.spec[8], s.spec[9:9 + spec["channels"]], s.spec[13:13 + spec["channels"]], s.power
    assert all(numpy.array_equal(numpy.float32(a), numpy.float32(b)) for a, b in zip(ours, floats))


@pytest.mark.parametrize("store", ["standalone", "shared"])
def test_another_decoder_finds_what_is_exported(api, store):
    """Of versions 1 and 2, which once a step is built on them are exported from their snapshots."""
    for step, classes in enumerate(STEPS):
        api.upload(f"week-{step}", images.tar([], [], [
            (f"class {i}", images.CLASSES[i % 6], SEEN * i + k) for i in classes for k in range(SEEN)]))
        api.learn(f"week-{step}", **TINY, store=store, **({} if step else {"depth": 8}))
    one, two = (read_snapshot(api.daemon.data_dir / "snapshots" / name) for name in ("1", "2"))
    assert (one.experts, two.experts) == ([], ["1"])
    first = {**one.tensors, "prototypes": one.prototypes, "covariance": one.covariance}
    second = {**two.tensors, "experts.prototypes": two.prototypes, "experts.covariance": two.covariance,
              **{"expert1." + name: values for name, values in one.tensors.items()}}
    for version, s, ours, more in ((1, one, first, set()), (2, two, second, {"prototypes", "covariance"})):
        metadata, theirs = read_safetensors(export(api, version, format="safetensors").content)
        assert metadata["weights"] == "snapshot"
        same_facts(s, metadata)
        assert theirs.keys() - ours.keys() == more  # those of the network without its experts
        assert [name for name, values in ours.items() if not same(values, theirs[name])] == []
