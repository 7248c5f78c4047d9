"""What the README says is true: its commands run, as they stand there, on small generated data."""

from __future__ import annotations

import os
import pathlib
import re
import shlex
import subprocess
import sys

import cv2
import numpy as np
import pytest

ROOT = pathlib.Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")


def section(title: str) -> str:
    """The text under a heading, up to the next one."""
    return re.search(rf"^## {re.escape(title)}\n(.*?)(?=^## |\Z)", README, re.MULTILINE | re.DOTALL)[1]


def commands(text: str) -> list[list[str]]:
    """The command lines of the first shell block, continued lines joined, comments left out."""
    block = re.search(r"```bash\n(.*?)```", text, re.DOTALL)[1].replace("\\\n", " ")
    return [shlex.split(line, comments=True) for line in block.splitlines() if line.strip() and line[0] != "#"]


def picture(path: pathlib.Path, *, seed: int, width: int = 48, height: int = 40) -> None:
    small = np.random.default_rng(seed).integers(0, 255, (4, 5, 3)).astype(np.uint8)
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), cv2.resize(small, (width, height)))


@pytest.fixture
def newcomer(tmp_path):
    """The folders that the section names, with a few pictures each."""
    for index in range(8):
        name = "Bicycle" if index < 4 else "Cat"
        picture(tmp_path / "exdark" / "ExDark" / name / f"2015_{index:05}.jpg", seed=index)
        note = tmp_path / "exdark" / "ExDark_Annno" / name / f"2015_{index:05}.jpg.txt"
        note.parent.mkdir(parents=True, exist_ok=True)
        note.write_text(f"% bbGt version=3\n{name} 3 2 20 22 0 0 0 0 0 0 0\n")
    rows = ["filename,width,height,class,xmin,ymin,xmax,ymax"]
    for index in range(3):
        picture(tmp_path / "photos" / f"{index}.jpg", seed=20 + index)
        rows.append(f"{index}.jpg,48,40,Lamp,4,5,30,31")
        picture(tmp_path / "pairs" / "low" / f"{index}.png", seed=30 + index)
        picture(tmp_path / "pairs" / "high" / f"{index}.png", seed=30 + index)
        picture(tmp_path / "coco" / "images" / f"{index}.jpg", seed=40 + index)
    (tmp_path / "boxes.csv").write_text("\n".join(rows) + "\n")
    images = ",".join(f'{{"id": {i}, "file_name": "{i}.jpg", "width": 48, "height": 40}}' for i in range(3))
    notes = ",".join(
        f'{{"id": {i}, "image_id": {i}, "category_id": 3, "bbox": [2, 3, 20, 20], "area": 400, "iscrowd": 0, '
        f'"segmentation": [[2, 3, 22, 3, 22, 23, 2, 23]]}}'
        for i in range(3)
    )
    document = f'{{"images": [{images}], "annotations": [{notes}], "categories": [{{"id": 3, "name": "car"}}]}}'
    (tmp_path / "coco" / "instances.json").write_text(document)
    return tmp_path


def test_the_commands_for_your_own_data_run_as_they_stand(newcomer):
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    for words in commands(section("Your own data")):
        if words[0] == "tfllv":
            words = ["python", "-m", *words]
        words = [sys.executable, *[str(ROOT / word) if word.startswith("tools/") else word for word in words[1:]]]
        run = subprocess.run(words, cwd=newcomer, env=environment, capture_output=True, text=True)
        assert run.returncode == 0, f"{words}: {run.stdout}{run.stderr}"
    for name in ("exdark", "mine", "coco", "pairs", "saved"):
        assert any((newcomer / "records" / name).rglob("*-of-*")), name
    assert (newcomer / "records" / "exdark" / "annotations.csv").is_file()
    assert len(list((newcomer / "dark").rglob("*.jpg"))) == 3


# What makes the detection commands small: a few steps of one 256-pixel picture each, from random weights.
SMOKE = {
    "create_exdark_tf_record.py": ["--allow_missing"],
    "model_main_tf2.py": [
        *("--num_train_steps", "2", "--refresh_batch_norm", "2", "--override", "train_config.batch_size=1"),
        "train_config.fine_tune_checkpoint=",
        "model.ssd.image_resizer.keep_aspect_ratio_resizer.min_dimension=256",
        "model.ssd.image_resizer.keep_aspect_ratio_resizer.max_dimension=256",
        *(
            f"train_config.optimizer.momentum_optimizer.learning_rate.cosine_decay_learning_rate.{field}"
            for field in ("learning_rate_base=1e-3", "warmup_learning_rate=1e-4", "total_steps=2", "warmup_steps=1")
        ),
    ],
}


@pytest.mark.slow
def test_the_commands_for_detection_run_as_they_stand_at_a_small_size(shared, tmp_path):
    """From five real ExDark pictures to an exported model and drawn detections."""
    source = shared / "data" / "exdark"
    (tmp_path / "exdark").mkdir()
    for name, target in {"ExDark": "mini/ExDark", "ExDark_Annno": "mini/ExDark_Annno"}.items():
        (tmp_path / "exdark" / name).symlink_to(source / target)
    (tmp_path / "exdark" / "imageclasslist.txt").symlink_to(source / "imageclasslist.txt")
    (tmp_path / "photos").symlink_to(source / "mini" / "ExDark" / "Bus")
    (tmp_path / "pipelines").symlink_to(ROOT / "pipelines")
    for words in commands(section("Detection in the dark")):
        assert words[:2] == ["python", words[1]] and words[1].startswith("tools/")
        tool = words[1].removeprefix("tools/")
        run = subprocess.run(
            [sys.executable, str(ROOT / words[1]), *words[2:], *SMOKE.get(tool, [])],
            cwd=tmp_path,
            env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"},
            capture_output=True,
            text=True,
        )
        assert run.returncode == 0, f"{words}: {run.stdout[-2000:]}{run.stderr[-3000:]}"
    assert (tmp_path / "exported" / "saved_model" / "saved_model.pb").is_file()
    assert (tmp_path / "exported" / "label_map.pbtxt").is_file()
    assert (tmp_path / "runs" / "exdark" / "eval" / "index.html").is_file()
    assert sorted(path.name for path in (tmp_path / "found").iterdir()) == [
        *("2015_02057.jpg", "2015_02154.jpg", "detections.json"),
    ]


def test_the_python_example_runs_as_it_stands(tmp_path, monkeypatch):
    picture(tmp_path / "photo.jpg", seed=3)
    monkeypatch.chdir(tmp_path)
    code = re.search(r"```python\n(.*?)```", section("One dark photo"), re.DOTALL)[1]
    names = {}
    exec(code, names)
    assert (tmp_path / "bright.jpg").is_file()
    assert names["outputs"]["image"].shape == (1, *names["bright"].shape)


def test_every_method_and_network_is_in_the_table():
    from tfllv import enhancers

    table = section("Methods")
    for name in enhancers.METHODS:
        assert f"`{name}`" in table, name


def test_every_linked_file_exists():
    for target in re.findall(r"\]\((?!https?:)([^)#]+)\)", README):
        assert (ROOT / target).exists(), target
