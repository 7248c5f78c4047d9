from __future__ import annotations

import json
import os
import pathlib
import signal
import subprocess
import sys
import time

import pytest

from tfllv.records import coco, convert, detection, files, problems, shards

ROOT = pathlib.Path(__file__).parents[2]


def contents(folder):
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir()) if path.is_file()}


def convert_coco(tree, folder, **options):
    report = problems.Report()
    items, _ = coco.read_coco(tree / "instances.json", tree / "images", report, masks=True)
    build = detection.DetectionBuilder(include_masks=True, semantic_masks=True, rows=True)
    run = convert.RunOptions(num_shards=4, **options)
    plan = convert.SetPlan("t.record", items)
    return convert.convert([plan], folder, build, source={}, report=report, options=run, say=lambda line: None)


def test_output_is_the_same_for_any_number_of_workers(coco_tree, tmp_path):
    for workers in (1, 2, 3):
        convert_coco(coco_tree, tmp_path / str(workers), workers=workers)
    assert contents(tmp_path / "1") == contents(tmp_path / "2") == contents(tmp_path / "3")
    assert sorted(contents(tmp_path / "1")) == [
        *(f"t.record-0000{index}-of-00004" for index in range(4)),
        "t.record.manifest.json",
    ]


def test_the_manifest_says_what_the_shards_are(write_numbers):
    folder = write_numbers(20)
    manifest = json.loads((folder / "n.manifest.json").read_text())
    assert manifest["count"] == 20 and manifest["options"] == {"size": 50}
    assert {"tfllv", "python", "numpy"} <= set(manifest["versions"])
    assert sorted(key for shard in manifest["shards"] for key in shard["keys"]) == sorted(map(str, range(20)))
    assert all((folder / s["name"]).stat().st_size == s["bytes"] for s in manifest["shards"])
    assert shards.check(str(folder), manifest) == []


@pytest.mark.parametrize(
    ("harm", "word"),
    [
        (lambda path: path.unlink(), "missing"),
        (lambda path: path.write_bytes(path.read_bytes()[:-60]), "short"),
        (lambda path: path.write_bytes(path.read_bytes() + b"x"), "long"),
        (lambda path: path.write_bytes(b"x" + path.read_bytes()[1:]), "altered"),
    ],
)
def test_a_harmed_shard_is_named(write_numbers, harm, word):
    folder = write_numbers(20)
    harm(folder / "n-00002-of-00004")
    lines = shards.check(str(folder), shards.read_manifest(str(folder), "n"))
    assert len(lines) == 1 and word in lines[0] and "n-00002-of-00004" in lines[0]


def test_a_set_without_its_manifest_is_not_finished(write_numbers):
    folder = write_numbers(20)
    (folder / "n.manifest.json").unlink()
    with pytest.raises(ValueError, match=r"n\.manifest\.json is missing"):
        shards.read_manifest(str(folder), "n")
    (folder / "n.manifest.json").write_text("[]")
    with pytest.raises(ValueError, match="not a manifest"):
        shards.read_manifest(str(folder), "n")


def test_a_second_run_does_nothing_and_other_options_need_overwrite(write_numbers):
    folder = write_numbers(20)
    before = contents(folder)
    times = {path.name: path.stat().st_mtime_ns for path in folder.iterdir()}
    write_numbers(20)
    assert times == {path.name: path.stat().st_mtime_ns for path in folder.iterdir()}
    with pytest.raises(ValueError, match="--overwrite"):
        write_numbers(21)
    with pytest.raises(ValueError, match="--overwrite"):
        write_numbers(20, size=51)
    assert contents(folder) == before
    write_numbers(21, num_shards=3, overwrite=True)
    assert sorted(contents(folder)) == [*(f"n-0000{i}-of-00003" for i in range(3)), "n.manifest.json"]


def test_a_harmed_set_is_made_again_without_asking(write_numbers):
    folder = write_numbers(20)
    before = contents(folder)
    (folder / "n-00001-of-00004").write_bytes(b"")
    write_numbers(20)
    assert contents(folder) == before


def test_shards_without_a_manifest_are_not_replaced_unasked(write_numbers):
    folder = write_numbers(20)
    (folder / "n.manifest.json").unlink()
    with pytest.raises(ValueError, match="without a manifest"):
        write_numbers(20)


def test_strict_publishes_nothing_and_the_work_is_kept(write_numbers):
    for strict in (True, False):
        folder = write_numbers(9, bad={4}, strict=strict)
        outcome = write_numbers.outcome
        assert [str(problem) for problem in outcome.report] == ["list:5: image: picture skipped: 4"]
        if strict:
            assert not outcome.manifests and not contents(folder)
    assert outcome.manifests["n"]["count"] == 8 and outcome.kept == 4
    assert outcome.manifests["n"]["problems"] == {"picture skipped": 1}
    assert sorted(row for (row,) in outcome.rows["n"]) == list("01235678")


def test_no_record_at_all_is_an_error(write_numbers):
    with pytest.raises(ValueError, match="no record"):
        write_numbers(2, bad={0, 1})
    with pytest.raises(ValueError, match="no usable item"):
        convert.spread([])


def test_spreading_mixes_and_moves_nothing_when_one_item_joins(numbers):
    parts = convert.spread(numbers(1000), 10)
    assert {len(part) for part in parts} == {100}
    keys = [int(item.key) for item in parts[0]]
    assert keys != sorted(keys) and max(keys) > 900 and min(keys) < 100
    order = [item.key for item in convert.spread(numbers(1000), 1)[0]]
    longer = [item.key for item in convert.spread(numbers(1001), 1)[0] if item.key != "1000"]
    assert order == longer


