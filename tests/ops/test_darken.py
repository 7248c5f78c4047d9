from __future__ import annotations

import concurrent.futures
import importlib.util
import pathlib
import subprocess
import sys

import numpy as np
import pytest
from scipy import ndimage, stats

from tfllv.inputs import files
from tfllv.ops import buffers, camera, camera_loops, dark_recipes, darken

ROOT = pathlib.Path(__file__).parents[2]
VARIANTS = [
    ("statistical", {}),
    ("statistical", {"reference": True, "version": 1}),
    ("statistical", {"reference": True}),
    ("gamma_noise", {}),
    ("photographic", {}),
    ("raw", {}),
]
variants = pytest.mark.parametrize(("recipe", "options"), VARIANTS, ids=lambda value: str(value))
SIZES = [(1, 1), (1, 6), (7, 5), (48, 65)]
NO_NOISE = {"shot": 1e-9, "read": 1e-12}


def picture(height, width, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)


def cat():
    return files.read_pixels(ROOT / "tfllv" / "samples" / "cat.jpg")


@variants
@pytest.mark.parametrize("size", SIZES)
def test_arrays_tensors_functions_and_tf_data_give_the_same_bits(recipe, options, size):
    import tensorflow as tf

    image = picture(*size).astype(np.float32) / 255
    expected = darken.darken(image, recipe, 5, **options)

    def call(image):
        return darken.darken(image, recipe, 5, **options)

    fixed = tf.data.Dataset.from_tensors(image)
    settings = tf.data.Options()
    settings.threading.private_threadpool_size = 1
    settings.threading.max_intra_op_parallelism = 1
    unknown = tf.data.Dataset.from_generator(
        lambda: iter([(image, 5)] * 4),
        output_signature=(tf.TensorSpec([None, None, 3], tf.float32), tf.TensorSpec([], tf.int32)),
    )
    results = {
        "eager": call(tf.constant(image)),
        "graph": tf.function(call)(tf.constant(image)),
        "tf.data": next(iter(fixed.map(call))),
        "tf.data, one thread": next(iter(fixed.map(call).with_options(settings))),
    }
    parallel = unknown.map(lambda image, n: darken.darken(image, recipe, n, **options), num_parallel_calls=4)
    results |= {f"tf.data in parallel, {i}": result for i, result in enumerate(parallel)}
    assert len(results) == 8
    for name, result in results.items():
        assert result.dtype == tf.float32
        np.testing.assert_array_equal(result.numpy(), expected, name)


@variants
@pytest.mark.parametrize("size", SIZES)
def test_a_batch_is_its_pictures_alone_and_uint8_is_its_float32(recipe, options, size):
    batch = np.stack([picture(*size, seed=i) for i in range(3)])
    expected = [darken.darken(image, recipe, darken.image_seed(9, i), **options) for i, image in enumerate(batch)]
    np.testing.assert_array_equal(darken.darken(batch, recipe, 9, **options), expected)
    floats = batch * np.float32(1 / 255)
    np.testing.assert_array_equal(darken.darken(floats, recipe, 9, **options), expected)
    assert (
        len({darken.image_seed(9, i) for i in range(100)} | {darken.image_seed([9, 1], i) for i in range(100)}) == 200
    )


def test_a_batch_in_tf_data_is_the_batch_of_arrays():
    import tensorflow as tf

    batch = np.stack([picture(9, 12, seed=i) for i in range(4)])
    dataset = tf.data.Dataset.from_tensor_slices(batch).batch(4)
    result = next(iter(dataset.map(lambda images: darken.darken(images, "raw", tf.constant([3, 4])))))
    assert result.shape == (4, 9, 12, 3)
    np.testing.assert_array_equal(result, darken.darken(batch, "raw", (3, 4)))


@variants
def test_a_result_depends_on_the_seed_alone_and_leaves_the_input_as_it_was(recipe, options):
    image = picture(64, 96)
    for given in (image, image.astype(np.float32) / 255):
        before = given.copy()
        first = darken.darken(given, recipe, 1, **options)
        np.testing.assert_array_equal(given, before)
        with concurrent.futures.ThreadPoolExecutor(4) as pool:
            for again in pool.map(lambda seed, g=given: darken.darken(g, recipe, seed, **options), [1, [1, 0]] * 4):
                np.testing.assert_array_equal(again, first)
    others = [darken.darken(image, recipe, seed, **options) for seed in (0, 2, -1, (1, 1), 2**62, np.int32(7))]
    assert all(np.abs(other - first).max() > 0 for other in others)


