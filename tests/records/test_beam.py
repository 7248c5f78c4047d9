from __future__ import annotations

import os
import pathlib
import subprocess
import sys

import pytest

from tfllv.records import coco, convert, detection, files, problems, shards

ROOT = pathlib.Path(__file__).parents[2]


def contents(folder):
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir()) if path.is_file()}


def tool(tree, folder, *words):
    command = [sys.executable, str(ROOT / "tools" / "create_coco_tf_record.py"), "--include_masks"]
    command += ["--train_image_dir", str(tree / "images"), "--train_annotations_file", str(tree / "instances.json")]
    command += ["--output_dir", str(folder), "--num_shards", "3", *words]
    return subprocess.run(command, capture_output=True, text=True, env={**os.environ, "PYTHONPATH": str(ROOT)})


def test_beams_direct_runner_writes_the_same_bytes(coco_tree, tmp_path):
    pytest.importorskip("apache_beam", reason="Apache Beam is an extra")
    assert tool(coco_tree, tmp_path / "local", "--workers", "2").returncode == 0
    run = tool(coco_tree, tmp_path / "beam", "--runner", "beam", "--beam_options", "--runner=DirectRunner")
    assert run.returncode == 0, run.stderr
    assert contents(tmp_path / "local") == contents(tmp_path / "beam")
    assert not list((tmp_path / "beam").glob(".*")), "no task files are left"


def test_a_set_on_a_remote_store_is_read_and_written(coco_tree, tmp_path, monkeypatch):
    """A folder of this machine under a URL of its own, through Beam's interface to stores."""
    pytest.importorskip("apache_beam", reason="Apache Beam is an extra")
    from apache_beam.io import filesystems, localfilesystem

    class Store(localfilesystem.LocalFileSystem):
        @classmethod
        def scheme(cls):
            return "store"

        def _local(self, path):
            return str(tmp_path / path.removeprefix("store://"))

        def open(self, path, *words, **options):
            return super().open(self._local(path), *words, **options)

        def create(self, path, *words, **options):
            os.makedirs(os.path.dirname(self._local(path)), exist_ok=True)
            return super().create(self._local(path), *words, **options)

        def exists(self, path):
            return super().exists(self._local(path))

        def delete(self, paths):
            return super().delete([self._local(path) for path in paths])

        def rename(self, sources, targets):
            return super().rename(*([self._local(path) for path in each] for each in (sources, targets)))

        def match(self, patterns, limits=None):
            return super().match([self._local(pattern) for pattern in patterns], limits)

    assert filesystems.FileSystems.get_filesystem("store://x").scheme() == "store"
    items, _ = coco.read_coco(coco_tree / "instances.json", "store://coco/images", problems.Report(), masks=True)
    plan, build = convert.SetPlan("t.record", items), detection.DetectionBuilder(include_masks=True)
    options = convert.RunOptions(workers=1, num_shards=3)
    convert.convert([plan], "store://out", build, source={}, options=options, say=print)
    found = contents(tmp_path / "out")
    assert len(found) == 4 and not list((tmp_path / "out" / ".t.record.partial").glob("*"))
    assert tool(coco_tree, tmp_path / "local").returncode == 0
    local = contents(tmp_path / "local")
    for index in range(3):
        assert found[f"t.record-0000{index}-of-00003"] == local[f"coco_train.record-0000{index}-of-00003"]
    assert shards.check("store://out", shards.read_manifest("store://out", "t.record")) == []


def test_a_task_file_that_was_changed_is_not_unpickled(tmp_path):
    path = tmp_path / "x.task"
    path.write_bytes(b"cos\nsystem\n(S'touch " + str(tmp_path / "executed").encode() + b"'\ntR.")
    with pytest.raises(ValueError, match="was changed"):
        convert.run_task_file((str(path), "0" * 64))
    assert not (tmp_path / "executed").exists()


def test_without_beam_the_way_out_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "apache_beam", None)
    monkeypatch.setitem(sys.modules, "apache_beam.io.filesystems", None)
    with pytest.raises(ValueError, match=r"tfllv\[beam\]"):
        files.read("gs://bucket/file")
    with pytest.raises(ValueError, match=r"tfllv\[beam\]"):
        convert._run_beam([], convert.RunOptions(runner="beam"), print)


def test_paths_of_stores():
    assert files.join("gs://b/a/", "x") == "gs://b/a/x" and files.parent("gs://b/a/x") == "gs://b/a"
    assert files.is_remote("s3://b") and not files.is_remote("/a//b") and not files.is_remote("C:/x")
