"""What a bias in the cell convolutions does to proxies: why published values of fisher differ.

``python -m benchmarks.convolution_bias [--architectures N]`` scores random NAS-Bench-201 cells by
grad_norm, snip and fisher three times: as the benchmark trains them; with a bias, drawn as torch
draws it, in every cell convolution; and so with a minibatch of its own, cropped and flipped, for
each network. Prints Spearman correlations with CIFAR-10 test accuracy.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence

import numpy as np
import torch
from scipy.stats import spearmanr
from torch import nn

from proxies import score_model
from proxies.batch import pictures
from spaces.nasbench201 import NASBench201
from spaces.nasbench201.network import Cell, ReLUConvBN

PROXIES = ("grad_norm", "snip", "fisher")


def add_biases(network: nn.Module) -> None:
    """Give every cell convolution a bias, as in the published network of the first paper."""
    for cell in network.modules():
        for part in cell.modules() if isinstance(cell, Cell) else ():
            if isinstance(part, ReLUConvBN):
                bound = part.conv.weight[0].numel() ** -0.5
                bias = torch.empty(part.conv.out_channels).uniform_(-bound, bound)
                part.conv.bias = nn.Parameter(bias)


def main(arguments: Sequence[str] | None = None) -> None:
    """Print one line for each way."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--architectures", type=int, default=240)
    wanted = parser.parse_args(arguments).architectures
    space = NASBench201("cifar10")
    archs = space.sample(np.random.default_rng(0), wanted)
    accuracy = space.column("test_200")[space.table().rows(archs)]
    common = pictures(space)
    ways: dict[str, list[list[float]]] = {"as trained": [], "biases": [], "biases, own batch": []}
    for seed, arch in enumerate(archs):
        torch.manual_seed(seed)
        network = space.network(arch, running_stats=False)
        for way, batch in zip(
            ways, (common, common, pictures(space, seed=seed, augment=True)), strict=True
        ):
            if way == "biases":
                add_biases(network)
            scores = score_model(network, batch.inputs, batch.targets, PROXIES)
            ways[way].append([scores[name] for name in PROXIES])
    for way, rows in ways.items():
        found = [spearmanr(column, accuracy).statistic for column in np.array(rows).T]
        figures = ", ".join(f"{n} {rho:.2f}" for n, rho in zip(PROXIES, found, strict=True))
        print(f"{way:<18} {figures}")


if __name__ == "__main__":
    main()
