from __future__ import annotations

import cv2
import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from tfllv.inputs import files


def _save(path, size=(6, 4), value=40):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, (value, value, value)).save(path)
    return path


@pytest.fixture
def numbered(tmp_path):
    """1.png ... 9.png."""
    return [_save(tmp_path / "set" / f"{i}.png") for i in range(1, 10)]


def test_images_are_found_in_sub_folders_in_order_whatever_the_ending_and_the_slash(tmp_path):
    for name in ("b.jpg", "a/c.PNG", "a/d.webp", "e.jpeg", "z.tif"):
        _save(tmp_path / name)
    (tmp_path / "notes.txt").write_text("no image")
    _save(tmp_path / ".hidden.png")
    found = [path.relative_to(tmp_path).as_posix() for path in files.find_images(str(tmp_path) + "/")]
    assert found == ["a/c.PNG", "a/d.webp", "b.jpg", "e.jpeg", "z.tif"]


def test_a_folder_that_is_missing_empty_or_a_file_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"`data` must be a folder of images\. Received: '.*nothing'"):
        files.find_images(tmp_path / "nothing")
    (tmp_path / "empty").mkdir()
    with pytest.raises(FileNotFoundError, match=r"which holds none of \.jpg"):
        files.find_images(tmp_path / "empty")
    with pytest.raises(NotADirectoryError, match="which is a file"):
        files.find_images(_save(tmp_path / "x.png"))


@pytest.mark.parametrize(
    ("options", "left"),
    [
        ({"exclude": ["3.png"]}, "1 2 4 5 6 7 8 9"),
        ({"exclude": ["2-4", "[89].png"]}, "1 5 6 7"),
        ({"include": ["2-4", "8.png"], "exclude": ["3-3"]}, "2 4 8"),
        ({"exclude": ["PAIRS.csv"]}, "1 5 9"),
        ({"exclude": ["PAIRS.csv:low"]}, "1 3 4 5 7 8 9"),
        ({"include": ["PAIRS.csv:high"]}, "4 8"),
    ],
)
def test_entries_choose_images(numbered, tmp_path, options, left):
    # Scene 5 goes from 2 to 4: the frame 3 stands in no row and is left out with it.
    table = tmp_path / "pairs.csv"
    table.write_text("scene,low,high\n5,images/2.png,images/4.png\n7,images/6.png,images/8.png\n")
    options = {key: [entry.replace("PAIRS.csv", str(table)) for entry in value] for key, value in options.items()}
    kept = files.select(numbered, tmp_path / "set", **options)
    assert [path.stem for path in kept] == left.split()


def test_a_csv_without_scenes_names_only_its_images(numbered, tmp_path):
    (tmp_path / "list.csv").write_text("low,high\n2.png,4.png\n")
    kept = files.select(numbered, tmp_path / "set", include=[str(tmp_path / "list.csv")])
    assert [path.stem for path in kept] == ["2", "4"]


def test_an_entry_that_names_nothing_is_an_error(numbered, tmp_path):
    with pytest.raises(ValueError, match=r"`exclude` must name images of .* Received: '77-80', which names"):
        files.select(numbered, tmp_path / "set", exclude=["77-80"])
    with pytest.raises(ValueError, match=r"must leave an image\. Received: 9 images, none left"):
        files.select(numbered, tmp_path / "set", exclude=["*"])
    (tmp_path / "list.csv").write_text("low,high\n2.png,4.png\n")
    with pytest.raises(ValueError, match=r"must have the column asked for\. Received: 'dark'"):
        files.select(numbered, tmp_path / "set", exclude=[f"{tmp_path / 'list.csv'}:dark"])


def test_jpeg_pixels_are_bit_equal_to_tensorflow_integer_accurate(tmp_path, rng):
    noise = cv2.GaussianBlur(rng.integers(0, 256, (65, 83, 3), dtype=np.uint8), (5, 5), 2)
    path = tmp_path / "x.jpg"
    Image.fromarray(noise).save(path, quality=85)
    expected = tf.io.decode_jpeg(path.read_bytes(), dct_method="INTEGER_ACCURATE").numpy()
    np.testing.assert_array_equal(files.read_pixels(path), expected)


def test_grey_alpha_palette_and_turned_images_become_upright_rgb(tmp_path):
    Image.new("L", (6, 4), 7).save(tmp_path / "grey.png")
    Image.new("RGBA", (6, 4), (1, 2, 3, 0)).save(tmp_path / "alpha.png")
    Image.new("RGB", (6, 4), (1, 2, 3)).quantize().save(tmp_path / "palette.png")
    turned = Image.new("RGB", (6, 4), (9, 9, 9))
    exif = turned.getexif()
    exif[0x0112] = 6
    turned.save(tmp_path / "turned.jpg", exif=exif)
    assert (files.read_pixels(tmp_path / "grey.png") == 7).all()
    assert (files.read_pixels(tmp_path / "alpha.png") == [1, 2, 3]).all()
    assert files.read_pixels(tmp_path / "palette.png").shape == (4, 6, 3)
    assert files.read_pixels(tmp_path / "turned.jpg").shape == (6, 4, 3)


def test_sixteen_bits_are_rounded_to_eight(tmp_path):
    cv2.imwrite(str(tmp_path / "x.png"), np.full((4, 6, 3), 257 * 7 + 200, np.uint16))
    pixels = files.read_pixels(tmp_path / "x.png")
    assert pixels.dtype == np.uint8 and (pixels == 8).all()


def test_a_damaged_image_is_named(tmp_path, rng):
    path = tmp_path / "x.png"
    Image.fromarray(rng.integers(0, 256, (40, 40, 3), dtype=np.uint8)).save(path)
    path.write_bytes(path.read_bytes()[:300])
    with pytest.raises(ValueError, match=r"x\.png: "):
        files.read_pixels(path)


def test_resize_squeezes_to_the_square_by_lanczos(rng):
    image = rng.integers(0, 256, (30, 50, 3), dtype=np.uint8)
    fitted = files.fit(image, 16, mode="resize")
    assert fitted.shape == (16, 16, 3)
    reference = tf.image.resize(image, (16, 16), "lanczos3", antialias=True).numpy()
    assert np.abs(fitted - np.clip(reference, 0, 255)).max() <= 1.01
    assert files.fit(fitted, 16, mode="resize") is fitted


@pytest.mark.parametrize(("shape", "expected"), [((30, 50), (30, 50)), ((8, 50), (16, 100)), ((5, 5), (16, 16))])
def test_crop_mode_only_enlarges_what_is_too_small(rng, shape, expected):
    image = rng.integers(0, 256, (*shape, 3), dtype=np.uint8)
    assert files.fit(image, 16, mode="crop").shape == (*expected, 3)


def test_only_dark_images_can_be_taken(tmp_path):
    paths = [_save(tmp_path / f"{value}.png", value=value) for value in (10, 51, 52, 200)]
    assert files.select_dark(paths, 1.0) == paths
    assert files.select_dark(paths, 0.2) == paths[:2]
    with pytest.raises(ValueError, match=r"the darkest of 4 images has a mean level of 0\.039"):
        files.select_dark(paths, 0.01)