@variants
def test_views_of_any_order_in_memory_give_the_same_bits(recipe, options):
    image = picture(31, 44)
    for given in (image, image.astype(np.float32) / 255):
        for view in (given[..., ::-1], given[::-1, ::2], given.transpose(1, 0, 2), np.asfortranarray(given)):
            expected = darken.darken(np.ascontiguousarray(view), recipe, 1, **options)
            np.testing.assert_array_equal(darken.darken(view, recipe, 1, **options), expected)


@variants
@pytest.mark.parametrize("level", [0.0, 0.002, 0.5, 1.0])
def test_flat_pictures_stay_finite_and_in_range(recipe, options, level):
    dark = darken.darken(np.full((31, 32, 3), level, np.float32), recipe, 3, **options)
    assert dark.shape == (31, 32, 3) and dark.dtype == np.float32
    assert np.isfinite(dark).all() and dark.min() >= 0 and dark.max() <= 1


@variants
def test_values_out_of_range_are_clipped_and_other_floats_converted(recipe, options):
    image = np.random.default_rng(0).uniform(-0.5, 1.5, (16, 18, 3))
    expected = darken.darken(np.clip(image.astype(np.float32), 0, 1), recipe, 3, **options)
    np.testing.assert_array_equal(darken.darken(image, recipe, 3, **options), expected)


def test_no_gradient_flows():
    import tensorflow as tf

    image = tf.constant(picture(8, 8) / 255.0, tf.float32)
    with tf.GradientTape() as tape:
        tape.watch(image)
        total = tf.reduce_sum(darken.darken(image, "gamma_noise", 1))
    assert tape.gradient(total, image) is None


def test_arrays_need_no_tensorflow():
    code = (
        "import sys, numpy as np\nfrom tfllv.ops import darken\n"
        "[darken.darken(np.ones((4, 4, 3), np.uint8), name, 1) for name in darken.RECIPES]\n"
        "assert 'tensorflow' not in sys.modules"
    )
    subprocess.run([sys.executable, "-W", "error", "-c", code], check=True, cwd=ROOT, timeout=60)


# The noise.


def noise(seed, shape=(400, 640, 3)):
    return add_noise(seed, 1, np.zeros(shape, np.float32), variance=1.0)


def add_noise(seed, stream, values, **amounts):
    picture = camera.Curved(np.empty(0, np.uint8), np.empty(256, np.float32), values)
    return camera.Draws((seed, 0)).add_noise(stream, picture, **amounts)


def test_noise_is_standard_normal_and_white():
    values = noise(1)
    assert abs(values.mean()) < 0.01
    assert values.std() == pytest.approx(1, abs=0.01)
    assert stats.skew(values, None) == pytest.approx(0, abs=0.02)
    assert stats.kurtosis(values, None) == pytest.approx(0, abs=0.04)
    # 768,000 independent normals would be within 0.0016 in 95 of 100 cases; half of the pool is shared.
    assert stats.kstest(values.reshape(-1), "norm").statistic < 0.004
    flat = values.reshape(-1)
    for lag in (1, 2, 3, 255, 256, 257, 640 * 3, 2 * 640 * 3):
        assert abs(np.mean(flat[lag:] * flat[:-lag])) < 0.01, lag


def test_noise_of_other_seeds_streams_and_runs_is_another():
    values = [noise(1), noise(2), add_noise(1, 2, np.zeros((400, 640, 3), np.float32), variance=1.0)]
    for i in range(3):
        for j in range(i):
            assert abs(np.mean(values[i] * values[j])) < 0.01
    runs = np.round(values[0].reshape(-1, 256)[:, :4], 4)
    assert len(np.unique(runs, axis=0)) == len(runs)


