from __future__ import annotations

import keras
import numpy as np
import pytest
import tensorflow as tf

from tfllv.losses import segmentation
from tfllv.losses import supervised as losses
from tfllv.objectives import multitask


@pytest.fixture
def batch(rng):
    high = rng.uniform(0, 1, (2, 8, 8, 3)).astype(np.float32)
    mask = rng.integers(0, 3, (2, 8, 8)).astype(np.int32)
    mask[0, :2] = 255
    return {"low": tf.constant(high * 0.2), "high": tf.constant(high), "mask": tf.constant(mask)}


def network(*keys):
    def run(low, training=False):
        outputs = {"image": low * 3, "logits": low * [5.0, -1.0, 2.0]}
        return {key: outputs[key] for key in keys or outputs}

    return run


def test_terms_are_the_weighted_losses(batch):
    objective = multitask.Multitask(
        enhancement={"charbonnier": 2.0, "mse": 1.0}, segmentation=0.5, class_weights=[1, 2, 3]
    )
    terms, outputs = objective(network(), batch)
    expected = {
        "charbonnier": 2 * losses.charbonnier(outputs["image"], batch["high"]),
        "mse": losses.mse(outputs["image"], batch["high"]),
        "segmentation": 0.5 * segmentation.cross_entropy(outputs["logits"], batch["mask"], class_weights=[1, 2, 3]),
    }
    assert list(terms) == list(expected)
    for name, value in expected.items():
        assert float(terms[name]) == pytest.approx(float(value), rel=1e-6)
    assert not objective.variables


def test_a_network_of_one_task_is_trained_on_it_alone(batch):
    objective = multitask.Multitask()
    assert list(objective(network("image"), batch)[0]) == ["charbonnier"]
    assert list(objective(network("logits"), batch)[0]) == ["segmentation"]
    # What the other task alone needs may then be missing.
    assert objective(network("logits"), {"low": batch["low"], "mask": batch["mask"]})[0]
    with pytest.raises(ValueError, match="`batch` must have the key 'mask'"):
        objective(network(), {"low": batch["low"], "high": batch["high"]})


def test_learned_weights_follow_the_uncertainty_of_each_task(batch):
    plain = {name: float(term) for name, term in multitask.Multitask()(network(), batch)[0].items()}
    objective = multitask.Multitask(weighting="uncertainty")
    assert len(objective.trainable_variables) == len(objective.variables) == 2
    objective.log_variances["image"].assign(0.7)
    objective.log_variances["logits"].assign(-0.4)
    terms = {name: float(term) for name, term in objective(network(), batch)[0].items()}
    assert terms["charbonnier"] == pytest.approx(0.5 * np.exp(-0.7) * plain["charbonnier"], rel=1e-5)
    assert terms["segmentation"] == pytest.approx(np.exp(0.4) * plain["segmentation"], rel=1e-5)
    assert terms["uncertainty"] == pytest.approx(0.5 * (0.7 - 0.4), rel=1e-5)


def test_learned_weights_settle_where_the_paper_says(batch):
    objective = multitask.Multitask(weighting="uncertainty")
    plain = {name: float(term) for name, term in multitask.Multitask()(network(), batch)[0].items()}
    optimizer = keras.optimizers.SGD(0.3)
    for _ in range(400):
        with tf.GradientTape() as tape:
            total = sum(objective(network(), batch)[0].values())
        values = [variable.value for variable in objective.variables]
        optimizer.apply_gradients(zip(tape.gradient(total, values), objective.variables, strict=True))
    # Where the derivative is 0: sigma^2 is the loss of the picture, and twice that of the classes.
    assert float(objective.log_variances["image"]) == pytest.approx(np.log(plain["charbonnier"]), abs=1e-3)
    assert float(objective.log_variances["logits"]) == pytest.approx(np.log(2 * plain["segmentation"]), abs=1e-3)


def test_learned_weights_need_both_tasks(batch):
    with pytest.raises(ValueError, match="needs a network of both tasks"):
        multitask.Multitask(weighting="uncertainty")(network("image"), batch)


def test_measures_compare_result_and_input_with_the_truth(batch):
    objective = multitask.Multitask()
    found = objective.measures(batch, network()(batch["low"]))
    assert set(found) == {"psnr", "dark_psnr"}
    assert float(found["psnr"]) > float(found["dark_psnr"]) + 3
    assert objective.measures(batch, network("logits")(batch["low"])) == {}


def test_pictures_show_both_tasks(batch):
    objective = multitask.Multitask()
    shown = objective.pictures(batch, network()(batch["low"]))
    assert {name: picture.shape for name, picture in shown.items()} == {
        "enhancement": (2, 8, 24, 3),
        "classes": (2, 8, 24, 3),
    }
    assert list(objective.pictures(batch, network("image")(batch["low"]))) == ["enhancement"]
    true, predicted, number = objective.classes(batch, network()(batch["low"]))
    assert true.shape == predicted.shape == (2, 8, 8) and number == 3


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"segmentation": 0.0}, "`segmentation` must be finite and > 0"),
        ({"weighting": "learned"}, "`weighting` must be one of fixed, uncertainty"),
        ({"enhancement": {"charbonier": 1.0}}, "did you mean 'charbonnier'"),
    ],
)
def test_wrong_options_are_named(options, words):
    with pytest.raises(ValueError, match=words):
        multitask.Multitask(**options)
