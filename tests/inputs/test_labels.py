from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from tfllv.inputs import labels, pipeline


@pytest.fixture
def camvid(tmp_path, rng):
    """Pictures whose red channel is 20 times the class of each pixel, so that picture and map can be compared."""
    for index in range(6):
        ids = np.kron(rng.integers(0, 12, (5, 6)), np.ones((6, 6))).astype(np.uint8)  # 11 is void
        picture = np.stack([ids * 20, ids * 0 + index, 255 - ids], -1).astype(np.uint8)
        for folder, pixels in (("images", picture), ("maps", ids)):
            (tmp_path / folder).mkdir(exist_ok=True)
            Image.fromarray(pixels).save(tmp_path / folder / f"{index}.png")
    return tmp_path


def source(folder, **options):
    found = labels.find_maps(folder / "images", folder / "maps")
    return labels.SegmentationSource(*found, **{"num_classes": 11, "void": (11,), "size": 16, "fit": "crop", **options})


def batches(each, **options):
    return list(pipeline.training_batches(each, **{"batch_size": 4, "seed": 2, "stop_step": 250, **options}))


def test_a_thousand_pictures_and_maps_are_cut_and_turned_alike(camvid):
    count = 0
    for batch in batches(source(camvid), augment=True):
        assert batch["mask"].dtype == tf.int32 and batch["mask"].shape == (4, 16, 16)
        red = np.rint(batch["low"].numpy()[..., 0] * 255 / 20)
        expected = np.where(red == 11, 255, red)
        np.testing.assert_array_equal(batch["mask"], expected)
        count += len(expected)
    assert count == 1000


def test_a_run_can_start_at_any_step(camvid):
    whole = batches(source(camvid), stop_step=6)
    for one, other in zip(whole[4:], batches(source(camvid), start_step=4, stop_step=6), strict=True):
        for key in ("low", "mask", "name"):
            np.testing.assert_array_equal(one[key], other[key])


def test_resizing_a_map_invents_no_class(camvid):
    for batch in batches(source(camvid, fit="resize", size=13), stop_step=3):
        assert batch["mask"].shape == (4, 13, 13)
        assert set(np.unique(batch["mask"])) <= {*range(11), 255}


def test_bad_maps_are_one_line_that_names_the_file(camvid):
    (camvid / "maps" / "3.png").unlink()
    with pytest.raises(ValueError, match=r"Received: none for .*3\.png"):
        source(camvid)
    Image.new("L", (7, 8)).save(camvid / "maps" / "3.png")
    with pytest.raises(ValueError, match=r"3\.png of 7x8 for .*3\.png of 36x30"):
        source(camvid)
    Image.new("L", (36, 30), 77).save(camvid / "maps" / "3.png")
    with pytest.raises(ValueError, match=r"3\.png: expected class ids 0 to 10; found 77"):
        source(camvid).read("mask", 3)
    Image.new("RGB", (36, 30)).save(camvid / "maps" / "3.png")
    with pytest.raises(ValueError, match=r"3\.png: expected a map of class ids"):
        source(camvid).read("mask", 3)


def test_a_classification_batch_has_each_pictures_label(tmp_path):
    paths = []
    for index in range(5):
        paths.append(tmp_path / f"{index}.png")
        Image.new("RGB", (20, 18), (index * 10, 0, 0)).save(paths[-1])
    each = labels.ClassificationSource(paths, range(5), size=16)
    # What validation reads.
    assert [int(each.read_centre("label", index)) for index in range(5)] == list(range(5))
    assert set(each.keys) == {"low", "label"} and each.read_centre("low", 0).shape == (16, 16, 3)
    for batch in batches(each, stop_step=5):
        np.testing.assert_array_equal(np.rint(batch["low"].numpy()[:, 0, 0, 0] * 25.5), batch["label"])
    with pytest.raises(ValueError, match="`labels` must be one number"):
        labels.ClassificationSource(paths, [0, 1], size=16)


CLASSES = ["Bicycle", "Boat", "Bottle", "Bus", "Car", "Cat", "Chair", "Cup", "Dog", "Motorbike", "People", "Table"]


def test_exdark_gives_its_official_split(shared):
    mini, listed = shared / "data" / "exdark" / "mini", shared / "data" / "exdark" / "imageclasslist.txt"
    count = 0
    for split in ("train", "val", "test"):
        try:
            found = labels.find_exdark(mini, split, class_list=listed)
        except ValueError as error:
            assert "which has none" in str(error)
            continue
        for path, number, lighting in zip(*found, strict=True):
            count += 1
            assert CLASSES[number] == path.parent.name
            assert 1 <= lighting <= 10
    assert count == 5
    with pytest.raises(ValueError, match="`split` must be one of"):
        labels.find_exdark(mini, "all")


def test_camvid_is_read(shared):
    folder = shared / "data" / "camvid"
    found = labels.find_maps(folder / "val", folder / "valannot")
    assert len(found[0]) == 40
    each = labels.SegmentationSource(*found, num_classes=11, void=(11,), size=96, fit="crop")
    (batch,) = batches(each, stop_step=1)
    assert set(np.unique(batch["mask"])) <= {*range(11), 255} and len(np.unique(batch["mask"])) > 3