def test_noise_takes_the_deviation_of_each_value():
    signal = np.repeat(np.array([0.0, 0.1, 0.9], np.float32), 30_000).reshape(3, 100, 300)
    noisy = add_noise(1, 1, signal.copy(), shot=0.02, variance=1e-4)
    assert (noisy - signal).std((1, 2)) == pytest.approx(np.sqrt(0.02 * signal[:, 0, 0] + 1e-4), rel=0.03)


@pytest.mark.parametrize(
    ("recipe", "least"), [("statistical", 0.3), ("gamma_noise", 2), ("photographic", 0.9), ("raw", 1)]
)
def test_noise_is_visible_in_a_flat_patch(recipe, least):
    """In levels of 255; dark parts of LOL show 0.9 to 1.7, those of ExDark 0.3 to 4."""
    levels = [darken.darken(np.full((64, 64, 3), 0.6, np.float32), recipe, seed) * 255 for seed in range(20)]
    deviations = [level.std((0, 1)).mean() for level in levels]
    assert np.median(deviations) > least
    assert min(deviations) > 0.1


def test_noise_of_the_published_order_is_lost():
    levels = darken.darken(np.full((64, 64, 3), 0.6, np.float32), "statistical", 1, reference=True) * 255
    assert levels.std((0, 1)).max() < 0.3


def test_powers_are_those_of_numpy_and_zero_stays_zero():
    base = np.concatenate([[0], np.geomspace(1e-9, 1, 10_001)]).astype(np.float32)
    for exponent in (1 / 3.5, 1 / 2.2, 1, 2.2, 8):
        expected = base.astype(np.float64) ** exponent
        found = camera.power(base.copy(), exponent)
        np.testing.assert_allclose(found[expected > 1e-9], expected[expected > 1e-9], rtol=5e-6)
        assert found[0] == 0 and found.max() <= 1 + 1e-6


def test_memory_is_used_again_when_nothing_refers_to_it():
    buffers._spare.clear()
    one = buffers.empty((480, 640, 3))
    place, view = one.ctypes.data, one[1:]
    assert place % 64 == 0
    del one
    assert buffers.empty((480, 640, 3)).ctypes.data != place, "a view still refers to it"
    del view
    # Freed the other way round: the last to come back is the first to go out.
    assert place in {each.ctypes.data for each in [buffers.empty((480, 640, 3)) for _ in range(2)]}
    many = [buffers.empty((1024, 1024, 3)) for _ in range(10)]
    del many
    assert 4 <= sum(units * len(blocks) for units, blocks in buffers._spare.items()) * buffers._UNIT / 2**20 <= 64
    small = buffers.empty((8, 8, 3))
    assert small.ctypes.data % 64 == 0 and not buffers._spare[0]


def test_recipes_run_where_nothing_can_be_kept_on_disk(tmp_path):
    code = """if True:
        import numba.core.caching as caching
        for locator in caching.CacheImpl._locator_classes:
            locator.from_function = classmethod(lambda *args: None)
        import numpy as np
        from tfllv.ops import darken
        print(darken.darken(np.full((2, 2, 3), 200, np.uint8), "gamma_noise", 1).shape)
    """
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert run.returncode == 0 and run.stdout == "(2, 2, 3)\n", run.stderr


# The recipes.


def test_gamma_noise_is_the_power_and_noise_of_the_stated_variance():
    image = picture(40, 50)
    dark = darken.darken(image, "gamma_noise", 1, gamma=3.7, variance=0)
    np.testing.assert_allclose(dark, (image / 255) ** 3.7, atol=1e-6)  # float32 against float64
    flat = darken.darken(np.full((200, 200, 3), 0.5, np.float32), "gamma_noise", 1, gamma=1, variance=0.01)
    # A variance on [-1, 1] is four times that on [0, 1].
    assert flat.std() == pytest.approx(0.05, rel=0.02)
    assert flat.mean() == pytest.approx(0.5, abs=0.002)


def test_gamma_is_drawn_from_its_range():
    means = [darken.darken(np.full((1, 1, 3), 0.5), "gamma_noise", seed, variance=0)[0, 0, 0] for seed in range(300)]
    gammas = -np.log2(means)
    assert gammas.min() >= 3 - 1e-5 and gammas.max() <= 8 + 1e-5
    assert stats.kstest(gammas, stats.uniform(3, 5).cdf).pvalue > 0.01


