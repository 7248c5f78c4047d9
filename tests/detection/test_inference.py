"""Inference reads every picture, finds in it what is there, and draws and saves it; TFOD is not needed."""

from __future__ import annotations

import importlib.util
import json
import pathlib
import subprocess
import sys

import cv2
import numpy as np
import pytest
from PIL import Image

from tfllv.detection import detector, inference, results
from tfllv.detection.detector import Found, ImageMasks
from tfllv.inputs import image_files

ROOT = pathlib.Path(__file__).parents[2]
NAMES = {1: "Lamp", 2: "Moon"}
LABEL_MAP = 'item { id: 1 name: "Lamp" }\nitem { id: 2 name: "Moon" }\n'


def tool(*words):
    spec = importlib.util.spec_from_file_location("run_inference", ROOT / "tools" / "run_inference.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.main([str(word) for word in words])


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """A SavedModel with the signature of TFOD's exporter that boxes what is bright: class 2, score 0.9, a full mask.

    Behind it stand a detection of score 0.2 and class 3, which the label map lacks, and padding.
    """
    import tensorflow as tf

    @tf.function(input_signature=[tf.TensorSpec([1, None, None, 3], tf.uint8, "input_tensor")])
    def detect(input_tensor):
        bright = tf.reduce_min(input_tensor[0], axis=-1) > 150
        sides = []
        for axis in (1, 0):
            places = tf.cast(tf.where(tf.reduce_any(bright, axis=axis))[:, 0], tf.float32)
            size = tf.cast(tf.shape(bright)[1 - axis], tf.float32)
            sides += [tf.reduce_min(places) / size, (tf.reduce_max(places) + 1) / size]
        box = tf.stack([sides[0], sides[2], sides[1], sides[3]])
        return {
            "detection_boxes": tf.stack([box, [0.0, 0.0, 0.1, 0.1], [0.0, 0.0, 0.0, 0.0]])[None],
            "detection_classes": tf.constant([[2.0, 3.0, 1.0]]),
            "detection_scores": tf.constant([[0.9, 0.2, 0.0]]),
            "detection_masks": tf.ones([1, 3, 5, 5]),
            "num_detections": tf.constant([2.0]),
        }

    folder = tmp_path_factory.mktemp("exported")
    module = tf.Module()
    module.detect = detect
    tf.saved_model.save(module, str(folder / "saved_model"), signatures=detect.get_concrete_function())
    (folder / "label_map.pbtxt").write_text(LABEL_MAP)
    return folder


def scene(height=40, width=60, box=(10, 20, 30, 50)):
    """A dark picture with a bright object at rows 10 to 29, columns 20 to 49; and its normalised box."""
    pixels = np.full((height, width, 3), 30, np.uint8)
    pixels[box[0] : box[2], box[1] : box[3]] = 200
    return pixels, np.array(box) / (height, width, height, width)


@pytest.fixture
def photos(tmp_path):
    """One scene as every type that is read, in a folder with a sub-folder, beside files that cannot be read."""
    folder = tmp_path / "photos"
    (folder / "sub").mkdir(parents=True)
    pixels, _ = scene()
    for suffix in ("jpg", "jpeg", "png", "webp", "bmp", "tif", "tiff"):
        image_files.write_image(folder / f"plain.{suffix}", pixels)
    image_files.write_image(folder / "sub" / "plain.jpg", pixels)
    image = Image.fromarray(pixels)
    image.convert("L").save(folder / "grey.png")
    image.convert("RGBA").save(folder / "rgba.png")
    image.convert("CMYK").save(folder / "cmyk.jpg")
    image.convert("P").save(folder / "palette.png")
    cv2.imwrite(str(folder / "deep.png"), pixels.astype(np.uint16) * 257)
    exif = Image.Exif()
    exif[274] = 6  # stored lying on its side
    image.transpose(Image.Transpose.ROTATE_90).save(folder / "turned.jpg", exif=exif)
    return folder


def test_every_image_type_is_read_upright_and_its_object_found_and_drawn(model, photos, tmp_path, capsys):
    out = tmp_path / "found"
    words = ["--images_folder_dir", photos, "--model_dir", model, "--save_detection", "--save_path", out]
    assert tool(*words) == 0
    assert capsys.readouterr().out.startswith("14 objects in 14 images in ")
    saved = results.read(out / "detections.json")
    assert saved.label_map == {1: "Lamp", 2: "Moon", 3: "class 3"}
    assert {image.file for image in saved.images} == {str(p.relative_to(photos)) for p in photos.rglob("*.*")}
    pixels, box = scene()
    for image in saved.images:
        assert (image.height, image.width) == pixels.shape[:2], image.file
        assert image.classes.tolist() == [2, 3] and image.scores.round(6).tolist() == [0.9, 0.2], image.file
        # Chroma at half the resolution moves the edge of a JPEG's or a WebP's object by a pixel.
        assert np.abs(image.boxes[0] - box).max() <= 1.01 / 40, image.file
        drawn = image_files.read_image(out / image.file).pixels
        assert drawn.shape == pixels.shape
        assert (drawn != image_files.read_image(photos / image.file).pixels).any()


def test_masks_are_drawn_and_saved_as_run_lengths(model, photos, tmp_path):
    from pycocotools import mask as coco_mask

    tool("--images_folder_dir", photos / "sub", "--model_dir", model, "--save_path", tmp_path / "found")
    (image,) = results.read(tmp_path / "found" / "detections.json").images
    ymin, xmin, ymax, xmax = (image.boxes[0] * (40, 60, 40, 60)).round().astype(int)
    decoded = coco_mask.decode(image.masks[0])
    assert decoded.shape == (40, 60)
    assert decoded[ymin + 1 : ymax - 1, xmin + 1 : xmax - 1].all()
    assert decoded.sum() <= (ymax - ymin + 1) * (xmax - xmin + 1)


def test_without_save_detection_only_the_json_file_is_written(model, photos, tmp_path):
    out = tmp_path / "found"
    assert tool("--images_folder_dir", photos, "--model_dir", model / "saved_model", "--save_path", out) == 0
    assert [path.name for path in out.iterdir()] == ["detections.json"]
    assert tool("--images_folder_dir", photos, "--model_dir", model, "--save_path", out, "--save_detection=False") == 2


def test_bad_files_are_named_and_skipped_and_the_rest_is_done(model, photos, tmp_path, capsys):
    data = (photos / "plain.jpg").read_bytes()
    (photos / "cut.jpg").write_bytes(data[: len(data) // 2])
    (photos / "empty.png").write_bytes(b"")
    (photos / "text.jpg").write_text("no picture")
    (photos / "notes.txt").write_text("no picture either, by its name")
    out = tmp_path / "found"
    words = ["--images_folder_dir", photos, "--model_dir", model, "--save_detection", "--save_path", out]
    assert tool(*words) == 1
    said = capsys.readouterr()
    lines = [line for line in said.err.splitlines() if line.startswith(str(photos))]
    assert [pathlib.Path(line.split(": ")[0]).name for line in lines] == ["cut.jpg", "empty.png", "text.jpg"]
    assert "14 images" in said.out and said.out.splitlines()[0].endswith("; 3 failed")
    assert len(results.read(out / "detections.json").images) == 14
    assert not (out / "cut.jpg").exists()


@pytest.mark.parametrize("size", [(1, 1), (1, 500), (500, 2), (3, 3), (700, 900)])
def test_pictures_of_any_size_are_looked_at(model, tmp_path, size):
    height, width = size
    pixels = np.full((*size, 3), 30, np.uint8)
    pixels[: (height + 1) // 2, : (width + 1) // 2] = 200
    found = detector.Detector(model)(pixels)
    expected = [0, 0, (height + 1) // 2 / height, (width + 1) // 2 / width]
    assert np.abs(found.boxes[0] - expected).max() < 1e-6


def test_the_score_and_number_of_what_is_drawn_can_be_chosen_and_all_is_saved(model, photos, tmp_path):
    drawn = {}
    for name, words in {"all": ["--min_score", "0"], "none": ["--max_boxes", "0"], "default": []}.items():
        out = tmp_path / name
        tool("--images_folder_dir", photos, "--model_dir", model, "--save_detection", "--save_path", out, *words)
        drawn[name] = image_files.read_image(out / "plain.png").pixels
        assert len(results.read(out / "detections.json").images[0].scores) == 2
    assert (drawn["none"] == scene()[0]).all()
    assert (drawn["all"][:4, :6] != 30).any() and (drawn["default"][:2, :2] == 30).all()


def test_pictures_are_enhanced_before_the_detector_sees_them(model, tmp_path):
    pixels, box = scene()
    (tmp_path / "photos").mkdir()
    image_files.write_image(tmp_path / "photos" / "dark.png", pixels // 2)  # nothing in it is bright enough
    words = ["--images_folder_dir", tmp_path / "photos", "--model_dir", model, "--save_detection"]
    assert tool(*words, "--save_path", tmp_path / "found", "--enhance", "gamma") == 0
    (image,) = results.read(tmp_path / "found" / "detections.json").images
    assert np.abs(image.boxes[0] - box).max() < 1e-6
    assert image_files.read_image(tmp_path / "found" / "dark.png").pixels[20, 5].mean() > 40


def test_an_earlier_run_is_replaced_only_where_asked_and_never_read(model, photos, tmp_path, capsys):
    out = photos / "found"
    words = ["--images_folder_dir", photos, "--model_dir", model, "--save_detection", "--save_path", out]
    assert tool(*words) == 0
    assert tool(*words) == 2 and "--overwrite" in capsys.readouterr().err
    assert tool(*words, "--overwrite") == 0
    assert len(results.read(out / "detections.json").images) == 14


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--images_folder_dir", "nowhere"], "--images_folder_dir"),
        (["--model_dir", "."], "no saved_model/saved_model.pb is in it"),
        (["--label_map_path", "absent.pbtxt"], "absent.pbtxt"),
        (["--save_path", "photos"], "--save_path must not be --images_folder_dir"),
        (["--enhance", "claeh"], "did you mean 'clahe'?"),
        (["--min_score", "30"], "--min_score must be from 0 to 1"),
    ],
)
def test_wrong_use_is_one_line_and_exit_2(model, photos, monkeypatch, capsys, more, message):
    monkeypatch.chdir(photos.parent)
    words = ["--images_folder_dir", "photos", "--model_dir", model, "--save_path", "found"]
    assert tool(*words, *more) == 2
    said = capsys.readouterr().err
    assert message in said and said.count("\n") == 1
    assert not (photos.parent / "found").exists()


def test_what_is_no_detector_is_refused(tmp_path):
    import tensorflow as tf

    module = tf.Module()
    module.call = tf.function(lambda x: {"image": x}, input_signature=[tf.TensorSpec([1], tf.float32)])
    tf.saved_model.save(module, str(tmp_path / "saved_model"), signatures=module.call.get_concrete_function())
    with pytest.raises(ValueError, match=r"a detector gives detection_boxes.*Found: image"):
        detector.Detector(tmp_path)
    (tmp_path / "saved_model" / "saved_model.pb").write_bytes(b"broken")
    with pytest.raises(ValueError, match="not a SavedModel that loads"):
        detector.Detector(tmp_path)


def test_tfod_is_not_imported(model, photos, tmp_path):
    code = (
        "import sys, runpy; sys.argv = sys.argv[1:]\n"
        "try: runpy.run_path(sys.argv[0], run_name='__main__')\n"
        "except SystemExit as stop: assert stop.code == 0\n"
        "print([name for name in sys.modules if name.split('.')[0] in ('object_detection', 'tf_keras', 'tf_slim')])"
    )
    words = [ROOT / "tools" / "run_inference.py", "--images_folder_dir", photos / "sub", "--model_dir", model]
    words += ["--save_detection", "true", "--save_path", tmp_path / "found"]
    run = subprocess.run([sys.executable, "-c", code, *words], capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr[-2000:]
    assert run.stdout.splitlines()[-1] == "[]"
    assert json.loads((tmp_path / "found" / "detections.json").read_text())["images"][0]["file"] == "plain.jpg"


def test_the_padding_after_the_last_detection_is_left_out():
    outputs = {
        "detection_boxes": np.zeros((1, 4, 4)),
        "detection_classes": np.array([[1, 2, 1, 1]]),
        "detection_scores": np.array([[0.5, 0.4, 0, 0]]),
        "num_detections": np.array([2.0]),
    }
    found = Found.of(outputs)
    assert found.classes.tolist() == [1, 2] and found.masks is None
    with pytest.raises(ValueError, match="num_detections"):
        Found.of({key: value for key, value in outputs.items() if key != "num_detections"})


@pytest.mark.parametrize("size", [(37, 53), (1, 9), (80, 2)])
def test_masks_are_pasted_as_tfod_pastes_them(rng, size):
    """TFOD's `reframe_box_masks_to_image_masks` is this call of TensorFlow's (utils/ops.py), then a cut at 0.5."""
    import tensorflow as tf

    low = rng.uniform(-0.2, 0.7, (12, 2))
    boxes = np.concatenate([low, low + rng.uniform(0.001, 0.6, (12, 2))], axis=1).astype(np.float32)
    masks = rng.random((12, 7, 5), np.float32)
    ymin, xmin, ymax, xmax = boxes.T
    height, width = np.maximum(ymax - ymin, 1e-4), np.maximum(xmax - xmin, 1e-4)
    frame = np.stack([-ymin / height, -xmin / width, (1 - ymin) / height, (1 - xmin) / width], axis=1)
    expected = tf.image.crop_and_resize(masks[..., None], frame, np.arange(12), size)[..., 0].numpy()
    pasted = ImageMasks(Found(boxes, np.ones(12, int), np.ones(12), masks), *size)
    assert len(pasted) == 12
    for mask, value in zip(pasted, expected, strict=True):
        certain = np.abs(value - 0.5) > 1e-4
        assert mask.dtype == bool and mask.shape == size
        assert (mask == (value > 0.5))[certain].all()


def test_a_run_that_is_stopped_by_a_full_disk_leaves_no_json_file(model, photos, tmp_path, monkeypatch):
    def refuse(*args):
        raise OSError("no space left on device")

    monkeypatch.setattr(results, "write", refuse)
    pictures = inference.find_pictures(photos, tmp_path / "found")
    with pytest.raises(OSError, match="no space"):
        inference.run(detector.Detector(model), pictures, photos, tmp_path / "found", NAMES)
    assert not (tmp_path / "found" / "detections.json").exists()
