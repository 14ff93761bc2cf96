"""Small spaces with small networks, in a module so that spawned workers can import them."""

import os
from pathlib import Path

from spaces.base import Decision, SearchSpace

OPERATIONS = ("none", "skip", "conv1x1", "conv3x3")


class TinySpace(SearchSpace):
    """Three operations in a row on ``width`` channels; skips move to the back, none clears all."""

    name = "tiny"
    dataset = "cifar10"

    def __init__(self, classes: int = 10, width: int = 4, length: int = 3) -> None:
        self.decisions = tuple(Decision(f"op{i}", OPERATIONS) for i in range(length))
        self.classes, self.image_size, self.width = classes, 8, width

    def canonical(self, arch):
        if 0 in arch:
            return (0,) * len(arch)
        kept = [a for a in arch if a != 1]
        return tuple(kept + [1] * (len(arch) - len(kept)))

    def network(self, arch, classes=None, *, running_stats=True):
        from torch import nn

        class Zero(nn.Module):
            def forward(self, features):
                return features * 0

        layers = [nn.Conv2d(3, self.width, 3, padding=1)]
        for choice in arch:
            if OPERATIONS[choice] == "none":
                layers.append(Zero())
            elif OPERATIONS[choice] != "skip":
                kernel = 3 if OPERATIONS[choice] == "conv3x3" else 1
                layers += [
                    nn.ReLU(),
                    nn.Conv2d(self.width, self.width, kernel, padding=kernel // 2, bias=False),
                    nn.BatchNorm2d(self.width, track_running_stats=running_stats),
                ]
        pool = (nn.AdaptiveAvgPool2d(1), nn.Flatten())
        return nn.Sequential(*layers, *pool, nn.Linear(self.width, classes or self.classes))


class FragileSpace(TinySpace):
    """Kills the process that builds ``victim``: once, if a marker file is given, else always."""

    name = "fragile"

    def __init__(self, victim, marker: Path | None = None, length: int = 3) -> None:
        super().__init__(length=length)
        self.victim, self.marker, self.home = victim, marker, os.getpid()

    def network(self, arch, **settings):
        if arch == self.victim and os.getpid() != self.home:
            if self.marker is None:
                os._exit(9)
            if not self.marker.exists():
                self.marker.touch()
                os._exit(9)
        return super().network(arch, **settings)


class BrokenSpace(TinySpace):
    """Networks whose first operation is conv3x3 cannot run; those with conv1x1 cannot be built."""

    name = "broken"

    def canonical(self, arch):
        return arch

    def network(self, arch, **settings):
        from torch import nn

        network = super().network(arch, **settings)
        if arch[0] == 2:
            raise RuntimeError("no such network")
        if arch[0] == 3:
            return nn.Sequential(nn.Conv2d(5, 5, 3), network)
        return network


class SlowSpace(TinySpace):
    """Takes a while to build each network."""

    name = "slow"

    def network(self, arch, **settings):
        import time

        time.sleep(0.01)
        return super().network(arch, **settings)