@pytest.mark.parametrize("level", [4, 16.7, 40])
@pytest.mark.parametrize("sample", ["cat", "rocket"])
def test_statistical_reaches_the_mean_level(sample, level):
    image = files.read_pixels(ROOT / "tfllv" / "samples" / f"{sample}.jpg")
    means = [darken.darken(image, "statistical", seed, level=level).mean() * 255 for seed in range(4)]
    assert means == pytest.approx([level] * 4, rel=0.04)


def test_statistical_draws_levels_like_those_of_real_dark_photographs():
    means = [darken.darken(cat()[::4, ::4], "statistical", seed).mean() * 255 for seed in range(200)]
    assert min(means) > 6.5 and max(means) < 42
    assert stats.kstest(np.log(means), stats.uniform(np.log(7), np.log(40 / 7)).cdf).pvalue > 0.01


def test_statistical_never_brightens_and_returns_a_flat_picture_where_no_light_is_lost():
    flat = np.full((9, 10, 3), (0.2, 0.5, 0.8), np.float32)
    same = darken.darken(flat, "statistical", 1, level=255, contrast=1, saturation=1, **NO_NOISE)
    np.testing.assert_allclose(same, flat, atol=1e-3)  # shot noise of a variance of 1e-9 is left


def test_the_tone_curve_is_inverted():
    values = np.linspace(0, 1, 1001, dtype=np.float32)
    np.testing.assert_allclose(camera.add_tone(camera.invert_tone(values.copy()), 1.0), values, atol=2e-6)


@pytest.mark.parametrize("size", [(2, 2), (8, 10), (7, 5), (1, 4)])
def test_the_mosaic_is_filled_in_as_by_a_normalised_convolution(size):
    """Bilinear demosaicing, as SciPy's convolution with mirrored borders computes it."""
    image = np.random.default_rng(0).random((*size, 3)).astype(np.float32)
    height, width = size
    even = np.pad(image, ((0, height % 2), (0, width % 2), (0, 0)), "edge")
    seen = np.zeros_like(even)
    for row, column, color in ((0, 0, 0), (0, 1, 1), (1, 0, 1), (1, 1, 2)):
        seen[row::2, column::2, color] = even[row::2, column::2, color]
    diagonal = np.array([[1, 2, 1], [2, 4, 2], [1, 2, 1]]) / 4
    cross = np.array([[0, 1, 0], [1, 4, 1], [0, 1, 0]]) / 4
    kernels = (diagonal, cross, diagonal)
    expected = np.stack([ndimage.convolve(seen[..., i], kernels[i], mode="mirror") for i in range(3)], -1)
    raw = camera.curve(image, lambda values: values).mosaic().values
    result = np.empty_like(image)
    camera_loops.develop(raw, result, np.float32([1, 1, 0]), np.float32(1), False)
    np.testing.assert_allclose(result, expected[:height, :width], atol=1e-6)


def test_the_published_recipe_gives_whole_levels_as_dark_as_measured():
    """Version 1 gives means of 6 to 7 of 255 and nearly no levels, version 2 about 1: measured on the original."""
    image = cat()
    first = darken.darken(image, "statistical", 1, reference=True, version=1) * 255
    np.testing.assert_allclose(first, np.round(first), atol=1e-4)
    assert 3 < first.mean() < 8 and first.max() <= 17
    second = [darken.darken(image, "statistical", seed, reference=True, version=2) * 255 for seed in range(10)]
    assert 0.3 < np.mean(second) < 1.6 and np.max(second) <= 8


def test_the_published_amounts_are_drawn_as_measured():
    """Means of 20,000 draws of the original: illumination 1.81e-4, noise 1.51e-4, contrast 0.721, saturation 1.220."""
    draws = [dark_recipes._draw_v2(camera.Draws((seed, 0))) for seed in range(4000)]
    means = {name: np.mean([draw[name] for draw in draws]) for name in draws[0]}
    assert means["illumination"] == pytest.approx(1.81e-4, rel=0.04)
    assert means["noise"] == pytest.approx(1.51e-4, rel=0.04)
    assert means["contrast"] == pytest.approx(0.721, rel=0.01)
    assert means["saturation"] == pytest.approx(1.220, rel=0.01)


