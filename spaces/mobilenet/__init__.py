"""MobileNet-like spaces: inverted residuals, searched by the block or by the layer."""

from spaces.mobilenet.space import MobileNet, Proxyless

__all__ = ["MobileNet", "Proxyless"]
