"""Experiments as frozen dataclasses: read from YAML, changed by dotted overrides, checked, written back.

A value is converted from its text by the type the field declares, not by YAML's own guess: `1e-3` is a number, `off`
is a word where a word is wanted, and 'False' is False. An unknown key or a bad value names the file and the line.
"""

from tfllv.config.experiments import (
    EXPERIMENTS,
    DiffusionConfig,
    LossWeights,
    MultitaskConfig,
    MultitaskWeights,
    PairedConfig,
    PairedWeights,
    TrainConfig,
    ZeroReferenceConfig,
)
from tfllv.config.files import from_yaml, load

__all__ = [
    "EXPERIMENTS",
    "DiffusionConfig",
    "LossWeights",
    "MultitaskConfig",
    "MultitaskWeights",
    "PairedConfig",
    "PairedWeights",
    "TrainConfig",
    "ZeroReferenceConfig",
    "from_yaml",
    "load",
]