def test_photographic_lowers_blacks_shadows_and_brightness_each_alone():
    image = np.linspace(0, 1, 101, dtype=np.float32)[None, :, None].repeat(3, 2)
    still = {"blacks": 0, "shadows": 0, "brightness": 1, "dispersion": 0, "color_noise": 0}

    def lowered(**options):
        return darken.darken(image, "photographic", 1, **{**still, **options})[0, :, 0]

    np.testing.assert_allclose(lowered(), image[0, :, 0], atol=1e-6)
    np.testing.assert_allclose(lowered(brightness=0.15), 0.15 * image[0, :, 0], atol=1e-6)
    blacks = lowered(blacks=0.1)
    assert (blacks[:11] < 1e-6).all() and blacks[12] > 0 and blacks[-1] == pytest.approx(1)
    shadows = lowered(shadows=0.5)
    assert shadows[10] == pytest.approx(0.1 * (1 - 0.5 * 0.81)) and shadows[-1] == pytest.approx(1)
    draws = [darken.darken(np.ones((1, 1, 3)), "photographic", seed, dispersion=0, color_noise=0) for seed in range(50)]
    assert 0.1 <= np.min(draws) < 0.12 and 0.18 < np.max(draws) <= 0.2


def test_photographic_noise_follows_the_contrast_of_the_picture():
    image = np.where(np.arange(300)[:, None, None] < 150, 0.2, 0.8).astype(np.float32).repeat(300, 1).repeat(3, 2)
    options = {"blacks": 0, "shadows": 0, "brightness": 0.5, "dispersion": 0.1, "color_noise": 3}
    dark = darken.darken(image, "photographic", 1, **options)
    expected = np.hypot(0.1 * 0.15, 3 / 255)  # the dark picture holds 0.1 and 0.4
    assert dark[:150].std() == pytest.approx(expected, rel=0.02)


def test_raw_keeps_grey_grey_and_darkens_by_the_gain():
    grey = np.linspace(0.1, 0.9, 64, dtype=np.float32)[None, :, None].repeat(3, 2).repeat(32, 0)
    for seed in range(8):
        dark = darken.darken(grey, "raw", seed, darkness=0.5, gamma=2, shot=1e-9, bits=16)
        ratio = dark / grey
        assert np.ptp(ratio) < 0.01, "a power law keeps ratios of light"
        assert 0.3 < ratio.mean() < 0.8  # the root of 0.5 N(0.8, 0.1)


def test_raw_rounds_to_the_steps_of_the_sensor():
    grey = np.linspace(0, 1, 4096, dtype=np.float32).reshape(64, 64, 1).repeat(3, 2)
    levels = {
        bits: len(np.unique(darken.darken(grey, "raw", 2, darkness=1, shot=1e-9, bits=bits)[..., 1])) for bits in (2, 5)
    }
    assert levels[2] <= 4**3 and 4 * levels[2] < levels[5] <= 32**3


def test_darkness_is_a_cut_normal_variate():
    uniforms = (np.arange(2000) + 0.5) / 2000
    drawn = [dark_recipes._draw_darkness(uniform, (0.01, 1.0)) for uniform in uniforms]
    expected = stats.truncnorm((0.01 - 0.1) / 0.08, (1 - 0.1) / 0.08, loc=0.1, scale=0.08)
    assert stats.kstest(drawn, expected.cdf).statistic < 0.001


