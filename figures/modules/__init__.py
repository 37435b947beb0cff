"""Figures of modules of torch as `sigprop.modules.probe` sees them. Need the extra ``torch``."""

from figures.modules.resnet_schemes import ResNetSchemes

__all__ = ["ResNetSchemes"]
