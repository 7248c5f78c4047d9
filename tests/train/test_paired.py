from __future__ import annotations

import json
import pathlib

import cv2
import numpy as np
import pytest

from tfllv import config as configs
from tfllv import models
from tfllv.metrics import fidelity
from tfllv.train import experiments, loop, paired

TINY = ("n_feat=8", "height=2", "knots=4", "work_size=16")


@pytest.fixture
def table(tmp_path, rng):
    """Eight pairs in a csv: smooth bright pictures and dark ones, 24x24."""
    rows = []
    for index in range(8):
        high = cv2.resize(rng.integers(60, 250, (4, 4, 3)).astype(np.uint8), (24, 24), interpolation=cv2.INTER_CUBIC)
        for kind, pixels in (("low", (255 * (high / 255.0) ** 2 * 0.3).astype(np.uint8)), ("high", high)):
            (tmp_path / kind).mkdir(exist_ok=True)
            cv2.imwrite(str(tmp_path / kind / f"{index}.png"), pixels)
        rows.append(f"{index // 2},low/{index}.png,high/{index}.png")
    for name, chosen in (("train.csv", rows[:6]), ("val.csv", rows[6:])):
        (tmp_path / name).write_text("\n".join(["scene,low,high", *chosen]) + "\n", encoding="utf-8")
    return tmp_path / "train.csv"


def make_config(table: pathlib.Path, **changes):
    settings = {
        "pairs": str(table),
        "val_pairs": "val.csv",
        "options": TINY,
        "image_size": 16,
        "image_fit": "crop",
        "train_batch_size": 3,
        "num_steps": 30,
        "lr": 3e-3,
        "weight_decay": 0.0,
        "display_iter": 100,
    }
    return configs.PairedConfig(experiment="paired", **{**settings, **changes})


def make_loop(config, workdir):
    workdir.mkdir(exist_ok=True)
    row = experiments.EXPERIMENTS["paired"]
    return loop.Loop(
        row.learner(config), row.source(config), config, workdir=workdir, validation=row.validation(config)
    )


def test_training_lowers_the_loss_on_pairs_unseen(tmp_path, table):
    trainer = make_loop(make_config(table), tmp_path / "run")
    before = trainer.validate()["total"]
    after = trainer.run()
    assert after["total"] < 0.8 * before
    assert len(trainer.validator.source) == 2


def test_validation_reports_the_psnr_of_whole_pictures(tmp_path, table):
    trainer = make_loop(make_config(table), tmp_path / "run")
    expected = []
    for index in range(2):
        low, high = (trainer.validator.source.read_centre(key, index) for key in ("low", "high"))
        image = trainer.learner.net((low / np.float32(255))[None])["image"][0].numpy()
        expected.append(fidelity.psnr(np.clip(image, 0, 1), high, quantize=True))
    assert trainer.validate()["psnr"] == pytest.approx(np.mean(expected), abs=1e-3)


def test_patience_ends_the_run_with_the_best_weights(tmp_path, table, capsys):
    # Steps this large only make the network worse: the first validation stays the best.
    config = make_config(table, lr=0.2, num_steps=40, patience=3, snapshot_iter=1)
    trainer = make_loop(config, tmp_path / "run")
    found = trainer.run()
    assert trainer.step < 40
    assert "no better validation for 3" in capsys.readouterr().out
    rows = [json.loads(line) for line in (tmp_path / "run" / "log.jsonl").read_text().splitlines()]
    best = max(row["validation"]["psnr"] for row in rows if "validation" in row)
    assert found["psnr"] == pytest.approx(best, abs=1e-4)
    # The same command again has nothing left to do, and ends with the same weights.
    (tmp_path / "run" / "final.weights.h5").unlink()
    again = make_loop(config, tmp_path / "run")
    assert again.run()["psnr"] == pytest.approx(best, abs=1e-4)
    assert again.step == trainer.step


