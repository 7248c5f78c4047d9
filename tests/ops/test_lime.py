from __future__ import annotations

import cv2
import numpy as np
import pytest
import scipy.ndimage
import scipy.sparse
import scipy.sparse.linalg

from tfllv.ops import lime


@pytest.fixture
def image(rng) -> np.ndarray:
    """A dark room with a bright window, a lamp, coloured texture and noise."""
    y, x = np.mgrid[:48, :64]
    light = 0.06 + 0.25 * np.exp(-((x - 15) ** 2 + (y - 12) ** 2) / 200)
    light[10:30, 40:56] = 0.7
    picture = light[..., None] * rng.uniform(0.6, 1, (48, 64, 1)) * np.array([1.0, 0.85, 0.6])
    return np.clip(picture + rng.normal(0, 0.004, picture.shape), 0, 1).astype(np.float32)


def lime_by_the_paper(
    image: np.ndarray, alpha: float, gamma: float, sigma: float, epsilon: float, floor: float
) -> tuple[np.ndarray, np.ndarray]:
    """Eqs. 3, 4 and 19 to 21 in float64: dense gradients, scipy's Gaussian, sparse LU. Returns (T, R)."""
    initial = image.astype(np.float64).max(-1)
    height, width = initial.shape
    step = {size: scipy.sparse.diags_array([-np.ones(size - 1), np.ones(size - 1)], offsets=[0, 1],
                                           shape=(size - 1, size)) for size in (height, width)}  # fmt: skip
    gradients = {
        1: scipy.sparse.kron(scipy.sparse.eye_array(height), step[width]),
        0: scipy.sparse.kron(step[height], scipy.sparse.eye_array(width)),
    }
    system = scipy.sparse.eye_array(initial.size)
    for axis, gradient in gradients.items():
        change = (gradient @ initial.ravel()).reshape(np.diff(initial, axis=axis).shape)
        strategy = 1 / (np.abs(scipy.ndimage.gaussian_filter(change, sigma, mode="reflect")) + epsilon)
        weight = alpha * strategy / (np.abs(change) + epsilon)
        system = system + gradient.T @ scipy.sparse.diags_array(weight.ravel()) @ gradient
    refined = scipy.sparse.linalg.spsolve(system.tocsc(), initial.ravel()).reshape(initial.shape)
    return refined, np.minimum(image / np.clip(refined, floor, 1)[..., None] ** gamma, 1)


@pytest.mark.parametrize("epsilon", [0.01, 0.001])
def test_lime_is_the_papers_system_solved_directly(epsilon, image):
    refined, enhanced = lime_by_the_paper(image, 0.15, 0.8, 2.0, epsilon, 0.05)
    np.testing.assert_allclose(lime.estimate_illumination(image, epsilon=epsilon), refined, atol=1e-3)
    np.testing.assert_allclose(lime.apply_lime(image, epsilon=epsilon), enhanced, atol=5e-3)


def test_lime_on_a_real_photo_is_the_papers_system_solved_directly(shared):
    picture = cv2.cvtColor(cv2.imread(str(shared / "data/lime/2.bmp")), cv2.COLOR_BGR2RGB)
    picture = cv2.resize(picture, (140, 105), interpolation=cv2.INTER_AREA).astype(np.float32) / 255
    refined, enhanced = lime_by_the_paper(picture, 0.15, 0.8, 2.0, 0.01, 0.05)
    np.testing.assert_allclose(lime.estimate_illumination(picture), refined, atol=1e-3)
    assert np.abs(lime.apply_lime(picture) - enhanced).max() < 1 / 255


def test_the_map_is_smooth_inside_and_sharp_at_the_structure(image):
    initial, refined = image.max(-1), lime.estimate_illumination(image)
    inside = (slice(13, 27), slice(43, 53))
    assert refined[inside].std() < 0.25 * initial[inside].std()
    across = refined[20, 41:45].mean() - refined[20, 35:39].mean()
    assert across > 0.6 * (initial[20, 41:45].mean() - initial[20, 35:39].mean())
    # A Gaussian blur of equal smoothness smears that edge: LIME's map is no blurred maximum.
    blurred = scipy.ndimage.gaussian_filter(initial, 5)
    assert across > 1.3 * (blurred[20, 41:45].mean() - blurred[20, 35:39].mean())


def test_one_bright_pixel_changes_its_neighbourhood_only(image):
    spoiled = image.copy()
    spoiled[40, 5] = 1
    difference = np.abs(lime.apply_lime(spoiled) - lime.apply_lime(image))
    difference[36:45, 1:10] = 0
    assert difference.max() < 0.05 and difference.mean() < 2e-3


def test_lime_never_darkens(image):
    assert (lime.apply_lime(image) >= image - 1e-6).all()


def test_the_floor_caps_the_gain():
    image = np.full((8, 8, 3), 0.001, np.float32)
    np.testing.assert_allclose(lime.apply_lime(image, floor=0.1), 0.001 * 0.1**-0.8, rtol=1e-4)


def test_gamma_zero_leaves_the_image(image):
    np.testing.assert_allclose(lime.apply_lime(image, gamma=0), image, atol=1e-6)


def test_alpha_zero_leaves_the_maximum_of_the_channels(image):
    np.testing.assert_allclose(lime.estimate_illumination(image, alpha=0), image.max(-1), atol=1e-6)


def test_mirroring_the_image_mirrors_the_result(image):
    for flip in (np.s_[::-1], np.s_[:, ::-1]):
        np.testing.assert_allclose(lime.apply_lime(image[flip]), lime.apply_lime(image)[flip], atol=5e-3)


def test_a_large_image_is_solved_small_and_enlarged_along_its_edges():
    room = np.full((48, 64, 3), 0.1, np.float32)
    room[10:30, 40:56] = 0.7
    large = cv2.resize(room, (256, 192), interpolation=cv2.INTER_NEAREST)
    small = lime.estimate_illumination(room)
    expected = cv2.resize(small, (256, 192), interpolation=cv2.INTER_NEAREST)
    guided = np.abs(lime.estimate_illumination(large, max_pixels=48 * 64) - expected)
    plain = np.abs(cv2.resize(small, (256, 192), interpolation=cv2.INTER_LINEAR) - expected)
    assert guided.mean() < 2e-3
    window_edge = np.s_[60:100, 156:164]
    assert guided[window_edge].mean() < 0.25 * plain[window_edge].mean()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"alpha": -1}, "`alpha` must be finite and >= 0"),
        ({"gamma": 1.5}, "`gamma` must be in"),
        ({"sigma": 0}, "`sigma` and `epsilon` must be > 0"),
        ({"epsilon": 0}, "`sigma` and `epsilon` must be > 0"),
        ({"floor": 0}, "`floor` must be above 0"),
        ({"max_pixels": 0}, "`max_pixels` must be >= 1"),
    ],
)
def test_a_wrong_option_is_named(options, message, image):
    with pytest.raises(ValueError, match=message):
        lime.apply_lime(image, **options)
