#!/usr/bin/python3
"""Golden values of small networks, computed by PyTorch, an implementation independent of ours.

    /usr/bin/python3 tests/golden/make_resnet.py cifar > tests/golden/resnet.txt
    /usr/bin/python3 tests/golden/make_resnet.py 20 > tests/golden/resnet20.txt
    /usr/bin/python3 tests/golden/make_resnet.py 18 > tests/golden/resnet18.txt

Needs Debian's python3-torch and python3-numpy; the tests need only the stored files. Weights and
inputs follow a formula (fill) that the C test repeats, so the files hold results alone. A gradient
is stored as its projections on two such fillings: one wrong element moves both.
"""
import sys

import numpy as np
import torch
import torch.nn.functional as F

MOMENTUM = 0.9
INPUT, PROJECT_A, PROJECT_B = 1000, 2000, 2001


def wave(count, speed, phase):
    return np.sin(speed * np.arange(1, count + 1, dtype=np.float64) + phase).astype(np.float32)


def noise(count, seed):
    """Uniform in [-1, 1), a hash of the index; arithmetic is modulo 2^32."""
    x = np.arange(1, count + 1, dtype=np.uint32) + np.uint32(seed * 0x9E3779B9 % 2**32)
    for shift, factor in ((16, 0x7FEB352D), (15, 0x846CA68B)):
        x = (x ^ (x >> np.uint32(shift))) * np.uint32(factor)
    x ^= x >> np.uint32(16)
    return (x >> np.uint32(8)).astype(np.float32) / np.float32(2**23) - np.float32(1)


class Cifar:
    """ResNet-8, in fp32."""
    height, width, classes, batch, steps = 11, 9, 5, 6, 10
    stages, blocks, stem, kernel, stride, pool = 3, 1, 16, 3, 1, False
    dtype, rate = torch.float32, 0.05

    @staticmethod
    def fill(count, stream):
        return wave(count, *{INPUT: (0.37, 0.5), PROJECT_A: (0.9, 0.1),
                             PROJECT_B: (2.3, 0.7)}.get(stream, (1.7, stream)))

    @staticmethod
    def conv_scale(k, cout):
        return np.sqrt(4 / (k * k * cout))


class ResNet20(Cifar):
    """Three blocks a stage; in double precision."""
    height, width, classes, batch, steps, blocks = 13, 10, 4, 4, 3, 3
    dtype, rate = torch.float64, 0.01

    @staticmethod
    def fill(count, stream):
        return noise(count, stream)

    @staticmethod
    def conv_scale(k, cout):
        return np.sqrt(6 / (k * k * cout))


class ResNet18:
    """As torchvision builds it, with taps; in double precision."""
    height, width, classes, batch, steps = 37, 45, 4, 3, 3
    stages, blocks, stem, kernel, stride, pool = 4, 2, 64, 7, 2, True
    dtype, rate = torch.float64, 0.01
    fill = staticmethod(noise)

    @staticmethod
    def conv_scale(k, cout):
        return np.sqrt(6 / (k * k * cout))


CHANNELS = 3
NET = {"cifar": Cifar, "20": ResNet20, "18": ResNet18}[sys.argv[1]]
HEADS = ["head"] + [f"aux{i}" for i in range(1, NET.stages)]
SHARES = dict(zip(HEADS, (1.0, 0.5, 0.25, 0.125)))


def blocks():
    """(place, cin, cout, stride, stage that it ends or 0)"""
    cin = NET.stem
    for stage in range(NET.stages):
        for block in range(NET.blocks):
            cout = NET.stem << stage
            yield (f"stage{stage + 1}.block{block}", cin, cout, 2 if stage and block == 0 else 1,
                   stage + 1 if block == NET.blocks - 1 else 0)
            cin = cout


