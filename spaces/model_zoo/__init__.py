"""Networks designed by hand, with their published errors, from the package pytorchcv."""

from spaces.model_zoo.space import ModelZoo

__all__ = ["ModelZoo"]
