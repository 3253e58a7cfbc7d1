"""The benchmark's networks in torch.nn, with our parameters' names, so that trees and state dicts can be converted.

ResNet18 is in tests/test_models.py, under torchvision's names.
"""

import jax
import numpy as np
import torch
from torch import nn

NAMES = {"kernel": "weight", "scale": "weight", "mean": "running_mean", "var": "running_var"}
ORDERS = {4: (3, 2, 0, 1), 2: (1, 0)}


def state_dict(*trees):
    """Convert our trees (parameters, statistics or gradients) to PyTorch's names and orders of axes."""
    found = {}
    for tree in trees:
        for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
            *modules, last = (key.key for key in path)
            array = np.asarray(leaf)
            order = ORDERS.get(array.ndim, tuple(range(array.ndim))) if last == "kernel" else tuple(range(array.ndim))
            name = NAMES.get(last, last) if modules else last
            found[".".join([*modules, name])] = torch.from_numpy(np.array(array.transpose(order), order="C"))
    return found


def load(network, *trees):
    """Load our numbers into a PyTorch network, which takes our dtype and keeps its own counters."""
    ours = state_dict(*trees)
    network.to(next(iter(ours.values())).dtype)
    missing, unexpected = network.load_state_dict(ours, strict=False)
    assert not unexpected
    assert all(name.endswith("num_batches_tracked") for name in missing), missing
    return network


def turned(images):
    """Convert NHWC to NCHW."""
    return torch.from_numpy(np.ascontiguousarray(np.asarray(images).transpose(0, 3, 1, 2)))


class Vgg(nn.Module):
    """Simonyan & Zisserman 2015, configuration D: 64, 64, M, 128, 128, M, 256 x 3, M, 512 x 3, M, 512 x 3, M."""

    def __init__(self, num_classes, width=64):
        super().__init__()
        self.order, inputs = [], 3
        for stage, (factor, count) in enumerate(((1, 2), (2, 2), (4, 3), (8, 3), (8, 3)), 1):
            for number in range(1, count + 1):
                name = f"{stage}_{number}"
                self.add_module(f"conv{name}", nn.Conv2d(inputs, factor * width, 3, padding=1))
                self.add_module(f"bn{name}", nn.BatchNorm2d(factor * width))
                self.order.append(name)
                inputs = factor * width
            self.order.append("M")
        self.fc = nn.Linear(inputs, num_classes)

    def forward(self, x):
        for name in self.order:
            if name == "M":
                x = nn.functional.max_pool2d(x, 2)
            else:
                x = torch.relu(getattr(self, f"bn{name}")(getattr(self, f"conv{name}")(x)))
        return self.fc(x.mean((2, 3)))


class WideBlock(nn.Module):
    def __init__(self, inputs, outputs, stride):
        super().__init__()
        self.bn1, self.bn2 = nn.BatchNorm2d(inputs), nn.BatchNorm2d(outputs)
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.shortcut = None
        if inputs != outputs or stride != 1:
            self.shortcut = nn.Conv2d(inputs, outputs, 1, stride, bias=False)

    def forward(self, x):
        y = torch.relu(self.bn1(x))
        if self.shortcut is not None:
            x = self.shortcut(y)
        return x + self.conv2(torch.relu(self.bn2(self.conv1(y))))