def make_params():
    """Trained parameters in the order of our table, by name; convolutions in (K,K,Cin,Cout)."""
    convs = [("stem.conv1", "stem.bn1", NET.kernel, CHANNELS, NET.stem)]
    for place, cin, cout, stride, _ in blocks():
        convs += [(f"{place}.conv1", f"{place}.bn1", 3, cin, cout),
                  (f"{place}.conv2", f"{place}.bn2", 3, cout, cout)]
        if stride == 2 and NET is ResNet18:
            convs.append((f"{place}.proj.conv", f"{place}.proj.bn", 1, cin, cout))
    shapes = []
    for conv, bn, k, cin, cout in convs:
        shapes += [(conv + ".weight", (k, k, cin, cout)), (bn + ".gamma", (cout,)),
                   (bn + ".beta", (cout,))]
    for i, head in enumerate(HEADS):
        features = NET.stem << ((i or NET.stages) - 1)
        shapes += [(head + ".weight", (NET.classes, features)), (head + ".bias", (NET.classes,))]
    params = {}
    for i, (name, shape) in enumerate(shapes):
        value = NET.fill(int(np.prod(shape)), i).reshape(shape)
        if "conv" in name:
            value = value * np.float32(NET.conv_scale(shape[0], shape[3]))
        elif "gamma" in name:
            value = 1 + np.float32(0.2) * value
        else:
            value = np.float32(0.3) * value
        params[name] = torch.tensor(value, dtype=NET.dtype, requires_grad=True)
    return params


def forward(x, p, running, training):
    def conv(a, name, stride):
        w = p[name + ".weight"].permute(3, 2, 0, 1)
        return F.conv2d(a, w, stride=stride, padding=w.shape[2] // 2)

    def bn(y, name):
        c = y.shape[1]
        mean, var = running.setdefault(name, (torch.zeros(c, dtype=NET.dtype),
                                              torch.ones(c, dtype=NET.dtype)))
        return F.batch_norm(y, mean, var, p[name + ".gamma"], p[name + ".beta"], training, 0.1,
                            1e-5)

    a = F.relu(bn(conv(x, "stem.conv1", NET.stride), "stem.bn1"))
    if NET.pool:
        a = F.max_pool2d(a, 3, 2, 1)
    pooled = {}
    for place, cin, cout, stride, ends in blocks():
        y = F.relu(bn(conv(a, place + ".conv1", stride), place + ".bn1"))
        y = bn(conv(y, place + ".conv2", 1), place + ".bn2")
        if place + ".proj.conv.weight" in p:
            a = bn(conv(a, place + ".proj.conv", stride), place + ".proj.bn")
        elif stride == 2:
            half = (cout - cin) // 2
            a = F.pad(a[:, :, ::2, ::2], (0, 0, 0, 0, half, half))
        a = F.relu(y + a)
        if ends:
            pooled[HEADS[ends % NET.stages]] = a.mean((2, 3))
    return {h: pooled[h] @ p[h + ".weight"].T + p[h + ".bias"] for h in HEADS}


def show(name, values):
    print(name, *(f"{float(v):.9g}" for v in np.asarray(values, dtype=np.float64).ravel()))


def project(values):
    v = np.asarray(values, dtype=np.float64).ravel()
    return [v @ NET.fill(v.size, stream).astype(np.float64) for stream in (PROJECT_A, PROJECT_B)]


def loss_of(z, labels):
    return sum(share * F.cross_entropy(z[h], labels) for h, share in SHARES.items())


def main():
    torch.manual_seed(0)
    p, running = make_params(), {}
    x = torch.tensor(NET.fill(NET.batch * NET.height * NET.width * CHANNELS, INPUT)
                     .reshape(NET.batch, NET.height, NET.width, CHANNELS),
                     dtype=NET.dtype).permute(0, 3, 1, 2)
    labels = torch.tensor([(3 * i + 1) % NET.classes for i in range(NET.batch)])
    z = forward(x, p, running, True)
    for h in z:
        show("train." + h, z[h].detach())
    loss_of(z, labels).backward()
    for name, value in p.items():
        show("gradient." + name, project(value.grad))
    for name, (mean, var) in running.items():
        show("running." + name, project(mean) + project(var))
    with torch.no_grad():
        z = forward(x, p, running, False)
    for h in z:
        show("frozen." + h, z[h])
    optimiser = torch.optim.SGD(p.values(), lr=NET.rate, momentum=MOMENTUM)
    losses = []
    for _ in range(NET.steps):
        optimiser.zero_grad()
        loss = loss_of(forward(x, p, running, True), labels)
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    show("losses", losses)


main()
