"""The networks of accreted in PyTorch, for its peers: the CIFAR ResNets and ResNet-18."""
import torch
import torch.nn.functional as F
from torch import nn


class Block(nn.Module):
    def __init__(self, cin, cout, stride, project):
        super().__init__()
        self.conv1 = nn.Conv2d(cin, cout, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(cout)
        self.conv2 = nn.Conv2d(cout, cout, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(cout)
        self.stride, self.grow = stride, cout - cin
        self.project = None
        if project and (stride > 1 or self.grow):
            self.project = nn.Sequential(nn.Conv2d(cin, cout, 1, stride, bias=False),
                                         nn.BatchNorm2d(cout))

    def forward(self, x):
        y = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x)))))
        if self.project is not None:
            x = self.project(x)
        elif self.stride > 1:
            half = self.grow // 2
            x = F.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, half, self.grow - half))
        return F.relu(y + x)


def network(arch, channels=3, classes=10):
    """ARCH as in bench_engine: a depth 6n+2 or 18; channels_last, PyTorch's own initial weights."""
    if arch == 18:
        widths, n, project = (64, 128, 256, 512), 2, True
        stem = [nn.Conv2d(channels, 64, 7, 2, 3, bias=False), nn.BatchNorm2d(64), nn.ReLU(),
                nn.MaxPool2d(3, 2, 1)]
    else:
        widths, n, project = (16, 32, 64), (arch - 2) // 6, False
        stem = [nn.Conv2d(channels, 16, 3, 1, 1, bias=False), nn.BatchNorm2d(16), nn.ReLU()]
    layers, cin = stem, widths[0]
    for stage, width in enumerate(widths):
        for block in range(n):
            layers.append(Block(cin, width, 2 if stage and block == 0 else 1, project))
            cin = width
    net = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(cin, classes))
    return net.to(memory_format=torch.channels_last)
