import numpy as np
import pytest
import torch

from conf.errors import UsageError
from proxies.batch import PICTURES, Minibatch, gaussian, pictures
from spaces.nasbench201.space import NASBench201


def test_shipped_pictures_are_balanced():
    with np.load(PICTURES, allow_pickle=False) as file:
        images, labels = file["images"], file["labels"]
    assert images.shape == (640, 32, 32, 3)
    assert images.dtype == np.uint8
    assert np.bincount(labels).tolist() == [64] * 10
    assert (PICTURES.parent / "PROVENANCE.md").exists()


def test_pictures_are_real_normalised_and_labelled():
    batch = pictures(NASBench201("cifar10"), size=640)
    assert batch.inputs.shape == (640, 3, 32, 32)
    assert batch.inputs.dtype == torch.float32
    assert batch.stand_in is None
    assert torch.bincount(batch.targets).tolist() == [64] * 10
    assert batch.inputs.mean().abs() < 0.1
    assert batch.inputs.std() == pytest.approx(1.2, abs=0.15)
    # Neighbouring pixels of pictures are alike.
    rows = batch.inputs[..., 1:, :].flatten(), batch.inputs[..., :-1, :].flatten()
    assert torch.corrcoef(torch.stack(rows))[0, 1] > 0.9


def test_pictures_stand_in_for_other_datasets_and_say_so():
    batch = pictures(NASBench201("ImageNet16-120"), size=256)
    assert batch.inputs.shape == (256, 3, 16, 16)
    assert batch.targets.max() > 99
    assert batch.targets.max() < 120
    assert "stand in for ImageNet16-120" in batch.stand_in


@pytest.mark.parametrize("make", [gaussian, pictures])
def test_seed_and_size_decide_the_batch(make):
    space = NASBench201("cifar10")
    first, again = make(space, size=8, seed=1), make(space, size=8, seed=1)
    assert torch.equal(first.inputs, again.inputs)
    assert first.fingerprint == again.fingerprint
    assert len(first.inputs) == len(first.targets) == 8
    others = make(space, size=8, seed=2), make(space, size=9, seed=1)
    assert len({first.fingerprint, *(o.fingerprint for o in others)}) == 3


def test_fingerprint_sees_targets_type_and_shape():
    inputs = torch.zeros(2, 3)
    batches = [
        Minibatch(inputs, None, ""),
        Minibatch(inputs, torch.tensor([0, 1]), ""),
        Minibatch(inputs, torch.tensor([1, 0]), ""),
        Minibatch(inputs.double(), None, ""),
        Minibatch(inputs.reshape(3, 2), None, ""),
        Minibatch(inputs + 1e-30, None, ""),
    ]
    assert len({batch.fingerprint for batch in batches}) == len(batches)


@pytest.mark.parametrize("size", [0, 641])
def test_impossible_sizes_are_refused(size):
    with pytest.raises(UsageError, match=f"batch.size={size} .* 1 to 640"):
        pictures(NASBench201("cifar10"), size=size)