class WideResNet(nn.Module):
    """Zagoruyko & Komodakis 2016, table 1."""

    def __init__(self, num_classes, depth=16, widen=8, width=16):
        super().__init__()
        self.conv1 = nn.Conv2d(3, width, 3, 1, 1, bias=False)
        inputs, self.names = width, []
        for group, stride in enumerate((1, 2, 2)):
            for block in range((depth - 4) // 6):
                outputs = width * widen * 2**group
                name = f"group{group + 1}_{block}"
                self.add_module(name, WideBlock(inputs, outputs, stride if block == 0 else 1))
                self.names.append(name)
                inputs = outputs
        self.bn = nn.BatchNorm2d(inputs)
        self.fc = nn.Linear(inputs, num_classes)

    def forward(self, x):
        x = self.conv1(x)
        for name in self.names:
            x = getattr(self, name)(x)
        return self.fc(torch.relu(self.bn(x)).mean((2, 3)))


def squash(s):
    square = (s * s).sum(-1, keepdim=True)
    return square / (1 + square) * s / (square.sqrt() + 1e-30)


class CapsNet(nn.Module):
    """Sabour, Frosst & Hinton 2017; all predictions are one array (batch, inputs, classes, size)."""

    def __init__(self, width=256, capsules=32, capsule_size=8, class_size=16, kernel=9, decoder=(512, 1024), side=28):
        super().__init__()
        self.capsule_size, self.class_size, self.layers = capsule_size, class_size, len(decoder) + 1
        self.conv = nn.Conv2d(1, width, kernel)
        self.primary = nn.Conv2d(width, capsules * capsule_size, kernel, 2)
        places = ((side - 2 * kernel + 1) // 2 + 1) ** 2
        self.routing = nn.Parameter(0.1 * torch.randn(places * capsules, capsule_size, 10 * class_size))
        sizes = (10 * class_size, *decoder, side * side)
        for number in range(self.layers):
            self.add_module(f"decoder_{number}", nn.Linear(sizes[number], sizes[number + 1]))

    def forward(self, x, labels):
        x = self.primary(torch.relu(self.conv(x)))
        u = squash(x.permute(0, 2, 3, 1).reshape(len(x), -1, self.capsule_size))
        predictions = torch.einsum("bik,iko->bio", u, self.routing).reshape(*u.shape[:2], 10, self.class_size)
        logits = torch.zeros_like(predictions[..., 0])
        for iteration in range(3):
            weights = torch.softmax(logits, 2)
            v = squash((weights[..., None] * predictions).sum(1))
            if iteration < 2:
                logits = logits + (predictions * v[:, None]).sum(-1)
        masked = v * nn.functional.one_hot(labels, 10)[..., None].to(v.dtype)
        y = masked.reshape(len(x), -1)
        for number in range(self.layers - 1):
            y = torch.relu(getattr(self, f"decoder_{number}")(y))
        return v.norm(dim=-1), v, torch.sigmoid(getattr(self, f"decoder_{self.layers - 1}")(y))


class Autoencoder(nn.Module):
    """An encoder and a decoder of dense layers; the noise is an input."""

    def __init__(self, pixels=784, hidden=(512, 256), latent=2):
        super().__init__()
        down, up = (pixels, *hidden), (latent, *reversed(hidden), pixels)
        self.depth = len(hidden)
        for number in range(self.depth):
            self.add_module(f"encoder_{number}", nn.Linear(down[number], down[number + 1]))
        self.mean, self.log_variance = nn.Linear(hidden[-1], latent), nn.Linear(hidden[-1], latent)
        for number in range(self.depth + 1):
            self.add_module(f"decoder_{number}", nn.Linear(up[number], up[number + 1]))

    def forward(self, x, noise):
        for number in range(self.depth):
            x = torch.relu(getattr(self, f"encoder_{number}")(x))
        mean, log_variance = self.mean(x), self.log_variance(x)
        z = mean + torch.exp(log_variance / 2) * noise
        for number in range(self.depth):
            z = torch.relu(getattr(self, f"decoder_{number}")(z))
        return mean, log_variance, getattr(self, f"decoder_{self.depth}")(z)


class Lstm(nn.Module):
    """torch.nn.LSTM between an embedding and a linear layer, with dropout where Zaremba has it."""

    def __init__(self, vocabulary, width=650, layers=2, dropout=0.5):
        super().__init__()
        self.embedding = nn.Embedding(vocabulary, width)
        self.lstm = nn.LSTM(width, width, layers, dropout=dropout, batch_first=True)
        self.output = nn.Linear(width, vocabulary)
        self.dropout = nn.Dropout(dropout)

    def forward(self, tokens, memory):
        x, memory = self.lstm(self.dropout(self.embedding(tokens)), memory)
        return self.output(self.dropout(x)), memory
