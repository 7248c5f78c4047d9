"""Tests of detectors as files of other runtimes, on a graph as TFOD's: a loop over pictures, suppressed boxes."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from tfllv.export import detection, detector_files, float64, litert, onnx, straight, verify

NAMES = (*detection.OUTPUTS, *detector_files.RAW)


class SmallSSD(tf.Module):
    """A detector of 16 boxes and 2 classes whose pictures are prepared one by one, as TFOD's exporter does."""

    def __init__(self, loops=1, two_stage=False, strange=False, growing=False, method="bilinear"):
        super().__init__()
        self._loops, self._two_stage, self._strange = loops, two_stage, strange
        self._growing, self._method = growing, method
        self._weight = tf.Variable(np.random.default_rng(0).normal(size=(2, 2, 3, 2)).astype(np.float32))

    @tf.function(input_signature=[tf.TensorSpec([1, None, None, 3], tf.uint8, name="input_tensor")])
    def detect(self, input_tensor):
        def prepare(picture):
            picture = tf.cast(picture, tf.float32)[tf.newaxis] / 255 - 0.4
            return tf.image.resize(picture, (8, 8), self._method)[0], tf.shape(picture)[1:]

        spec = (tf.TensorSpec([8, 8, 3]), tf.TensorSpec([3], tf.int32))
        prepared = [tf.map_fn(prepare, input_tensor, fn_output_signature=spec) for _ in range(self._loops)]
        prepared = prepared or [tuple(each[None] for each in prepare(input_tensor[0]))]
        images, sizes = tf.add_n([images for images, _ in prepared]), prepared[0][1]
        images -= 0.5 * tf.reduce_mean(images, (1, 2), keepdims=True)
        if self._strange:
            images = tf.math.igamma(2.0, images + 3)
        raw = tf.nn.sigmoid(tf.reshape(tf.nn.conv2d(images, self._weight, 2, "SAME"), (1, 16, 2)))
        start = tf.reshape(tf.stack(tf.meshgrid(tf.range(4.0), tf.range(4.0), indexing="ij"), -1), (16, 2)) / 4
        boxes = tf.concat([start, start + 0.3], 1)
        found = [tf.image.non_max_suppression(boxes, raw[0, :, index], 4, 0.1) for index in range(2)]
        chosen = tf.concat([tf.pad(one, [[0, 4 - tf.shape(one)[0]]]) for one in found], 0)
        if self._growing:  # the same, box by box
            _, chosen = tf.while_loop(
                lambda index, boxes: index < 8,
                lambda index, boxes: (index + 1, tf.concat([boxes, chosen[index][None]], 0)),
                (0, tf.zeros([0], tf.int32)),
                shape_invariants=(tf.TensorShape([]), tf.TensorShape([None])),
            )
            chosen = tf.ensure_shape(chosen, [8])
        classes = tf.repeat(tf.constant([1.0, 2.0]), 4)
        second = {}
        if self._two_stage:
            crops = tf.image.crop_and_resize(images, tf.gather(boxes, chosen), tf.zeros([8], tf.int32), [3, 2])
            second = {"detection_masks": tf.sigmoid(crops[None, ..., 0]), "mask_predictions": crops[:, None, ..., 0]}
            second["proposal_boxes_normalized"] = boxes[None]
        return second | {
            "detection_boxes": tf.gather(boxes, chosen)[None],
            "detection_scores": tf.gather_nd(raw[0], tf.stack([chosen, tf.cast(classes, tf.int32) - 1], -1))[None],
            "detection_classes": classes[None],
            "num_detections": tf.constant([8.0]) + 0 * tf.cast(sizes[0, :1], tf.float32),
            "raw_detection_boxes": boxes[None],
            "raw_detection_scores": raw,
        }


@pytest.fixture
def save(tmp_path):
    """Saves a detector as TFOD's exporter would and loads it."""

    def save(**options):
        ssd = SmallSSD(**options)
        tf.saved_model.save(ssd, str(tmp_path / "ssd" / "saved_model"), signatures={"serving_default": ssd.detect})
        return detection.load(tmp_path / "ssd")

    return save


