#!/usr/bin/python3
"""Golden values of a small network, computed by PyTorch, an implementation independent of ours.

    /usr/bin/python3 tests/golden/make_resnet.py > tests/golden/resnet.txt

Needs Debian's python3-torch and python3-numpy; the tests need only the stored file. Weights and
inputs follow a formula (wave) that the C test repeats, so the file holds results alone. A
gradient is stored as its projections on two waves: one wrong element moves both.
"""
import numpy as np
import torch
import torch.nn.functional as F

BLOCKS, CHANNELS, HEIGHT, WIDTH, CLASSES, BATCH, STEPS = 1, 3, 11, 9, 5, 6, 10
RATE, MOMENTUM = 0.05, 0.9


def wave(count, speed, phase):
    return np.sin(speed * np.arange(1, count + 1, dtype=np.float64) + phase).astype(np.float32)


def layers():
    """(name, cin, cout, stride) of every convolution in forward order."""
    out, cin = [("stem", CHANNELS, 16, 1, 1)], 16
    for stage in range(3):
        for block in range(BLOCKS):
            cout = 16 << stage
            place = f"stage{stage + 1}.block{block}"
            out.append((place, cin, cout, 2 if stage and block == 0 else 1, 1))
            out.append((place, cout, cout, 1, 2))
            cin = cout
    return out


def make_params():
    """Trained parameters in the order of our table, by name; convolutions in (K,K,Cin,Cout)."""
    shapes = []
    for place, cin, cout, _, which in layers():
        shapes += [(f"{place}.conv{which}.weight", (3, 3, cin, cout)),
                   (f"{place}.bn{which}.gamma", (cout,)), (f"{place}.bn{which}.beta", (cout,))]
    for head, features in (("head", 64), ("aux1", 16), ("aux2", 32)):
        shapes += [(f"{head}.weight", (CLASSES, features)), (f"{head}.bias", (CLASSES,))]
    params = {}
    for i, (name, shape) in enumerate(shapes):
        value = wave(int(np.prod(shape)), 1.7, i).reshape(shape)
        if "conv" in name:
            value = value * np.float32(np.sqrt(4 / (9 * shape[3])))
        elif "gamma" in name:
            value = 1 + np.float32(0.2) * value
        else:
            value = np.float32(0.3) * value
        params[name] = torch.tensor(value, requires_grad=True)
    return params


def bn(y, p, place, which, running, training):
    name = f"{place}.bn{which}"
    mean, var = running.setdefault(name, (torch.zeros(y.shape[1]), torch.ones(y.shape[1])))
    return F.batch_norm(y, mean, var, p[name + ".gamma"], p[name + ".beta"], training, 0.1, 1e-5)


def forward(x, p, running, training):
    def conv(a, place, which, stride):
        w = p[f"{place}.conv{which}.weight"].permute(3, 2, 0, 1)
        return F.conv2d(a, w, stride=stride, padding=1)
    a = F.relu(bn(conv(x, "stem", 1, 1), p, "stem", 1, running, training))
    pooled = []
    todo = layers()[1:]
    for k in range(0, len(todo), 2):
        place, cin, cout, stride, _ = todo[k]
        y = F.relu(bn(conv(a, place, 1, stride), p, place, 1, running, training))
        y = bn(conv(y, place, 2, 1), p, place, 2, running, training)
        if stride == 2:
            half = (cout - cin) // 2
            a = F.pad(a[:, :, ::2, ::2], (0, 0, 0, 0, half, half))
        a = F.relu(y + a)
        if (k // 2 + 1) % BLOCKS == 0:
            pooled.append(a.mean((2, 3)))
    feats = {"head": pooled[2], "aux1": pooled[0], "aux2": pooled[1]}
    return {h: feats[h] @ p[h + ".weight"].T + p[h + ".bias"] for h in feats}


def show(name, values):
    print(name, *(f"{float(v):.9g}" for v in np.asarray(values, dtype=np.float64).ravel()))


def project(values):
    v = np.asarray(values, dtype=np.float64).ravel()
    return [v @ wave(v.size, 0.9, 0.1).astype(np.float64),
            v @ wave(v.size, 2.3, 0.7).astype(np.float64)]


def loss_of(z, labels):
    return sum(w * F.cross_entropy(z[h], labels) for h, w in
               (("head", 1.0), ("aux1", 0.5), ("aux2", 0.25)))


def main():
    torch.manual_seed(0)
    p, running = make_params(), {}
    x = torch.tensor(wave(BATCH * HEIGHT * WIDTH * CHANNELS, 0.37, 0.5)
                     .reshape(BATCH, HEIGHT, WIDTH, CHANNELS)).permute(0, 3, 1, 2)
    labels = torch.tensor([(3 * i + 1) % CLASSES for i in range(BATCH)])
    z = forward(x, p, running, True)
    for h in z:
        show("train." + h, z[h].detach())
    loss = loss_of(z, labels)
    loss.backward()
    for name, value in p.items():
        show("gradient." + name, project(value.grad))
    for name, (mean, var) in running.items():
        show("running." + name, project(mean) + project(var))
    with torch.no_grad():
        z = forward(x, p, running, False)
    for h in z:
        show("frozen." + h, z[h])
    optimiser = torch.optim.SGD(p.values(), lr=RATE, momentum=MOMENTUM)
    losses = []
    for _ in range(STEPS):
        optimiser.zero_grad()
        loss = loss_of(forward(x, p, running, True), labels)
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    show("losses", losses)


main()
