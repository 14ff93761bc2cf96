"""Forward derivatives against the gradient differentiated once more."""

import pytest
import torch
from torch import nn
from torch.nn import functional

from proxies.batch import Minibatch
from proxies.passes import loss
from proxies.passes.run import Run
from proxies.passes.second_order import NoRuleError
from proxies.passes.tape import Tape
from proxies.stack import Single


class Residual(nn.Module):
    """Adds in place what comes around a block, as torchvision's networks do."""

    def __init__(self, block):
        super().__init__()
        self.block = block

    def forward(self, images):
        out = self.block(images)
        out += images
        return torch.relu_(out)


class Dense(nn.Module):
    """Concatenates a fixed tensor, the input and two branches of one shared layer."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Conv2d(4, 4, 3, padding=1, bias=False)

    def forward(self, images):
        once = self.layer(images)
        twice = self.layer(functional.relu(once))
        return torch.cat([torch.ones_like(once), images, once - twice, -twice / 3], 1)


class Written(nn.Module):
    """Writes on a convolution's result, which its rule then must not read."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Conv2d(4, 4, 1, bias=False)

    def forward(self, images):
        out = self.layer(images)
        out += 1
        out *= 1
        return out


class Viewed(nn.Module):
    """Writes on a tensor of which it keeps a view."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(4, 4)

    def forward(self, images):
        out = self.layer(images)
        view = out.view(-1)
        out += images
        return view.view(out.shape)


def conv(*args, **kwargs):
    return nn.Conv2d(*args, padding=1, **kwargs)


def norm(channels):
    """BatchNorm that scales, shifts, and has an eps that matters."""
    layer = nn.BatchNorm2d(channels, eps=0.3)
    nn.init.normal_(layer.weight)
    nn.init.normal_(layer.bias)
    return layer


def head(channels):
    return [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, 5)]


KNOWN = {
    "plain": lambda: [conv(3, 4, 3), nn.ReLU(), *head(4)],
    "batch norm": lambda: [conv(3, 4, 3), norm(4), nn.ReLU(), conv(4, 4, 3), norm(4), *head(4)],
    "plain norm": lambda: [conv(3, 4, 3), nn.BatchNorm2d(4, affine=False), nn.ReLU(), *head(4)],
    "residual": lambda: [conv(3, 4, 3), Residual(nn.Sequential(conv(4, 4, 3), norm(4))), *head(4)],
    "dense": lambda: [conv(3, 4, 3), Dense(), norm(16), nn.ReLU(), conv(16, 4, 3), *head(4)],
    "grouped": lambda: [conv(3, 6, 3), nn.ReLU6(), conv(6, 6, 3, groups=3, stride=2), *head(6)],
    "pools": lambda: [
        conv(3, 4, 3),
        norm(4),
        nn.MaxPool2d(3, 2, 1),
        conv(4, 4, 3, dilation=2),
        nn.AvgPool2d(3, 1, 1, count_include_pad=False),
        *head(4),
    ],
    "transposed": lambda: [conv(3, 4, 3), nn.ReLU(), nn.ConvTranspose2d(4, 3, 2, 2), *head(3)],
    "linear": lambda: [
        nn.Flatten(),
        nn.Linear(192, 6),
        nn.BatchNorm1d(6),
        nn.Hardtanh(-0.5, 0.5),
        nn.Linear(6, 5, bias=False),
    ],
}
UNKNOWN = {
    "smooth": lambda: [conv(3, 4, 3), nn.GELU(), *head(4)],
    "group norm": lambda: [conv(3, 4, 3), nn.GroupNorm(2, 4), nn.ReLU(), *head(4)],
    "written": lambda: [conv(3, 4, 3), Written(), *head(4)],
    "viewed": lambda: [*[conv(3, 4, 3), nn.ReLU(), *head(4)][:-1], Viewed(), nn.Linear(4, 5)],
}


def run(build, memory_format=torch.contiguous_format):
    torch.manual_seed(0)
    network = nn.Sequential(*build()).double()
    images, targets = torch.randn(6, 3, 8, 8, dtype=torch.float64), torch.arange(6) % 5
    stack = Single(network, memory_format=memory_format)
    return Run(stack, Minibatch(images, targets, "noise"), {"gradients", "curvature"})


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("name", KNOWN)
def test_forward_derivatives_equal_backward_ones(name, memory_format):
    found = loss._forwards(run(KNOWN[name], memory_format)).values
    expected = loss._backwards(run(KNOWN[name])).values
    assert float(expected.abs()) > 1e-6
    assert torch.allclose(found, expected, rtol=1e-9, atol=0)


@pytest.mark.parametrize("name", UNKNOWN)
def test_what_has_no_rule_is_differentiated_backwards(name):
    with pytest.raises(NoRuleError):
        loss._forwards(run(UNKNOWN[name]))
    found = run(UNKNOWN[name]).record("curvature").values
    assert torch.equal(found, loss._backwards(run(UNKNOWN[name])).values)


def test_a_run_that_did_not_expect_the_curvature_has_it_all_the_same():
    expected = run(KNOWN["residual"])
    unasked = Run(expected.stack, expected.batch)
    assert torch.allclose(
        unasked.record("curvature").values, expected.record("curvature").values, rtol=1e-9
    )


@pytest.mark.parametrize(("adjoints", "each"), [(True, 4), (False, 5)])
def test_convolutions_that_it_takes(monkeypatch, adjoints, each):
    layers = [conv(3, 4, 3, bias=False), norm(4), nn.ReLU()]
    for _ in range(3):
        layers += [conv(4, 4, 3, bias=False), norm(4), nn.ReLU()]
    if not adjoints:
        monkeypatch.setattr(loss, "bending", lambda _: [])
    wanted = run(lambda: [*layers, *head(4)])
    wanted.record("loss")
    with Tape() as tape:
        found = wanted.record("curvature").values
    convolutions = [o for o in tape.operations if o.operator is torch.ops.aten.convolution]
    assert len(convolutions) == 1 + 3 * each
    assert torch.allclose(found, loss._backwards(wanted).values, rtol=1e-9, atol=0)