def test_the_loop_over_one_picture_becomes_its_body(save):
    source = save()
    function = straight.straighten(source.frozen, NAMES)
    kinds = {op.type for op in function.graph.get_operations()}
    assert not {kind for kind in kinds if "While" in kind or "TensorList" in kind or "Resize" in kind}
    axes = [tf.get_static_value(op.inputs[1]) for op in function.graph.get_operations() if op.type == "Mean"]
    assert sorted(axes) == [1, 2]
    for shape in ((9, 7, 3), (30, 41, 3)):
        picture = np.random.default_rng(1).integers(0, 256, shape).astype(np.uint8)
        found = function(image=tf.constant(picture[None] / np.float32(255)))
        expected = source.loaded.signatures["serving_default"](input_tensor=tf.constant(picture[None]))
        assert sorted(found) == sorted(set(NAMES) & set(expected))
        for name, value in found.items():
            np.testing.assert_allclose(value, expected[name], rtol=0, atol=1e-6, err_msg=name)


def test_in_float64_it_says_the_same_with_more_digits(save):
    source = save(two_stage=True)
    names = [*NAMES, "mask_predictions", detector_files.PROPOSALS]
    function = float64.widen(source.frozen, names)
    picture = np.random.default_rng(1).integers(0, 256, (1, 30, 41, 3)).astype(np.uint8)
    expected, found = source.run(picture), function(image=tf.constant(picture / np.float32(255)))
    assert found.keys() == expected.keys()
    for name, value in found.items():
        assert value.dtype == tf.float64
        np.testing.assert_allclose(value, expected[name], rtol=0, atol=1e-6, err_msg=name)
    scores = found["raw_detection_scores"].numpy()
    assert 0 < np.abs(scores - np.float32(scores)).max() < 1e-7


@pytest.mark.parametrize(
    "options",
    [{"loops": 0, "growing": True}, {"growing": True}, {"loops": 0}, {"method": "bicubic"}, {"method": "area"}],
    ids=str,
)
def test_other_loops_and_resizers_say_the_same(save, options):
    source = save(**options)
    detector = source.frozen
    assert detector.once == (options.get("loops", 1) == 1 and not options.get("growing"))
    picture = np.random.default_rng(1).integers(0, 256, (1, 30, 41, 3)).astype(np.uint8)
    expected = source.run(picture)
    for function in (straight.straighten(detector, NAMES), float64.widen(detector, NAMES)):
        for name, value in function(image=tf.constant(picture / np.float32(255))).items():
            np.testing.assert_allclose(value, expected[name], rtol=0, atol=1e-5, err_msg=name)


def test_what_follows_from_what_is_given_is_computed_from_it(save):
    source = save()
    detector = source.frozen
    picture = np.random.default_rng(1).integers(0, 256, (1, 30, 41, 3)).astype(np.uint8) / np.float32(255)
    free = float64.widen(detector, NAMES)(image=tf.constant(picture))
    given = float64.widen(detector, NAMES, ["raw_detection_scores"])
    same = given(image=tf.constant(picture), raw_detection_scores=tf.cast(free["raw_detection_scores"], tf.float32))
    np.testing.assert_array_equal(same["detection_boxes"], free["detection_boxes"])
    turned = tf.cast(free["raw_detection_scores"][:, ::-1], tf.float32)
    other = given(image=tf.constant(picture), raw_detection_scores=turned)
    assert np.abs(other["detection_boxes"] - free["detection_boxes"]).max() > 0.2
    np.testing.assert_array_equal(other["raw_detection_scores"], free["raw_detection_scores"])


@pytest.mark.parametrize("centres", [False, True])
@pytest.mark.parametrize("size", [(8, 8), (9, 7), (3, 20), (1, 1)])
def test_resizing_is_that_of_tensorflow(size, centres):
    images = np.random.default_rng(0).random((2, 9, 7, 5), np.float32)
    expected = tf.raw_ops.ResizeBilinear(images=images, size=size, half_pixel_centers=centres)
    found = straight.resize(tf.constant(images), tf.constant(size), centres=centres)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-6)


def test_a_detector_becomes_a_litert_file_that_finds_the_same(save, in_process, tmp_path):
    interpreter = pytest.importorskip("ai_edge_litert.interpreter")
    source = save()
    path, agreement = litert.export_detector(source, "night", tmp_path / "phone")
    assert path.name == "night-float32.tflite" and "`raw_detection_scores`" in agreement
    run = interpreter.Interpreter(model_path=str(path)).get_signature_runner("serving_default")
    picture = np.random.default_rng(1).integers(0, 256, (20, 33, 3)).astype(np.uint8)
    found = run(image=picture[None] / np.float32(255))
    for name, value in source.detect(tf.constant(picture)).items():
        np.testing.assert_allclose(found[name][0], value, atol=1e-5, err_msg=name)
    with pytest.raises(FileExistsError):
        litert.export_detector(source, "night", tmp_path / "phone")


