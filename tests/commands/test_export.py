from __future__ import annotations

import pytest

from tfllv import cli, config, models
from tfllv.commands import export


def run(*words):
    return cli.main(["export", *map(str, words)])


@pytest.fixture
def calls(monkeypatch):
    """What would have been exported: format -> (product, folder, options); nothing is written."""
    from tfllv.export import litert, onnx, saved_model

    found = {}

    def record(name):
        def take(what, folder, **options):
            found[name] = (what, folder, options)
            return folder / name, "agrees"

        return take

    for module in (saved_model, litert, onnx):
        name = module.__name__.rsplit(".", 1)[1]
        monkeypatch.setattr(module, "export", record(name))
    return found


def test_a_network_goes_to_the_exporter_of_its_format(calls, tmp_path, capsys):
    assert run("sgz", "-o", tmp_path, "--precision", "bfloat16", "--max_pixels", 1000) == 0
    what, folder, options = calls["saved_model"]
    assert (what.name, what.precision, what.model.scale_factor) == ("sgz", "bfloat16", 12)
    assert folder == tmp_path and options == {"max_pixels": 1000}
    assert capsys.readouterr().out == f"{tmp_path / 'saved_model'}: agrees\n"
    assert run("sgz", "-o", tmp_path, "--format", "litert", "--precision", "int8", "--calibration", "dark") == 0
    assert calls["litert"][2] == {"precision": "int8", "calibration": "dark", "overwrite": False}
    assert run("sgz", "-o", tmp_path, "--format", "onnx", "--set", "scale_factor=1", "--overwrite") == 0
    assert calls["onnx"][0].model.scale_factor == 1 and calls["onnx"][2] == {"overwrite": True}


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["sgzz"], "did you mean 'sgz'"),
        (["zero_dce"], "`weights` must be given"),
        (["diffusion_unet"], "`diffusion_unet` is not exported: a diffusion model is run many times"),
        (["sgz", "--precision", "int8"], "`precision` must be one of float32, bfloat16"),
        (["sgz", "--format", "onnx", "--precision", "bfloat16"], "must be float32 for ONNX"),
        (["sgz", "--set", "scale=2"], "no such option"),
        (["sgz", "--weights", "none.weights.h5"], "does not exist"),
        (["sgz", "--workdir", "none"], "must be a finished run"),
        (["night", "--saved_model", "none"], "must hold saved_model.pb"),
        (["night", "--saved_model", "none", "--format", "litert"], "must hold saved_model.pb"),
        (["night", "--saved_model", "none", "--precision", "bfloat16"], "in float32 as it is"),
    ],
)
def test_bad_arguments_are_one_line_and_exit_2(tmp_path, capsys, words, message):
    assert run(*words, "-o", tmp_path / "out") == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_a_pixel_limit_must_be_positive(tmp_path, capsys):
    assert run("sgz", "-o", tmp_path / "out", "--max_pixels", 0) == 2
    assert "`max_pixels` must be > 0" in capsys.readouterr().err


def test_a_run_of_training_gives_its_options_and_final_weights(tmp_path, capsys):
    settings = config.PairedConfig(experiment="paired", model="mirnet_small", options=("n_feat=8", "height=2"))
    (tmp_path / "config.yaml").write_text(settings.to_yaml())
    with pytest.raises(FileNotFoundError, match="finished run"):
        export.read_workdir(tmp_path, "mirnet_small")
    models.build("sgz").save_weights(tmp_path / "final.weights.h5")
    options, weights = export.read_workdir(tmp_path, "mirnet_small")
    assert options == {"n_feat": 8, "height": 2} and weights == tmp_path / "final.weights.h5"
    with pytest.raises(ValueError, match="a run of 'mirnet_small'"):
        export.read_workdir(tmp_path, "sgz")
    curves = config.ZeroReferenceConfig(model="sgz", conv_type="tc", scale_factor=1)
    (tmp_path / "config.yaml").write_text(curves.to_yaml())
    assert export.read_workdir(tmp_path, "sgz")[0] == {"conv_type": "tc"}
