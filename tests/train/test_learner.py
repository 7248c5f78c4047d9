from __future__ import annotations

import keras
import numpy as np
import pytest

from tfllv.train.learner import Learner


def _batch(rng):
    return {"low": rng.random((2, 16, 16, 3), dtype=np.float32)}


def test_terms_are_float32_scalars_by_name(toy, rng):
    terms, outputs = Learner(toy.Net(dtype="mixed_bfloat16"), toy.objective).terms(_batch(rng))
    assert list(terms) == ["level", "shape"]
    assert all(keras.backend.standardize_dtype(term.dtype) == "float32" and term.shape == () for term in terms.values())
    assert outputs["image"].shape == (2, 16, 16, 3)


def test_keras_fit_trains_it_too(toy, rng):
    learner = Learner(toy.Net(), toy.objective)
    learner.compile(optimizer=keras.optimizers.Adam(0.05))
    batch = _batch(rng)
    history = learner.fit(batch, batch_size=2, epochs=20, verbose=0)
    assert history.history["loss"][-1] < history.history["loss"][0] / 2


def test_an_objective_without_terms_is_an_error(toy, rng):
    with pytest.raises(ValueError, match="`objective` must give at least one loss term"):
        Learner(toy.Net(), lambda net, batch, training=True: ({}, {})).terms(_batch(rng))
