from __future__ import annotations

import numpy as np
import pytest

from tfllv import enhancers, models
from tfllv.runner import diffusion, files

TINY = {"n_feat": 4, "depth": 2}


@pytest.fixture(scope="module")
def network():
    """Random weights, with an output large enough to be seen."""
    net = models.build("diffusion_unet_small", **TINY)
    net.out.kernel.assign(np.random.default_rng(5).normal(0, 0.5, net.out.kernel.shape))
    return net


@pytest.fixture(scope="module")
def make(network):
    """Makes enhancers that share the network and its graph."""
    first = diffusion.DiffusionEnhancer("diffusion", network, steps=3, tile=16, overlap=8)

    def make(**options):
        settings = {"steps": 3, "tile": 16, "overlap": 8, "temperature": 1.0, **options}
        made = diffusion.DiffusionEnhancer("diffusion", network, **settings)
        made._estimate = first._estimate
        return made

    return make


def dark(rng, height, width):
    return (rng.random((height, width, 3), dtype=np.float32) ** 2 * 0.3).astype(np.float32)


@pytest.mark.parametrize(
    ("length", "tile", "overlap"), [(1, 64, 16), (64, 64, 16), (65, 64, 16), (500, 64, 16), (97, 16, 0)]
)
def test_tiles_cover_an_axis_with_at_least_the_overlap(length, tile, overlap):
    places = diffusion.tile_places(length, tile, overlap)
    assert places[0] == 0 and places[-1] == max(0, length - tile)
    gaps = np.diff(places)
    assert (gaps > 0).all() and (gaps <= tile - overlap).all()


def test_blend_weights_fall_to_the_border_and_are_one_inside():
    weights = diffusion.blend_weights(64, 16)
    assert (weights[16:48] == 1).all() and weights[0] < 0.01
    assert (np.diff(weights[:17]) >= 0).all()
    np.testing.assert_allclose(weights, weights[::-1], atol=1e-7)


def test_tiles_of_one_estimate_give_it_back(rng):
    whole = rng.standard_normal((50, 70, 3)).astype(np.float32)
    estimate = diffusion.TiledEstimate(lambda noisy, beside, time: 2 * noisy + beside, whole, tile=16, overlap=6)
    np.testing.assert_allclose(estimate(whole, 0), 3 * whole, atol=1e-5)


def test_no_gradient_stands_out_at_the_tiles_borders(rng):
    # Tiles that disagree wholly, by a constant of their own: what a seam is made of.
    height = width = 128
    constants = iter(np.random.default_rng(2).normal(0, 1, 1000))

    def disagree(noisy, beside, time):
        return np.stack([np.full(tile.shape, next(constants), np.float32) for tile in noisy])

    def steepest(overlap):
        estimate = diffusion.TiledEstimate(disagree, np.zeros((height, width, 3), np.float32), tile=32, overlap=overlap)
        result = estimate(np.zeros((height, width, 3), np.float32), 0)
        return max(np.abs(np.diff(result, axis=axis)).max() for axis in (0, 1)), np.ptp(result)

    sharp, span = steepest(0)
    blended, span_blended = steepest(16)
    assert sharp > 0.3 * span  # without overlap a border is a step
    assert blended < 0.15 * span_blended  # with it, the disagreement is spread over the overlap


def test_a_large_picture_is_as_smooth_at_tile_borders_as_elsewhere(make, rng):
    # A smooth picture through the network: the mean gradient in the columns of borders against all others.
    y, x = np.mgrid[0:64, 0:80].astype(np.float32)
    image = np.stack([0.1 + 0.05 * np.sin(x / 17 + k) + 0.04 * np.cos(y / 23) for k in range(3)], axis=-1)
    result = make(steps=2, seed=4)(image)
    gradient = np.abs(np.diff(result, axis=1)).mean(axis=(0, 2))
    places = diffusion.tile_places(80, 16, 8)
    borders = sorted({edge - 1 for place in places for edge in (place, place + 16) if 0 < edge < 80})
    others = np.delete(gradient, borders)
    assert gradient[borders].mean() < 1.1 * others.mean()


def test_same_seed_same_picture_and_another_seed_another(make, rng):
    image = dark(rng, 20, 30)
    first = make(seed=3)(image)
    np.testing.assert_array_equal(first, make(seed=3)(image))
    assert np.abs(first - make(seed=4)(image)).max() > 1e-3


def test_without_temperature_the_seed_does_not_matter(make, rng):
    image = dark(rng, 20, 30)
    np.testing.assert_array_equal(make(seed=3, temperature=0.0)(image), make(seed=4, temperature=0.0)(image))
    np.testing.assert_array_equal(make(temperature=None)(image), make(temperature=0.0)(image))
    np.testing.assert_array_equal(make(seed=3, temperature=None)(image), make(seed=3)(image))