def test_a_detector_of_two_stages_becomes_one_too(save, in_process, tmp_path):
    interpreter = pytest.importorskip("ai_edge_litert.interpreter")
    source = save(two_stage=True)
    path, agreement = litert.export_detector(source, "night", tmp_path / "phone")
    assert "night `detection_boxes` 24 of 24 found again, " in agreement
    runner = interpreter.Interpreter(model_path=str(path))
    assert "CropAndResize" not in {each["op_name"] for each in runner._get_ops_details()}
    picture = np.random.default_rng(1).integers(0, 256, (20, 33, 3)).astype(np.uint8)
    found = runner.get_signature_runner("serving_default")(image=picture[None] / np.float32(255))
    masks = source.detect(tf.constant(picture))["detection_masks"]
    np.testing.assert_allclose(found["detection_masks"][0], masks, atol=1e-5)


@pytest.mark.parametrize("options", [{}, {"two_stage": True}, {"loops": 2}])
def test_a_detector_becomes_an_onnx_file_that_finds_the_same(save, in_process, tmp_path, options):
    for package in ("tf2onnx", "onnxruntime"):
        pytest.importorskip(package, reason=f"{package} not installed (extra `[onnx]`)")
    path, agreement = onnx.export_detector(save(**options), "night", tmp_path / "web")
    assert path.name == "night.onnx" and "night `detection_boxes` 24 of 24 found again, " in agreement


@pytest.mark.parametrize("size", [(1, 1), (1, 3), (4, 2), (14, 14)])
def test_crops_are_those_of_tensorflow(size):
    rng = np.random.default_rng(0)
    images = rng.random((2, 9, 7, 5), np.float32)
    boxes = rng.uniform(-0.3, 1.3, (40, 4)).astype(np.float32)  # partly outside, some turned over
    boxes[:4] = [[0, 0, 1, 1], [1, 1, 0, 0], [0.5, 0.5, 0.5, 0.5], [0, 0.2, 1, 0.2]]
    picture = rng.integers(0, 2, 40).astype(np.int32)
    expected = tf.image.crop_and_resize(images, boxes, picture, size)
    found = straight.crop(*map(tf.constant, (images, boxes, picture, size)))
    np.testing.assert_allclose(found, expected, atol=1e-6)


def test_other_crops_are_refused(save, monkeypatch, tmp_path):
    crop = tf.image.crop_and_resize
    monkeypatch.setattr(tf.image, "crop_and_resize", lambda *args: crop(*args, method="nearest"))
    with pytest.raises(ValueError, match="`CropAndResize` must be bilinear"):
        litert.export_detector(save(two_stage=True), "night", tmp_path / "phone")


def test_boxes_are_compared_by_what_is_found_again():
    rng = np.random.default_rng(0)
    truth = {"boxes": rng.random((20, 4), np.float32), "scores": rng.random(20, np.float32)}
    turned = {name: values[::-1] for name, values in truth.items()}
    assert verify.compare_boxes("night", [(turned, truth)]) == "night 20 of 20 found again"
    other = {"boxes": truth["boxes"], "scores": truth["scores"] + np.float32(0.01) * (np.arange(20) < 6)}
    with pytest.raises(verify.MismatchError, match="night: 14 of 20 found; expected 75% of them again"):
        verify.compare_boxes("night", [(other, truth)])
    more = {name: np.concatenate([values, values, values]) for name, values in truth.items()}
    with pytest.raises(verify.MismatchError, match="night: 20 of 60 found; expected 75% of them again"):
        verify.compare_boxes("night", [(more, truth)])
    other["scores"][0] = np.nan
    with pytest.raises(verify.MismatchError, match="night `scores`: 1 values are NaN or infinite"):
        verify.compare_boxes("night", [(other, truth)])


def test_a_conversion_that_loses_the_weights_is_not_written(save, in_process, tmp_path, monkeypatch):
    pytest.importorskip("ai_edge_litert.interpreter")
    source = save()
    whole = litert.convert_detector(source)
    weights = np.float32(np.random.default_rng(0).normal(size=(2, 2, 3, 2))).transpose(3, 0, 1, 2).tobytes()
    assert weights in whole
    monkeypatch.setattr(litert, "convert_detector", lambda source: whole.replace(weights, bytes(len(weights))))
    with pytest.raises(verify.MismatchError, match=r"night `detection_boxes`: \d+ of 24 found"):
        litert.export_detector(source, "night", tmp_path / "phone")
    assert not (tmp_path / "phone").exists()