def test_two_items_of_one_key_are_refused(numbers):
    with pytest.raises(ValueError, match="'0' twice"):
        convert.spread(numbers(1) * 2)


def test_a_write_that_fails_leaves_nothing(tmp_path):
    def chunks():
        yield b"first"
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        files.write(str(tmp_path / "x"), chunks())
    assert list(tmp_path.iterdir()) == []


def test_a_changed_picture_is_converted_again(coco_tree, tmp_path, write_picture):
    convert_coco(coco_tree, tmp_path / "out", workers=1)
    before = contents(tmp_path / "out")
    write_picture(coco_tree / "images" / "000000000003.jpg", 43, 30, seed=99)
    with pytest.raises(ValueError, match="--overwrite"):
        convert_coco(coco_tree, tmp_path / "out", workers=1)
    convert_coco(coco_tree, tmp_path / "out", workers=1, overwrite=True)
    after = contents(tmp_path / "out")
    changed = [name for name in before if before[name] != after[name]]
    assert len(changed) == 2, "one shard and the manifest"


def finished_states(folder):
    return sorted(folder.glob(".coco_train.record.partial/*.state.json")) if folder.is_dir() else []


def test_a_run_killed_at_any_time_leaves_nothing_finished_and_is_taken_up(coco_tree, tmp_path):
    """Kill -9 after one, two and three finished shards; the last run completes what they left."""
    tool = [sys.executable, str(ROOT / "tools" / "create_coco_tf_record.py"), "--include_masks", "--num_shards", "6"]
    tool += ["--train_image_dir", str(coco_tree / "images"), "--workers", "1"]
    tool += ["--train_annotations_file", str(coco_tree / "instances.json"), "--output_dir"]
    subprocess.run([*tool, str(tmp_path / "whole")], check=True, capture_output=True)
    out = tmp_path / "killed"
    slow = {**os.environ, "PYTHONPATH": str(tmp_path)}
    # Slows the writing of each shard down, so that there is a time between two of them; nothing else is touched.
    (tmp_path / "sitecustomize.py").write_text(
        "import os, time\nreal = os.replace\n"
        "def slow(*words):\n    time.sleep(0.1)\n    return real(*words)\n"
        "os.replace = slow\n"
    )
    kept = {}
    for enough in (1, 2, 3):
        process = subprocess.Popen([*tool, str(out)], env=slow, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
        limit = time.monotonic() + 60
        while len(finished_states(out)) < enough and time.monotonic() < limit and process.poll() is None:
            time.sleep(0.005)
        process.send_signal(signal.SIGKILL)
        process.wait()
        states = finished_states(out)
        assert enough <= len(states) < 6
        assert [path.name for path in out.iterdir()] == [".coco_train.record.partial"], "nothing looks finished"
        assert kept.items() <= {path: path.stat().st_mtime_ns for path in states}.items(), "kept, not written again"
        kept = {path: path.stat().st_mtime_ns for path in states}
    done = subprocess.run([*tool, str(out)], check=True, capture_output=True, text=True)
    assert done.stderr.count(" kept") == len(kept) and done.stderr.count(" written") == 6 - len(kept)
    assert contents(out) == contents(tmp_path / "whole")
    assert not list(out.glob(".*")), "no leftovers"


def test_a_run_killed_while_it_publishes_is_taken_up(write_numbers, tmp_path, monkeypatch):
    folder = write_numbers(20)
    whole = contents(folder)
    moved = []

    def move(source, target):
        if len(moved) == 2:
            raise KeyboardInterrupt
        moved.append(target)
        os.replace(source, target)

    with monkeypatch.context() as patched:
        patched.setattr(files, "move", move)
        with pytest.raises(KeyboardInterrupt):
            write_numbers(20, folder="other")
    assert "n.manifest.json" not in contents(tmp_path / "other")
    write_numbers(20, folder="other")
    assert contents(tmp_path / "other") == whole
    assert not list((tmp_path / "other").glob(".*"))


def test_a_worker_that_is_killed_is_one_line(coco_tree, tmp_path):
    code = (
        "import multiprocessing, os, sys; sys.path.insert(0, sys.argv[1])\n"
        "from tfllv.records import convert, shards\n"
        "def die(task): multiprocessing.parent_process() and os._exit(9)\n"
        "shards.write_shard = die\n"
        "if __name__ == '__main__':\n"
        "    tasks = [shards.ShardTask('x', str(i), (), print, '') for i in range(4)]\n"
        "    try: convert._run_local(tasks, convert.RunOptions(workers=2), print)\n"
        "    except OSError as error: print(error); sys.exit(7)\n"
    )
    (tmp_path / "main.py").write_text(code)
    run = subprocess.run([sys.executable, str(tmp_path / "main.py"), str(ROOT)], capture_output=True, text=True)
    assert run.returncode == 7 and "a worker was killed" in run.stdout


@pytest.mark.parametrize(
    ("options", "word"), [({"workers": -1}, "workers"), ({"num_shards": -2}, "num_shards"), ({"runner": "x"}, "runner")]
)
def test_wrong_options_are_refused(options, word):
    with pytest.raises(ValueError, match=word):
        convert.RunOptions(**options)


def test_a_set_is_found_by_whatever_names_it(write_numbers):
    folder = write_numbers(20)
    for path in ("", "/n", "/n.manifest.json", "/n-?????-of-00004", "/n-*", "/n-00001-of-00004"):
        assert shards.locate(f"{folder}{path}") == (str(folder), "n"), path
    assert shards.locate("n-*") == (".", "n")
    with pytest.raises(ValueError, match="0 sets"):
        shards.locate(str(folder.parent))