def adversarial_config(table, **changes):
    weights = configs.PairedWeights(charbonnier=0.0, l1=100.0, adversarial=1.0)
    settings = {"model": "pix2pix", "options": ("n_feat=4", "depth=2"), "weights": weights, "num_steps": 6}
    settings |= {"image_size": 24, "grad_clip_norm": 0.0, "beta_1": 0.5, "checkpoint_steps": 3}
    return make_config(table, **{**settings, **changes})


def test_generator_and_discriminator_are_trained_together(tmp_path, table):
    trainer = make_loop(adversarial_config(table), tmp_path / "run")
    both = (trainer.learner.net, trainer.learner.objective.discriminator)
    before = [network.get_weights() for network in both]
    found = trainer.run()
    assert set(found) == {"total", "l1", "psnr"}
    for network, weights in zip(both, before, strict=True):
        for old, new, variable in zip(weights, network.get_weights(), network.variables, strict=True):
            assert np.any(old != new), variable.path
    log = [json.loads(line) for line in (tmp_path / "run" / "log.jsonl").read_text().splitlines()]
    assert {"l1", "adversarial", "discriminator"} <= set(log[0])


def test_a_stopped_adversarial_run_ends_with_the_same_bits(tmp_path, table):
    whole = make_loop(adversarial_config(table), tmp_path / "whole")
    whole.run()
    first = make_loop(adversarial_config(table), tmp_path / "parts")
    first.stop_step = 3
    first.run()
    second = make_loop(adversarial_config(table), tmp_path / "parts")
    second.run()
    for one, other in zip(whole._state().values(), second._state().values(), strict=True):
        np.testing.assert_array_equal(one.numpy(), other.numpy())


def test_validation_is_found_beside_the_training_pairs(table, monkeypatch, tmp_path):
    assert len(paired.validation(make_config(table))) == 2
    assert paired.validation(make_config(table, val_pairs="")) is None
    with pytest.raises(FileNotFoundError, match="`val_pairs` must be"):
        paired.validation(make_config(table, val_pairs="absent.csv"))


def test_excluded_pictures_take_their_truths_with_them(table):
    source = paired.source(make_config(table, exclude=("2.png", "4.png")))
    assert [pathlib.Path(name).name for name in source.names] == ["0.png", "1.png", "3.png", "5.png"]
    example = [source.read_centre(key, 2) for key in source.keys]
    assert all(np.array_equal(a, b) for a, b in zip(example, [source.read(key, 2) for key in source.keys], strict=True))


def test_bright_pictures_alone_are_darkened(table):
    config = make_config(table.parent / "high", val_pairs="", darken="photographic")
    source = paired.source(config)
    assert len(source) == 8 and source.keys == ("low", "high")
    with pytest.raises(ValueError, match="`mixup` must be 0"):
        paired.source(config.replace(mixup=1.2))


def test_frozen_layers_stay_as_they_were(tmp_path, table):
    frozen = ("conv_in", "dau*", "down*", "skff*")
    config = make_config(table, freeze=frozen, num_steps=2)
    trainer = make_loop(config, tmp_path / "run")
    net = trainer.learner.net
    before = {variable.path: variable.numpy() for variable in net.variables}
    trainer.run()
    moved = {variable.path for variable in net.variables if np.any(variable.numpy() != before[variable.path])}
    still = set(before) - moved
    assert moved and all(any(f"/{word}" in path for word in ("conv_out", "up", "last_up")) for path in moved)
    for word in ("conv_in", "dau0", "down0_1", "skff1"):
        assert any(f"/{word}/" in path for path in still)


def test_a_frozen_layer_that_is_not_there_is_named():
    net = models.build("mirnet_small", **paired.parse_options(TINY))
    with pytest.raises(ValueError, match=r"`freeze` must name layers.*'conv_im'; did you mean 'conv_in'"):
        paired.freeze(net, ["conv_im"])
    with pytest.raises(ValueError, match="must leave something to train"):
        paired.freeze(net, ["*"])


def test_options_become_numbers_or_words():
    assert paired.parse_options(["n_feat=32", " name = small "]) == {"n_feat": 32, "name": "small"}
    with pytest.raises(ValueError, match="`options` must be `name=value`"):
        paired.parse_options(["n_feat"])