@pytest.mark.parametrize("wrong", ["detection_masks", "raw_detection_boxes", "proposal_boxes_normalized"])
def test_a_file_that_computes_something_else_is_not_written(save, in_process, tmp_path, monkeypatch, wrong):
    source = save(two_stage=True)
    images = [picture[None] for picture in verify.photographs()]
    right = [{name: value.numpy() for name, value in source.run(picture).items()} for picture in images]
    del right[0]["mask_predictions"], right[1]["mask_predictions"], right[2]["mask_predictions"]
    monkeypatch.setattr(verify, "run_fresh", lambda calls: [right])
    made = tmp_path / "made"
    made.write_bytes(bytes(200))
    agreement = detector_files.publish(source, "night", made, tmp_path / "night.onnx", kind="onnx")
    assert "`detection_masks` within" in agreement and agreement.count("found again") == 2
    kept = right[2][wrong]
    right[2][wrong] = np.full_like(kept, np.nan)
    with pytest.raises(verify.MismatchError, match=f"night `{wrong}`: .* values are NaN"):
        detector_files.publish(source, "night", made, tmp_path / "other.onnx", kind="onnx")
    right[2][wrong] = kept + np.float32(1e-3)
    with pytest.raises(verify.MismatchError, match=f"night `{wrong}`: "):
        detector_files.publish(source, "night", made, tmp_path / "other.onnx", kind="onnx")
    del right[0][wrong]
    with pytest.raises(verify.MismatchError, match=f"expected .'{wrong}'. too"):
        detector_files.publish(source, "night", made, tmp_path / "other.onnx", kind="onnx")
    assert (tmp_path / "night.onnx").is_file() and not (tmp_path / "other.onnx").exists()


def test_a_detector_that_does_not_say_from_what_it_chose_is_compared_in_every_number(save, tmp_path, monkeypatch):
    source = save()
    images = [picture[None] for picture in verify.photographs()]
    right = [{name: value.numpy() for name, value in source.run(picture).items()} for picture in images]
    for each in right:
        for name in detector_files.RAW:
            del each[name]
    monkeypatch.setattr(verify, "run_fresh", lambda calls: [right])
    for name in detector_files.RAW:
        del source.frozen.outputs[name]
    made = tmp_path / "made"
    made.write_bytes(bytes(200))
    agreement = detector_files.publish(source, "night", made, tmp_path / "night.onnx", kind="onnx")
    assert "night `detection_boxes` within 0.0e+00" in agreement
    right[1]["detection_boxes"][0, 5, 2] += np.float32(2e-5)
    with pytest.raises(verify.MismatchError, match="night `detection_boxes`: off by"):
        detector_files.publish(source, "night", made, tmp_path / "other.onnx", kind="onnx")


def test_numbers_may_be_off_as_tensorflows_float32_is():
    exact = np.linspace(0, 1, 11)

    def off(*by):
        return [(exact + each, exact) for each in by]

    assert verify.compare_with_exact("scores", off(9e-6, 0), off(1e-6, 1e-6)).startswith("scores within 9.0e-06 of")
    verify.compare_with_exact("scores", off(3e-5, 9e-6), off(1e-5, 0))
    for found, own in [((2e-5,), (1e-6,)), ((0, 3e-5), (1e-5, 0)), ((0,), (2e-3,))]:
        with pytest.raises(verify.MismatchError, match=r"off by .* from float64 found; expected"):
            verify.compare_with_exact("scores", off(*found), off(*own))
    with pytest.raises(verify.MismatchError, match="1 values are NaN or infinite"):
        verify.compare_with_exact("scores", [(np.where(exact == 0, np.nan, exact), exact)], off(0))


def test_what_litert_has_no_kernel_for_is_named(save, tmp_path):
    with pytest.raises(ValueError, match=r"LiteRT cannot run '.*': it lacks kernels for Igamma"):
        litert.export_detector(save(strange=True), "night", tmp_path / "phone")


def test_of_several_loops_all_stay(save, in_process, tmp_path):
    pytest.importorskip("ai_edge_litert.interpreter")
    _, agreement = litert.export_detector(save(loops=2), "night", tmp_path / "phone")
    assert "24 of 24" in agreement
