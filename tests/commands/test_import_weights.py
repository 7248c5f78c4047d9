from __future__ import annotations

import hashlib
import os
import pickle
import zipfile

import numpy as np
import pytest

from tfllv import cli
from tfllv.commands import import_weights


def run(*words):
    return cli.main(["import-weights", *map(str, words)])


@pytest.mark.parametrize(
    ("name", "file", "line"),
    [
        ("sgz", "sgz_Epoch99.pth", "28 tensors, 10,561 parameters"),
        ("zero_dce", "zero_dce_Epoch99.pth", "14 tensors, 79,416 parameters"),
        ("zero_dce_pp", "zero_dce_pp_Epoch99.pth", "28 tensors, 10,561 parameters"),
    ],
)
def test_published_weights_become_a_keras_file_that_loads(tmp_path, capsys, shared, name, file, line):
    from tfllv import models
    from tfllv.models.torch_import import import_weights as read

    output = tmp_path / "a.weights.h5"
    assert run(name, shared / "weights" / file, "-o", output) == 0
    digest = hashlib.sha256(output.read_bytes()).hexdigest()
    assert capsys.readouterr().out == f"{output}: {line}, sha256 {digest}\n"
    network = models.build(name)
    network.load_weights(output)
    expected = read(name, shared / "weights" / file).get_weights()
    assert all(np.array_equal(a, b) for a, b in zip(network.get_weights(), expected, strict=True))
    assert os.listdir(tmp_path) == [output.name]


def test_options_of_the_network_are_set(tmp_path, capsys, shared):
    file = shared / "weights" / "sgz_Epoch99.pth"
    assert run("sgz", file, "-o", tmp_path / "a.weights.h5", "--set", "scale_factor=12", "--set", "conv_type=dsc") == 0
    assert run("sgz", file, "-o", tmp_path / "b.weights.h5", "--set", "conv_type=tc") == 2
    assert "missing: e_conv1.conv.bias" in capsys.readouterr().err
    assert run("sgz", file, "-o", tmp_path / "b.weights.h5", "--set", "scale_facto=12") == 2
    assert "did you mean 'scale_factor'" in capsys.readouterr().err


def test_existing_output_is_kept_without_overwrite(tmp_path, capsys, shared):
    output = tmp_path / "a.weights.h5"
    output.write_text("mine")
    assert run("sgz", shared / "weights" / "sgz_Epoch99.pth", "-o", output) == 2
    assert "--overwrite" in capsys.readouterr().err
    assert output.read_text() == "mine"
    assert run("sgz", shared / "weights" / "sgz_Epoch99.pth", "-o", output, "--overwrite") == 0
    assert output.read_bytes()[:4] == b"\x89HDF"


def test_malicious_file_executes_nothing_and_writes_nothing(tmp_path, capsys):
    class Attack:
        def __reduce__(self):
            return os.system, (f"touch {tmp_path / 'executed'}",)

    with zipfile.ZipFile(tmp_path / "evil.pth", "w") as archive:
        archive.writestr("archive/data.pkl", pickle.dumps({"state_dict": Attack()}, 2))
    assert run("sgz", tmp_path / "evil.pth", "-o", tmp_path / "a.weights.h5") == 2
    error = capsys.readouterr().err
    assert f"'{os.system.__module__}.system'" in error
    assert error.count("\n") == 1
    assert os.listdir(tmp_path) == ["evil.pth"]


def test_interrupted_write_leaves_the_old_file_and_no_other(tmp_path):
    class Broken:
        def save_weights(self, path, overwrite):
            path.write_text("half")
            raise OSError("no space left")

    output = tmp_path / "a.weights.h5"
    output.write_text("old")
    with pytest.raises(OSError, match="no space left"):
        import_weights.write_weights(Broken(), output)
    assert output.read_text() == "old"
    assert os.listdir(tmp_path) == [output.name]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["sgz", "a.pth", "-o", "a.h5"], "`--output` must end with .weights.h5"),
        (["sgz", "a.pth", "-o", "absent/a.weights.h5"], "the folder absent does not exist"),
        (["sgz", "a.pth", "-o", "a.weights.h5", "--set", "scale_factor"], "must be OPTION=VALUE"),
        (["sgz", "a.pth", "-o", "a.weights.h5", "--set", "scale_factor=[1"], "must have a number, a word"),
        (["sgzz", "a.pth", "-o", "a.weights.h5"], "did you mean 'sgz'"),
        (["sgz", "a.pth", "-o", "a.weights.h5"], "a.pth"),
    ],
)
def test_wrong_use_is_one_line_and_exit_2(tmp_path, capsys, monkeypatch, words, message):
    monkeypatch.chdir(tmp_path)
    assert run(*words) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
    assert os.listdir(tmp_path) == []


def test_written_weights_load_again_and_have_the_sum_that_is_returned(tmp_path):
    from tfllv import models

    network, other = models.build("sgz", seed=1), models.build("sgz", seed=2)
    output = tmp_path / "a.weights.h5"
    output.write_text("old")
    assert import_weights.write_weights(network, output) == hashlib.sha256(output.read_bytes()).hexdigest()
    assert os.listdir(tmp_path) == [output.name]
    other.load_weights(output)
    assert all(np.array_equal(a, b) for a, b in zip(network.get_weights(), other.get_weights(), strict=True))
