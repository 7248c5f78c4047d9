from __future__ import annotations

import numpy as np
import pytest

from tfllv import models
from tfllv.diffusion import schedules
from tfllv.models import torch_import

# float32: the outputs are of the order of 1, and sums run in another order than in PyTorch.
TOLERANCE = 1e-4


@pytest.fixture(scope="module")
def golden(goldens):
    """State dict, input and output of the authors' network of inner width 8."""
    with np.load(goldens / "diffusion_unet8_io.npz") as file:
        return {key: file[key] for key in file.files}


@pytest.fixture(scope="module")
def network():
    return models.build("diffusion_unet", n_feat=8)


def state_of(golden):
    return {key.removeprefix("sd/"): value for key, value in golden.items() if key.startswith("sd/")}


def test_the_network_gives_what_the_authors_give_from_their_file(tmp_path, torch_writer, golden, network):
    file = torch_writer.write_state(tmp_path / "a.pth", state_of(golden))
    torch_import.import_weights("diffusion_unet", file, network)
    x, y = (np.moveaxis(golden[key], 1, -1) for key in ("x", "y"))
    result = np.asarray(network.estimate(x[..., :3], x[..., 3:], golden["t"]))
    assert result.shape == y.shape
    assert np.abs(result - y).max() <= TOLERANCE
    assert np.abs(y).max() > 1


def test_the_published_network_has_14_715_681_parameters_and_the_small_one_less_than_a_million():
    network = models.build("diffusion_unet")
    assert network.count_params() == 14_715_681
    assert models.build("diffusion_unet_small").count_params() <= 1_000_000


@pytest.mark.parametrize(("name", "channels"), [("diffusion_unet", 3), ("diffusion_unet_small", 6)])
@pytest.mark.parametrize("size", [(1, 1), (16, 24), (13, 25)])
def test_estimates_have_the_picture_s_size_divisible_or_not(name, channels, size, rng, network):
    net = network if name == "diffusion_unet" else models.build(name, n_feat=8)
    low = rng.random((2, *size, 3), dtype=np.float32)
    condition = net.condition(low, net.level(low))
    assert condition.shape == (2, *size, channels)
    estimate = np.asarray(net.estimate(rng.standard_normal(low.shape, np.float32), condition, np.array([3, 900])))
    assert estimate.shape == low.shape and np.isfinite(estimate).all()


def test_the_estimate_depends_on_time_condition_and_noise(rng, network):
    low = rng.random((1, 16, 16, 3), dtype=np.float32)
    noisy = rng.standard_normal(low.shape, np.float32)
    given = {"noisy": noisy, "condition": 2 * low - 1, "time": np.array([400])}
    first = np.asarray(network.estimate(**given))
    for change in ({"noisy": noisy + 1}, {"condition": 1 - 2 * low}, {"time": np.array([401])}):
        assert np.abs(np.asarray(network.estimate(**{**given, **change})) - first).max() > 1e-4


def test_signal_and_picture_are_inverse(rng, network):
    high, low = rng.random((2, 1, 8, 8, 3), dtype=np.float32)
    np.testing.assert_allclose(network.signal(high, network.base(low, network.level(low))), 2 * high - 1, atol=1e-6)
    small = models.build("diffusion_unet_small", n_feat=4)
    base = small.base(low, small.level(low))
    np.testing.assert_allclose(small.picture(small.signal(high, base), base), high, atol=1e-6)


def test_the_guess_of_a_part_is_that_of_the_whole(rng):
    small = models.build("diffusion_unet_small", n_feat=4)
    low = rng.random((1, 16, 16, 3), dtype=np.float32) ** 2 * 0.3
    whole = np.asarray(small.base(low, small.level(low)))
    assert abs(whole.mean() - 0.45) < 0.1
    np.testing.assert_array_equal(np.asarray(small.base(low[:, :8, :8], small.level(low))), whole[:, :8, :8])


@pytest.mark.parametrize("prediction", ["v", "x0"])
def test_a_picture_alone_is_the_first_estimate_of_a_sampler(rng, prediction):
    small = models.build("diffusion_unet_small", n_feat=4, prediction=prediction)
    low = rng.random((1, 8, 8, 3), dtype=np.float32)
    level = small.level(low)
    estimate = np.asarray(small.estimate(np.zeros_like(low), small.condition(low, level), np.array([999])))
    factor = -schedules.make("linear").sigma[-1] if prediction == "v" else 1.0
    expected = np.asarray(small.base(low, level)) + small.spread * factor * estimate
    np.testing.assert_allclose(small(low)["image"], expected, atol=1e-5)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"n_feat": 7}, "`n_feat` must be even"),
        ({"depth": 1}, "`depth` must be a whole number >= 2"),
        ({"prediction": "eps"}, "did you mean 'epsilon'|known: "),
        ({"schedule": "cosin"}, "did you mean 'cosine'"),
    ],
)
def test_a_wrong_option_is_one_clear_error(options, message):
    with pytest.raises(ValueError, match=message):
        models.build("diffusion_unet", **options)
