from __future__ import annotations

import json

import cv2
import numpy as np
import pytest

from tfllv.records import convert, detection, salvage, schema, tfds

datasets = pytest.importorskip("tensorflow_datasets")
# TensorFlow Datasets imports modules that warn.
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning")


def quiet(line):
    pass


def build(plans, folder, **options):
    run = convert.RunOptions(workers=1)  # the mocks live in this process
    return convert.convert(plans, folder, detection.DetectionBuilder(**options), source={}, options=run, say=quiet)


def examples(builder, split, decoders=None, **options):
    """Four random examples with the fields of the set, pictures not decoded.

    The mock's own generator cannot make these: it gives the fields of one object list different lengths.
    """
    import tensorflow as tf

    assert decoders.keys() == {"image"}
    fields = builder.info.features["objects"].feature

    def generate():
        for seed in range(4):
            rng = np.random.default_rng(seed)
            picture = cv2.imencode(".jpg", rng.integers(0, 255, (20, 30, 3)).astype(np.uint8))[1].tobytes()
            objects = {key: np.zeros([3, *feature.shape], feature.np_dtype) for key, feature in fields.items()}
            objects["bbox"] = np.sort(rng.random((3, 2, 2)), axis=1).reshape(3, 4).astype(np.float32)
            objects["label"] = rng.integers(0, 20, 3)
            yield {"image": picture, "objects": objects}

    specs = {key: tf.TensorSpec([3, *feature.shape], feature.tf_dtype) for key, feature in fields.items()}
    signature = {"image": tf.TensorSpec([], tf.string), "objects": specs}
    return tf.data.Dataset.from_generator(generate, output_signature=signature)


@pytest.mark.parametrize(("name", "version"), [("coco/2017", "1.1.0"), ("voc/2012", "5.0.0")])
def test_any_detection_set_converts(tmp_path, name, version):
    folder = tmp_path / name / version
    folder.mkdir(parents=True)
    info = {"name": name.split("/")[0], "version": version, "configName": name.split("/")[1], "fileFormat": "tfrecord"}
    info["splits"] = [{"name": "train", "shardLengths": ["4"], "numBytes": "1"}]
    (folder / "dataset_info.json").write_text(json.dumps(info))
    with datasets.testing.mock_data(num_examples=4, data_dir=tmp_path, as_dataset_fn=examples):
        parts, labels = tfds.read_tfds(name, "train", num_shards=1)
        assert min(labels.values()) == 1 and len(labels) == {"coco/2017": 80, "voc/2012": 20}[name]
        outcome = build([convert.SetPlan("t.record", parts=parts)], tmp_path / "out")
    assert outcome.manifests["t.record"]["count"] == 4
    findings = salvage.verify(str(tmp_path / "out"))
    assert findings.good and findings.records == 4


class Dots(datasets.core.GeneratorBasedBuilder):
    """A detection set of seven pictures."""

    code_path = None  # as for a class of a notebook; asking the file system needs one more package
    VERSION = datasets.core.Version("1.0.0")

    def _info(self):
        objects = {"bbox": datasets.features.BBoxFeature(), "label": datasets.features.ClassLabel(names=["a", "b"])}
        features = {"image": datasets.features.Image(encoding_format="jpeg"), "image/id": np.int64}
        features |= {"objects": datasets.features.Sequence(objects)}
        return datasets.core.DatasetInfo(builder=self, features=datasets.features.FeaturesDict(features))

    def _split_generators(self, manager):
        return {"train": self._generate_examples()}

    def _generate_examples(self):
        for index in range(7):
            box = datasets.features.BBox(ymin=0.25, xmin=0.5, ymax=0.5, xmax=1.0)
            picture = np.random.default_rng(index).integers(0, 255, (20, 30, 3)).astype(np.uint8)
            yield index, {"image": picture, "image/id": index + 100, "objects": [{"bbox": box, "label": index % 2}]}


def test_a_real_set_is_read_by_stretches_and_its_pictures_are_copied(tmp_path):
    builder = Dots(data_dir=tmp_path / "tfds")
    builder.download_and_prepare()
    parts, labels = tfds.read_tfds("dots", "train", data_dir=str(tmp_path / "tfds"), num_shards=3)
    assert labels == {"a": 1, "b": 2} and [part.stop - part.start for part in parts] == [2, 2, 3]
    items = [item for part in parts for item in part]
    assert sorted(item.key for item in items) == [str(index) for index in range(100, 107)]
    build([convert.SetPlan("t.record", parts=parts)], tmp_path / "out")
    stored = {
        str(example["image/id"]): example["image"]
        for example in datasets.as_numpy(
            builder.as_dataset(split="train", decoders={"image": datasets.decode.SkipDecoding()})
        )
    }
    found = {}
    for path in sorted((tmp_path / "out").glob("t.record-*")):
        for payload, _ in salvage.read_records(path.read_bytes(), path.name):
            record = schema.parse(payload)
            found[record[schema.SOURCE_ID][0].decode()] = record[schema.ENCODED][0]
            assert record[schema.XMIN] == [0.5] and record[schema.YMAX] == [0.5] and record[schema.XMAX] == [1.0]
            assert record[schema.CLASS_TEXT] == [b"ab"[record[schema.CLASS_LABEL][0] - 1 :][:1]]
    assert found == stored
    assert (
        len(
            [
                item
                for part in tfds.read_tfds("dots", "train", data_dir=str(tmp_path / "tfds"), max_images=2)[0]
                for item in part
            ]
        )
        == 2
    )


def test_what_is_no_detection_set_is_refused(tmp_path):
    for name, split in (("no_such_set_at_all", "train"), ("coco/2017", "train")):
        with pytest.raises(ValueError, match="`tfds` must name a set and split"):
            tfds.read_tfds(name, split, data_dir=str(tmp_path))
