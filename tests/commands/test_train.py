from __future__ import annotations

import pathlib
import re

import numpy as np
import pytest
from PIL import Image

from tfllv import cli
from tfllv.commands import train

SGZ = pathlib.Path(__file__).parent.parent.parent / "configs" / "sgz.yaml"
SMALL = ("image_size=32", "train_batch_size=2", "num_epochs=2", "display_iter=1", "snapshot_iter=1", "val_batch_size=2")


@pytest.fixture
def images(tmp_path, rng):
    folder = tmp_path / "dark"
    folder.mkdir()
    for i in range(4):
        Image.fromarray(rng.integers(0, 60, (40, 36, 3), dtype=np.uint8)).save(folder / f"{i}.jpg")
    return folder


def _train(images, workdir, *words):
    return cli.main(["train", str(SGZ), "--data", str(images), "--workdir", str(workdir), "--set", *SMALL, *words])


def test_training_writes_weights_that_load_and_a_second_call_has_nothing_to_do(images, tmp_path, capsys):
    from tfllv import config, models

    work = tmp_path / "work"
    assert _train(images, work) == 0
    out = capsys.readouterr().out
    assert "4 images, 4 steps" in out and "step 4/4  epoch 2.00" in out
    for name in ("tv", "spa", "col", "exp"):
        assert f"  {name} " in out
    for path in ("final.weights.h5", "weight/Epoch0.weights.h5", "weight/Epoch1.weights.h5"):
        models.build("sgz").load_weights(work / path)
    assert list((work / "tensorboard").glob("events*"))
    assert config.load(work / "config.yaml").lowlight_images_path == str(images)
    before = (work / "final.weights.h5").read_bytes()
    assert _train(images, work, "--tracker", "none") == 0
    assert "going on from step 4 of" in capsys.readouterr().out
    assert len(before) == len((work / "final.weights.h5").read_bytes())


def test_a_finished_run_is_the_start_of_another(images, tmp_path, capsys):
    first, second = tmp_path / "first", tmp_path / "second"
    assert _train(images, first, "--tracker", "none") == 0
    still = ("num_steps=1", "lr=1e-30", "weight_decay=0")
    assert _train(images, second, *still, "--tracker", "none", "--init_from", str(first)) == 0
    import h5py

    with h5py.File(first / "final.weights.h5") as one, h5py.File(second / "final.weights.h5") as other:
        paths = []
        one.visititems(lambda name, item: paths.append(name) if isinstance(item, h5py.Dataset) else None)
        assert len(paths) == 28
        assert all((one[path][()] == other[path][()]).all() for path in paths)


def test_load_pretrain_reads_the_published_default_name(images, tmp_path, capsys):
    first = tmp_path / "first"
    assert _train(images, first, "--tracker", "none") == 0
    assert _train(images, first / "more", "num_steps=1", "load_pretrain=True", "--tracker", "none") == 2
    assert "Received: 'weight/Epoch99'" in capsys.readouterr().err
    pretrained = f"pretrain_dir={first / 'weight' / 'Epoch1'}"
    assert _train(images, first / "again", "num_steps=1", "load_pretrain=True", pretrained, "--tracker", "none") == 0


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--set", "lrr=3"], "--set: unknown key `lrr`; did you mean 'lr'?"),
        (["--set", "exclude=9-10"], "`exclude` must name images of"),
        (
            ["--init_from", "nowhere"],
            "a weights file or a finished run's folder. Received: 'nowhere'",
        ),
        (["--set", "image_size=4"], "`image_size` must be at least 8."),
        (["--set", "model=sgx"], "did you mean 'sgz'?"),
        (
            ["--data", "/no/such/folder"],
            "`lowlight_images_path` (--data) must be a folder of images. Received: '/no",
        ),
    ],
)
def test_wrong_use_is_one_line_and_exit_2(images, tmp_path, capsys, words, message):
    command = ["train", str(SGZ), "--data", str(images), "--workdir", str(tmp_path / "work"), *words]
    assert cli.main(command) == 2
    error = capsys.readouterr().err
    assert error.startswith("tfllv train: ") and message in error and error.count("\n") == 1


def test_a_missing_config_is_one_line(tmp_path, capsys):
    assert cli.main(["train", str(tmp_path / "none.yaml")]) == 2
    assert "`config` must be a YAML file." in capsys.readouterr().err


def test_an_empty_folder_and_a_file_that_is_no_image_are_named(images, tmp_path, capsys):
    (tmp_path / "empty").mkdir()
    assert _train(tmp_path / "empty", tmp_path / "work") == 2
    assert "which holds none of .jpg" in capsys.readouterr().err
    (images / "notes.png").write_text("no image")
    assert _train(images, tmp_path / "work") == 2
    error = capsys.readouterr().err
    assert "notes.png: " in error and "Remove the file or `exclude` it." in error and error.count("\n") == 1


def test_a_workdir_that_is_a_file_is_one_line(images, tmp_path, capsys):
    (tmp_path / "file").write_text("in the way")
    assert _train(images, tmp_path / "file") == 2
    error = capsys.readouterr().err
    assert "file" in error and error.count("\n") == 1


def test_a_loss_that_is_not_finite_ends_with_exit_1(images, tmp_path, capsys):
    assert _train(images, tmp_path / "work", "lr=1e37", "num_epochs=9", "--tracker", "none") == 1
    error = capsys.readouterr().err
    assert (
        re.match(r"tfllv train: stopped: `tv` is nan, .* at step [1-9], batch: ", error)
        and str(images) in error
        and error.count("\n") == 1
    )


@pytest.mark.parametrize("name", ["a", "a.weights.h5"])
def test_weights_are_found_by_name_here_and_in_the_workdir(tmp_path, monkeypatch, name):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "a.weights.h5").touch()
    assert train.resolve_weights(tmp_path / "run" / name, tmp_path).name == "a.weights.h5"
    monkeypatch.chdir(tmp_path)
    assert train.resolve_weights(name, tmp_path / "run") == tmp_path / "run" / "a.weights.h5"