def test_the_default_is_nearer_to_real_dark_photographs_than_the_published_recipes(shared):
    specification = importlib.util.spec_from_file_location("calibrate", ROOT / "tools" / "calibrate_darkening.py")
    calibrate = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(calibrate)
    paths = calibrate.real_photographs(shared / "data")
    real = {name: calibrate.read_levels(paths[name], None) for name in ("LOL", "ExDark")}
    real["both"] = np.concatenate([real["LOL"], real["ExDark"]])
    well_lit = calibrate.well_lit_photographs(shared / "data", 40)
    found = {}
    for name, (recipe, options) in calibrate.VARIANTS.items():
        levels = calibrate.read_levels(
            well_lit, lambda image, i, r=recipe, o=options: darken.darken(image, r, [1, i], **o)
        )
        found[name] = {label: calibrate.distances(levels, dark) for label, dark in real.items()}
    for label in real:
        for other in ("statistical, published v1", "statistical, published v2", "gamma_noise"):
            for distance, value in found["statistical"][label].items():
                assert value < found[other][label][distance], (label, other, distance)
    assert found["statistical"]["both"]["levels_w1"] < 4


# Options and errors.


def test_defaults_are_what_their_options_accept():
    for recipe in darken.RECIPES.values():
        assert recipe.summary and recipe.source
        for name, option in recipe.options.items():
            assert option.check(option.default) == option.default, name
    assert set(darken.RECIPES) == set(dark_recipes.FUNCTIONS)


@pytest.mark.parametrize(
    ("recipe", "options", "message"),
    [
        ("gama_noise", {}, "did you mean 'gamma_noise'"),
        ("gamma_noise", {"gama": 3}, "did you mean 'gamma'"),
        ("gamma_noise", {"gamma": 0}, "`gamma` must be a number or a pair .* Received: gamma=0"),
        ("gamma_noise", {"gamma": (8, 3)}, "low <= high"),
        ("gamma_noise", {"gamma": (1, 2, 3)}, "`gamma` must be"),
        ("gamma_noise", {"gamma": ()}, "`gamma` must be"),
        ("gamma_noise", {"gamma": "high"}, "`gamma` must be"),
        ("gamma_noise", {"gamma": True}, "`gamma` must be"),
        ("gamma_noise", {"gamma": float("nan")}, "`gamma` must be"),
        ("raw", {"bits": 13.5}, "`bits` must be one or more of"),
        ("raw", {"bits": (12, 99)}, "`bits` must be one or more of"),
        ("statistical", {"reference": 1}, "`reference` must be true or false"),
        ("statistical", {"reference": True, "version": 3}, "`version` must be one of 1, 2"),
        ("statistical", {"reference": True, "version": (1, 2)}, "`version` must be one of 1, 2"),
        ("statistical", {"version": 1}, "`version` is for reference=True"),
        ("statistical", {"reference": True, "level": 9}, "`level` is for reference=False"),
    ],
)
def test_wrong_options_are_named(recipe, options, message):
    with pytest.raises(ValueError, match=message):
        darken.darken(picture(4, 4), recipe, 1, **options)


@pytest.mark.parametrize("seed", [1.5, "1", None, True, [1], [1, 2, 3], [[1, 2]], 2**63, -(2**63) - 1, [0, 2**64]])
def test_wrong_seeds_are_named(seed):
    with pytest.raises(ValueError, match="`seed` must"):
        darken.darken(picture(4, 4), "raw", seed)


@pytest.mark.parametrize(
    "image",
    [
        np.zeros((4, 4)),
        np.zeros((4, 4, 1)),
        np.zeros((0, 4, 3)),
        np.zeros((4, 4, 3), np.int32),
        np.full((2, 2, 3), np.nan),
    ],
    ids=["rank", "channels", "empty", "type", "nan"],
)
def test_wrong_images_are_named(image):
    with pytest.raises(ValueError, match="`image` must be"):
        darken.darken(image, "raw", 1)


def test_wrong_tensors_are_named_when_the_graph_is_made():
    import tensorflow as tf

    for spec in (tf.TensorSpec([4, 4]), tf.TensorSpec([4, 4, 1]), tf.TensorSpec([4, 4, 3], tf.int32)):
        with pytest.raises(ValueError, match="`image` must be"):
            tf.function(lambda image: darken.darken(image, "raw", 1), autograph=False).get_concrete_function(spec)
    for spec in (tf.TensorSpec([], tf.float32), tf.TensorSpec([3], tf.int32)):
        with pytest.raises(ValueError, match="`seed` must be"):
            tf.function(
                lambda seed: darken.darken(np.zeros((2, 2, 3), np.uint8), "raw", seed), autograph=False
            ).get_concrete_function(spec)
