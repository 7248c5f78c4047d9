from __future__ import annotations

import numpy as np
import pytest

from tfllv import config as configs
from tfllv.config import ZeroReferenceConfig
from tfllv.train import experiments


def test_every_configuration_class_has_an_experiment():
    assert experiments.EXPERIMENTS.keys() == configs.EXPERIMENTS.keys()


@pytest.mark.parametrize(
    ("fields", "parameters"),
    [
        ({}, 10561),
        ({"conv_type": "tc", "scale_factor": 2}, 67299),
        ({"model": "zero_dce"}, 79416),
        ({"model": "zero_dce_pp"}, 10561),
    ],
)
def test_zero_reference_learners(fields, parameters, rng):
    config = ZeroReferenceConfig(**fields)
    learner = experiments.EXPERIMENTS["zero_reference"].learner(config)
    assert learner.net.count_params() == parameters
    if config.model != "zero_dce":
        assert learner.net.scale_factor == config.scale_factor
    terms, outputs = learner.terms({"low": rng.random((1, 32, 32, 3), dtype=np.float32)})
    assert list(terms) == ["tv", "spa", "col", "exp"]
    assert outputs["image"].shape == (1, 32, 32, 3)


def test_the_config_reaches_the_objective(rng):
    low = {"low": rng.random((1, 32, 32, 3), dtype=np.float32) * 0.2}
    weights = configs.LossWeights(tv=0, spa=0, col=0, exp=1)
    build = experiments.EXPERIMENTS["zero_reference"].learner
    dark = build(ZeroReferenceConfig(weights=weights, exp_level=0.1)).terms(low)[0]
    bright = build(ZeroReferenceConfig(weights=weights, exp_level=0.9)).terms(low)[0]
    assert list(dark) == ["exp"] and float(dark["exp"]) < float(bright["exp"])


def test_seed_and_precision_reach_the_network():
    def weights(**fields):
        return experiments.EXPERIMENTS["zero_reference"].learner(ZeroReferenceConfig(**fields)).net.get_weights()

    assert all((a == b).all() for a, b in zip(weights(), weights(), strict=True))
    assert any((a != b).any() for a, b in zip(weights(), weights(seed=1), strict=True))
    learner = experiments.EXPERIMENTS["zero_reference"].learner(ZeroReferenceConfig(precision="bfloat16"))
    assert {variable.dtype for variable in learner.net.trainable_variables} == {"float32"}
    assert learner.net.convolutions[1].compute_dtype == "bfloat16"
