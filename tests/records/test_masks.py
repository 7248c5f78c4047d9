from __future__ import annotations

import zlib

import cv2
import numpy as np
import pytest

from tfllv.records import masks


@pytest.fixture
def mask(rng):
    return cv2.resize((rng.random((5, 6)) > 0.5).astype(np.uint8), (37, 23), interpolation=cv2.INTER_NEAREST)


def test_polygons_are_rasterised_as_coco_does():
    from pycocotools import mask as coco_mask

    polygons = [[2, 3, 20.5, 3, 20.5, 18, 11, 25.25, 2, 18], [30, 1, 35, 1, 33, 9.5]]
    expected = coco_mask.decode(coco_mask.merge(coco_mask.frPyObjects(polygons, 30, 40)))
    found = masks.decode_mask(polygons, 30, 40)
    np.testing.assert_array_equal(found, expected)
    assert found.sum() > 300


def test_random_polygons_give_the_pixels_of_coco_and_pngs_of_them(rng):
    """Also where they leave the picture, and with coordinates that lie at the edge of rounding."""
    from pycocotools import mask as coco_mask

    for index in range(300):
        height, width = (int(side) for side in rng.integers(1, 90, 2))
        polygons = []
        for _ in range(rng.integers(1, 4)):
            centre, spread = rng.uniform(0, 1, 2) * (width, height), rng.uniform(0.5, 40)
            points = centre + rng.normal(0, spread, (rng.integers(3, 9), 2))
            points = np.clip(points, (-width, -height), (2 * width, 2 * height))
            if index % 2:
                points = np.clip(points, 0, (width, height))
            polygons.append((np.round(points * 10) / 10 if index % 3 else points).ravel().tolist())
        expected = coco_mask.decode(coco_mask.merge(coco_mask.frPyObjects(polygons, height, width)))
        np.testing.assert_array_equal(masks.decode_mask(polygons, height, width), expected)
        png = masks.encode_mask(masks.decode_region(polygons, height, width), height, width)
        decoded = cv2.imdecode(np.frombuffer(png, np.uint8), cv2.IMREAD_GRAYSCALE)
        np.testing.assert_array_equal(decoded, expected * 255)


def test_run_lengths_as_list_and_as_text_are_decoded_as_coco_does(mask):
    from pycocotools import mask as coco_mask

    packed = coco_mask.encode(np.asfortranarray(mask))
    text = {"size": [23, 37], "counts": packed["counts"].decode()}
    np.testing.assert_array_equal(masks.decode_mask(text, 23, 37), mask)
    flat = mask.T.ravel()
    edges = np.flatnonzero(np.diff(np.concatenate([[0], flat, [2]]).astype(int)))
    counts = np.diff(np.concatenate([[0], edges])).tolist()
    np.testing.assert_array_equal(masks.decode_mask({"size": [23, 37], "counts": counts}, 23, 37), mask)


def test_random_masks_in_compressed_text(rng):
    from pycocotools import mask as coco_mask

    for _ in range(50):
        height, width = rng.integers(1, 60, 2)
        mask = (rng.random((height, width)) > rng.random()).astype(np.uint8)
        text = coco_mask.encode(np.asfortranarray(mask))["counts"].decode()
        found = masks.decode_mask({"size": [int(height), int(width)], "counts": text}, height, width)
        np.testing.assert_array_equal(found, mask)


@pytest.mark.parametrize(
    "segmentation",
    [
        None,
        [],
        "x",
        [[1, 2, 3, 4]],
        [[1, 2, 3, 4, 5]],
        [[1, 2, 3, 4, 5, None]],
        [[1, 2, 3, 4, 5, 1e9]],
        [1, 2, 3, 4, 5, 6],
        {},
        {"size": [30, 40], "counts": [1]},
        {"size": [30, 40], "counts": [1300, -100]},
        {"size": [30, 41], "counts": [1200]},
        {"size": [30, 40], "counts": "abc"},
        {"size": [30, 40], "counts": "\x7f"},
        {"size": [30, 40], "counts": "o" * 40},
        {"size": [30, 40], "counts": None},
        {"size": "30", "counts": [1200]},
        {"size": [30, 40], "counts": [1200, True]},
    ],
)
def test_a_segmentation_that_does_not_fit_is_a_value_error(segmentation):
    with pytest.raises(ValueError, match=r"expected|coordinate"):
        masks.decode_mask(segmentation, 30, 40)


@pytest.mark.parametrize("shape", [(1, 1), (3, 8), (23, 37), (5, 9)])
def test_masks_as_png_read_back_by_three_decoders(rng, shape):
    import io

    import tensorflow as tf
    from PIL import Image

    mask = (rng.random(shape) > 0.5).astype(np.uint8)
    data = masks.encode_mask(masks.Region(mask), *shape)
    np.testing.assert_array_equal(cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_GRAYSCALE), mask * 255)
    np.testing.assert_array_equal(np.asarray(Image.open(io.BytesIO(data))), mask.astype(bool))
    np.testing.assert_array_equal(tf.image.decode_image(data, channels=1)[..., 0].numpy() > 0, mask > 0)


def test_the_checksum_over_zeros_that_are_not_looked_at_is_right():
    # 2 ** 16 rows before and after: zlib itself checks what it unpacks.
    region = masks.Region(np.ones((3, 8), np.uint8), top=70_000, left=16)
    data = masks.encode_mask(region, 140_000, 40)
    start = data.index(b"IDAT")
    lines = zlib.decompress(data[start + 4 : start + 4 + int.from_bytes(data[start - 4 : start], "big")])
    assert len(lines) == 140_000 * 6
    found = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_GRAYSCALE)
    assert found[70_000:70_003, 16:24].all() and np.count_nonzero(found) == 24


def test_class_maps_as_png_read_back(rng):
    classes = rng.integers(0, 256, (13, 17)).astype(np.uint8)
    data = masks.encode_classes(classes)
    np.testing.assert_array_equal(cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED), classes)


def test_small_things_are_painted_over_large_ones():
    large, small = masks.Region(np.ones((4, 4), np.uint8)), masks.Region(np.ones((2, 3), np.uint8), 1, 1)
    for layers in ([(large, 7), (small, 9)], [(small, 9), (large, 7)]):
        painted = masks.paint(layers, 4, 4)
        assert painted[0, 0] == 7 and painted[1, 1] == 9
    assert masks.paint([], 2, 3).tolist() == [[0, 0, 0], [0, 0, 0]]
