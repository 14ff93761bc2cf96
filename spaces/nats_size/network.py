"""The network that NATS-Bench's size space trains: three cells and two reductions."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from spaces.nasbench201.network import Reduction, ReLUConvBN


class Network(nn.Module):
    """Stem, three copies of one cell with a reduction before the second and third, and head.

    Maps float images [n, 3, size, size] to logits [n, classes]. ``channels`` are those that leave
    each of the five blocks; the stem has as many as the first. Reductions are NAS-Bench-201's.
    Weights are drawn as torch draws them by default.

    Numbered deviations: (1) no ReLU works in place.
    """

    def __init__(
        self, channels: Sequence[int], classes: int, *, running_stats: bool = True
    ) -> None:
        super().__init__()
        first, second, third, fourth, last = channels
        self.stem = nn.Sequential(
            nn.Conv2d(3, first, 3, padding=1, bias=False), _batch_norm(first, running_stats)
        )
        self.body = nn.Sequential(
            Cell(first, first, running_stats),
            Reduction(first, second, running_stats),
            Cell(second, third, running_stats),
            Reduction(third, fourth, running_stats),
            Cell(fourth, last, running_stats),
        )
        self.head = nn.Sequential(
            _batch_norm(last, running_stats),
            nn.ReLU(),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.Linear(last, classes),
        )

    def forward(self, images: Tensor) -> Tensor:
        """Return the logits [n, classes] of ``images`` [n, 3, size, size]."""
        logits: Tensor = self.head(self.body(self.stem(images)))
        return logits

    def blocks(self) -> list[nn.Module]:
        """List cells and reductions in order, for proxies that look between them."""
        return list(self.body)


class Cell(nn.Module):
    """NAS-Bench-201's best cell on CIFAR-100: maps [n, incoming, h, w] to [n, channels, h, w].

    Five 3x3 convolutions on the edges 1<-0, 2<-0, 2<-1, 3<-1, 3<-2, and a skip on 3<-0. Where the
    number of channels changes it is a 1x1 convolution and BatchNorm, without the ReLU that other
    edges begin with, as in NATS-Bench's code.
    """

    def __init__(self, incoming: int, channels: int, running_stats: bool = True) -> None:
        super().__init__()

        def edge(source: int) -> ReLUConvBN:
            return ReLUConvBN(source, channels, 3, running_stats)

        self.to_1 = edge(incoming)
        self.to_2 = edge(incoming)
        self.from_1_to_2 = edge(channels)
        self.skip: nn.Module = nn.Identity()
        if incoming != channels:
            self.skip = nn.Sequential(
                nn.Conv2d(incoming, channels, 1, bias=False), _batch_norm(channels, running_stats)
            )
        self.from_1 = edge(channels)
        self.from_2 = edge(channels)

    def forward(self, features: Tensor) -> Tensor:
        """Sum what the edges bring to the last node."""
        one = self.to_1(features)
        two = self.to_2(features) + self.from_1_to_2(one)
        output: Tensor = self.skip(features) + self.from_1(one) + self.from_2(two)
        return output


def _batch_norm(channels: int, running_stats: bool) -> nn.BatchNorm2d:
    return nn.BatchNorm2d(channels, track_running_stats=running_stats)