def test_a_picture_does_not_depend_on_its_batch(make, rng):
    batch = np.stack([dark(rng, 16, 12), dark(rng, 16, 12)])
    enhancer = make()
    np.testing.assert_array_equal(enhancer(batch), np.stack([enhancer(image) for image in batch]))


def test_a_tile_does_not_depend_on_the_tiles_it_is_run_with(make, rng):
    image = dark(rng, 40, 40)
    np.testing.assert_allclose(make(batch_size=1)(image), make(batch_size=7)(image), atol=1e-4)


@pytest.mark.parametrize("size", [(1, 1), (5, 3), (16, 16), (17, 40), (33, 16)])
@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_any_size_and_type_is_kept(make, rng, size, dtype):
    image = dark(rng, *size)
    image = image if dtype == np.float32 else (image * 255).astype(dtype)
    result = make(steps=1)(image)
    assert result.shape == image.shape and result.dtype == dtype
    assert np.isfinite(result).all() and result.min() >= 0 and result.max() <= (255 if dtype == np.uint8 else 1)


@pytest.mark.parametrize(("sampler", "options"), [("ddpm", {}), ("ddim", {"eta": 0.5}), ("dpmpp2m", {})])
def test_every_sampler_reports_each_step_of_both_passes(make, rng, sampler, options):
    enhancer = make(sampler=sampler, **options)
    seen = []
    enhancer.on_step = lambda step, steps: seen.append((step, steps))
    enhancer(dark(rng, 16, 16))
    assert seen == [(1, 3), (2, 3), (3, 3)]
    seen.clear()
    enhancer(dark(rng, 16, 40))
    total = seen[0][1]
    assert total > 3 and seen == [(step, total) for step in range(1, total + 1)]


def test_the_second_pass_keeps_the_brightness_of_the_first(network):
    # A denoiser that takes the local mean of what it sees for the truth; the first pass ends at a signal of 0.5.
    made = diffusion.DiffusionEnhancer("diffusion", network, steps=6, tile=16, overlap=8, temperature=1.0)
    alpha, sigma = made._schedule.alpha, made._schedule.sigma
    assert sigma[made.from_coarse()] / alpha[made.from_coarse()] == pytest.approx(diffusion.COARSE_NOISE, rel=0.02)
    calls = []

    def run(noisy, condition, time):
        calls.append(len(noisy))
        signal = 0.5 if len(noisy) == 1 else noisy.mean(axis=(1, 2), keepdims=True) / alpha[time]
        return np.zeros_like(noisy) + signal  # as x0

    made._run = run
    image = np.full((48, 48, 3), 0.05, np.float32)
    base = np.asarray(network.base(image[None], np.float32([0.05])))[0]
    result = made(image)
    assert calls[:6] == [1] * 6 and max(calls) == 16
    # The noise's mean over a tile of 256 pixels is 1/16.
    assert np.abs((result - base) / network.spread - 0.5).max() < 0.3


def test_a_bar_over_the_steps_is_shown_where_it_is_asked_for(make, rng, capsys):
    enhancer = make()
    with files.show_steps(enhancer, True):
        enhancer(dark(rng, 16, 16))
    assert "3/3" in capsys.readouterr().err and enhancer.on_step is None
    with files.show_steps(enhancer, False):
        assert enhancer.on_step is None
    with files.show_steps(enhancers.get("gamma"), True):
        pass


def test_tile_zero_takes_the_whole_picture_at_once(make, rng):
    image = dark(rng, 24, 30)
    np.testing.assert_array_equal(make().tiled(image, 0), make(tile=30)(image))
    np.testing.assert_array_equal(make().tiled(image, 20), make(tile=20)(image))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"sampler": "euler"}, "`sampler` must be one of"),
        ({"steps": 0}, "`steps` must be"),
        ({"steps": 2000}, "`steps` must be"),
        ({"eta": 2}, "`eta` must be"),
        ({"temperature": 1.5}, "`temperature` must be"),
        ({"seed": -1}, "`seed` must be"),
        ({"tile": 1}, "`tile` must be"),
        ({"overlap": 16}, "`overlap` must be"),
        ({"batch_size": 0}, "`batch_size` must be"),
    ],
)
def test_wrong_options_are_one_clear_error(make, options, message):
    with pytest.raises(ValueError, match=message):
        make(**options)


def test_the_factory_builds_other_networks_and_refuses_those_that_do_not_diffuse(tmp_path, network):
    network.save_weights(tmp_path / "a.weights.h5")
    made = enhancers.get("diffusion", weights=str(tmp_path / "a.weights.h5"), steps=2, tile=8, overlap=4, **TINY)
    assert made(np.full((8, 8, 3), 40, np.uint8)).dtype == np.uint8
    with pytest.raises(ValueError, match="`model` must be a diffusion network"):
        enhancers.get("diffusion", model="sgz")
    with pytest.raises(ValueError, match="`weights` must fit"):
        enhancers.get("diffusion", weights=str(tmp_path / "a.weights.h5"), n_feat=6, depth=2)
