"""Whether two pictures show one scene."""

from __future__ import annotations

import io

import cv2
import numpy as np
import pytest
from PIL import Image
from skimage import data

from tfllv.ops import similarity

PHOTOS = {name: getattr(data, name)() for name in ("astronaut", "coffee", "chelsea", "rocket")}


def score(a, b):
    return similarity.scene_similarity(similarity.fingerprint(a), similarity.fingerprint(b))


def jpeg(image, quality):
    stream = io.BytesIO()
    Image.fromarray(image).save(stream, "JPEG", quality=quality)
    return np.asarray(Image.open(stream))


def darken(image, gain, gamma, noise=0.0):
    level = gain * (image / 255) ** gamma + np.random.default_rng(0).normal(0, noise, image.shape)
    return (255 * np.clip(level, 0, 1) + 0.5).astype(np.uint8)


CHANGES = {
    "half the size": lambda x: cv2.resize(x, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA),
    "another aspect": lambda x: cv2.resize(x, (300, 200), interpolation=cv2.INTER_AREA),
    "smaller than a thumbnail": lambda x: cv2.resize(x, (48, 40), interpolation=cv2.INTER_AREA),
    "JPEG 20": lambda x: jpeg(x, 20),
    "a tenth of the light": lambda x: darken(x, 0.1, 1.0),
    "gamma 3": lambda x: darken(x, 1.0, 3.0),
    "gamma 0.4": lambda x: darken(x, 1.0, 0.4),
    "overexposed": lambda x: darken(x, 2.0, 1.0),
    "dark and noisy": lambda x: darken(x, 0.2, 1.5, noise=0.02),
    "cut by 5 % on two edges": lambda x: x[: int(0.95 * len(x)), int(0.05 * x.shape[1]) :],
    "cut by 8 % of the height": lambda x: x[int(0.08 * len(x)) :],
    "all at once": lambda x: jpeg(darken(cv2.resize(x[10:-10, 8:-16], (320, 310)), 0.4, 2.0, noise=0.01), 40),
}


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("photo", PHOTOS)
def test_a_changed_copy_shows_the_same_scene(photo, change):
    image = PHOTOS[photo]
    copy = np.ascontiguousarray(CHANGES[change](image))
    assert score(image, copy) > similarity.THRESHOLD + 0.1
    assert score(copy, image) > similarity.THRESHOLD + 0.1


def test_different_photographs_do_not():
    scores = [score(PHOTOS[a], PHOTOS[b]) for a in PHOTOS for b in PHOTOS if a < b]
    assert max(scores) < similarity.THRESHOLD - 0.1


def test_a_common_frame_does_not_make_two_pictures_alike():
    framed = [cv2.copyMakeBorder(PHOTOS[name], 60, 60, 0, 0, cv2.BORDER_CONSTANT) for name in ("astronaut", "coffee")]
    assert score(*framed) < similarity.THRESHOLD


def test_a_mirrored_copy_is_found_only_when_asked_for():
    image = PHOTOS["coffee"]
    prints = [similarity.fingerprint(x) for x in (image, np.ascontiguousarray(darken(image, 0.3, 1.5)[:, ::-1]))]
    assert similarity.find_same_scenes(prints[:1], prints[1:]) == []
    (match,) = similarity.find_same_scenes(prints[:1], prints[1:], flip=True)
    assert match.flipped and match.score > 0.9


def test_mirroring_a_fingerprint_is_the_fingerprint_of_the_mirrored_picture():
    image = PHOTOS["astronaut"]
    mirrored = similarity.mirror(similarity.fingerprint(image))
    expected = similarity.fingerprint(np.ascontiguousarray(image[:, ::-1]))
    np.testing.assert_allclose(mirrored.coarse, expected.coarse, atol=1e-5)
    np.testing.assert_allclose(mirrored.fine, expected.fine, atol=2e-3)


@pytest.mark.parametrize("level", [0, 7, 255])
def test_a_flat_picture_is_like_no_other_not_even_a_flat_one(level):
    flat = similarity.fingerprint(np.full((80, 90, 3), level, np.uint8))
    assert not flat.textured
    assert similarity.scene_similarity(flat, flat) == 0
    assert similarity.scene_similarity(flat, similarity.fingerprint(PHOTOS["coffee"])) == 0
    assert similarity.find_same_scenes([flat], [flat]) == []


def test_depth_and_type_of_the_pixels_do_not_matter():
    image = PHOTOS["chelsea"]
    others = (image.astype(np.uint16) * 257, (image / 255).astype(np.float32), cv2.cvtColor(image, cv2.COLOR_RGB2GRAY))
    assert all(score(image, other) > 0.99 for other in others)


def test_matches_name_their_places_in_order():
    prints = [similarity.fingerprint(PHOTOS[name]) for name in ("astronaut", "coffee", "rocket")]
    others = [similarity.fingerprint(darken(PHOTOS[name], 0.3, 1.0)) for name in ("rocket", "astronaut")]
    assert [(m.a, m.b) for m in similarity.find_same_scenes(prints, others)] == [(0, 1), (2, 0)]
    assert similarity.find_same_scenes([], others) == similarity.find_same_scenes(prints, []) == []


def test_what_is_no_picture_is_refused():
    with pytest.raises(ValueError, match=r"must be \[H, W, 3\] or \[H, W\]. Received: shape=\(4, 4, 2\)"):
        similarity.fingerprint(np.zeros((4, 4, 2), np.uint8))
    with pytest.raises(ValueError, match=r"must be uint8, uint16 or float32. Received: dtype=int32"):
        similarity.fingerprint(np.zeros((4, 4, 3), np.int32))
    with pytest.raises(ValueError, match="`threshold` must be in"):
        similarity.find_same_scenes([], [], threshold=0)
