from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from tfllv.train.optimizer import Adam, Schedule

SHAPES = ((3, 2), (4,))


def _weights(rng):
    return [rng.normal(size=shape).astype(np.float32) for shape in SHAPES]


def _reference(weights, steps, *, lr, decay=0.0, decoupled=False, clip=0.0, beta_1=0.9, beta_2=0.999, eps=1e-8):
    """Adam by the formulas of torch.optim.Adam and AdamW, in float64, after torch's clip_grad_norm_."""
    weights = [weight.astype(np.float64) for weight in weights]
    mean, square = [np.zeros_like(w) for w in weights], [np.zeros_like(w) for w in weights]
    for t, gradients in enumerate(steps, 1):
        norm = np.sqrt(sum((g.astype(np.float64) ** 2).sum() for g in gradients))
        factor = min(1.0, clip / (norm + 1e-6)) if clip else 1.0
        for i, gradient in enumerate(gradients):
            g = gradient * factor
            if decoupled:
                weights[i] = weights[i] * (1 - lr * decay)
            else:
                g = g + decay * weights[i]
            mean[i] = beta_1 * mean[i] + (1 - beta_1) * g
            square[i] = beta_2 * square[i] + (1 - beta_2) * g * g
            root = np.sqrt(square[i]) / np.sqrt(1 - beta_2**t) + eps
            weights[i] = weights[i] - lr / (1 - beta_1**t) * mean[i] / root
    return weights


def _apply(optimizer, gradients, allowed=True):
    return optimizer.apply([tf.constant(g) for g in gradients], tf.constant(allowed))


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"decay": 0.1},
        {"decay": 0.1, "decoupled": True},
        {"clip": 0.1, "decay": 1e-3},
        {"clip": 1e6},
    ],
)
def test_steps_follow_torch_adam(rng, options):
    start = _weights(rng)
    steps = [_weights(rng) for _ in range(10)]
    variables = [tf.Variable(value) for value in start]
    names = {"decay": "weight_decay", "clip": "clip_norm", "decoupled": "decoupled"}
    optimizer = Adam(variables, Schedule(0.01), **{names[key]: value for key, value in options.items()})
    for gradients in steps:
        norm, finite = _apply(optimizer, gradients)
        assert finite
        np.testing.assert_allclose(norm, np.sqrt(sum((g**2).sum() for g in gradients)), rtol=1e-6)
    for variable, expected in zip(variables, _reference(start, steps, lr=0.01, **options), strict=True):
        np.testing.assert_allclose(variable, expected, rtol=1e-5, atol=1e-6)
    assert optimizer.updates.numpy() == 10


def test_tiny_gradients_take_full_steps_as_in_torch(rng):
    # Shows the place of epsilon: with gradients near it, Keras's and TensorFlow's own Adam differ from torch's.
    start = _weights(rng)
    steps = [[g * 1e-8 for g in _weights(rng)] for _ in range(3)]
    variables = [tf.Variable(value) for value in start]
    optimizer = Adam(variables, Schedule(0.1))
    for gradients in steps:
        _apply(optimizer, gradients)
    for variable, expected in zip(variables, _reference(start, steps, lr=0.1), strict=True):
        np.testing.assert_allclose(variable, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
@pytest.mark.parametrize("scaling", [False, True])
def test_a_step_that_is_not_finite_changes_no_bit_but_the_scale(rng, bad, scaling):
    variables = [tf.Variable(value) for value in _weights(rng)]
    optimizer = Adam(
        variables, Schedule(0.01), weight_decay=0.1, clip_norm=0.1, ema_decay=0.9, loss_scaling=scaling, decoupled=True
    )
    _apply(optimizer, _weights(rng))
    before = [value.numpy() for value in [*variables, *optimizer.variables]]
    gradients = _weights(rng)
    gradients[1][2] = bad
    _, finite = _apply(optimizer, gradients)
    assert not finite
    after = [value.numpy() for value in [*variables, *optimizer.variables]]
    scale = len(variables) + 1
    assert after[scale] == before[scale] * (0.5 if scaling else 1)
    for i, (one, other) in enumerate(zip(before, after, strict=True)):
        if not (scaling and i in (scale, scale + 1)):
            np.testing.assert_array_equal(one, other)


def test_a_step_that_is_not_allowed_changes_no_bit(rng):
    variables = [tf.Variable(value) for value in _weights(rng)]
    optimizer = Adam(variables, Schedule(0.01), weight_decay=0.1, ema_decay=0.9, loss_scaling=True)
    before = [value.numpy() for value in [*variables, *optimizer.variables]]
    _apply(optimizer, _weights(rng), allowed=False)
    for one, other in zip(before, [*variables, *optimizer.variables], strict=True):
        np.testing.assert_array_equal(one, other)


def test_the_loss_scale_cancels_and_grows_after_good_steps(rng, monkeypatch):
    monkeypatch.setattr("tfllv.train.optimizer._SCALE_GROWS_AFTER", 3)
    start, steps = _weights(rng), [_weights(rng) for _ in range(4)]
    variables = [tf.Variable(value) for value in start]
    optimizer = Adam(variables, Schedule(0.01), clip_norm=0.5, loss_scaling=True)
    for gradients in steps:
        _apply(optimizer, [g * optimizer.scale.numpy() for g in gradients])
    for variable, expected in zip(variables, _reference(start, steps, lr=0.01, clip=0.5), strict=True):
        np.testing.assert_allclose(variable, expected, rtol=1e-5, atol=1e-6)
    assert optimizer.scale.numpy() == 2.0**16


def test_the_moving_average_is_warmed_up():
    weight = tf.Variable([1.0])
    optimizer = Adam([weight], Schedule(0.1), ema_decay=0.5)
    average = 1.0
    for t in range(1, 20):
        _apply(optimizer, [np.float32([1.0])])
        decay = min(0.5, t / (9 + t))
        average = decay * average + (1 - decay) * weight.numpy()[0]
    np.testing.assert_allclose(optimizer.averages[0], [average], rtol=1e-5)


@pytest.mark.parametrize(
    ("schedule", "update", "rate"),
    [
        (Schedule(0.1), 12345, 0.1),
        (Schedule(0.1, warmup_steps=10), 0, 0.01),
        (Schedule(0.1, warmup_steps=10), 9, 0.1),
        (Schedule(0.1, "cosine", 100), 0, 0.1),
        (Schedule(0.1, "cosine", 100), 50, 0.05),
        (Schedule(0.1, "cosine", 100, lr_end=0.02), 100, 0.02),
        (Schedule(0.1, "cosine", 100, lr_end=0.02), 300, 0.02),
        (Schedule(0.1, "cosine", 110, 10), 60, 0.05),
        (Schedule(0.1, "cosine", 110, 10), 4, 0.05),
    ],
)
def test_the_schedule(schedule, update, rate):
    np.testing.assert_allclose(schedule(tf.constant(update, tf.int64)), rate, rtol=1e-5)
