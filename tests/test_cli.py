from __future__ import annotations

import os
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

import tfllv
from tfllv import cli

HEAVY = ("tensorflow", "keras", "cv2", "PIL", "numpy", "yaml", "tqdm")


def python(code, *words, **environment):
    """Runs code in a fresh interpreter."""
    return subprocess.run(
        [sys.executable, "-W", "error", "-c", code, *words],
        capture_output=True,
        text=True,
        timeout=120,
        env={**os.environ, **environment},
        cwd=os.path.dirname(os.path.dirname(__file__)),
    )


def loaded_after(statements, *words):
    code = f"import sys\n{statements}\nprint('loaded:', *[n for n in {HEAVY} if n in sys.modules])"
    result = python(code, *words)
    assert result.returncode == 0, result.stderr
    return result.stdout.rpartition("loaded:")[2].split()


def test_importing_the_package_imports_nothing_heavy():
    assert loaded_after("import tfllv, tfllv.cli") == []


@pytest.mark.parametrize("words", [["--help"], ["--version"]])
def test_help_and_version_import_nothing_heavy(words):
    statements = (
        "from tfllv import cli\ntry:\n    cli.main(sys.argv[1:])\nexcept SystemExit as stop:\n    assert not stop.code"
    )
    assert loaded_after(statements, *words) == []


def test_help_of_enhance_imports_nothing_heavy():
    statements = "from tfllv import cli\ntry:\n    cli.main(['enhance', '--help'])\nexcept SystemExit:\n    pass"
    assert loaded_after(statements) == []


def test_classical_methods_and_wrong_names_import_no_tensorflow(tmp_path):
    Image.fromarray(np.full((4, 4, 3), 30, np.uint8)).save(tmp_path / "a.png")
    for method, code in (("gamma", 0), ("sgzz", 2)):
        words = ["enhance", str(tmp_path / "a.png"), "-o", str(tmp_path / "out"), "--method", method]
        loaded = loaded_after(f"from tfllv import cli\nassert cli.main(sys.argv[1:]) == {code}", *words)
        assert "tensorflow" not in loaded and "keras" not in loaded


def test_the_module_runs_as_a_command():
    result = subprocess.run([sys.executable, "-m", "tfllv", "--version"], capture_output=True, text=True, timeout=60)
    assert result.stdout == f"tfllv {tfllv.__version__}\n"


def test_help_names_every_command(capsys):
    with pytest.raises(SystemExit) as stop:
        cli.main(["--help"])
    assert stop.value.code == 0
    text = capsys.readouterr().out
    assert all(f"    {name}" in text for name in cli.COMMANDS)


@pytest.mark.parametrize("name", sorted(cli.COMMANDS))
def test_every_command_has_help_and_refuses_what_it_does_not_know(name, capsys):
    with pytest.raises(SystemExit) as stop:
        cli.main([name, "--help"])
    assert stop.value.code == 0
    assert f"usage: tfllv {name}" in capsys.readouterr().out
    with pytest.raises(SystemExit) as stop:
        cli.main([name, "--no-such-option"])
    assert stop.value.code == 2
    assert "Traceback" not in capsys.readouterr().err


@pytest.mark.parametrize("words", [[], ["enhnace"], ["enhance"], ["enhance", "x"]])
def test_wrong_use_exits_with_2(words, capsys):
    with pytest.raises(SystemExit) as stop:
        cli.main(words)
    assert stop.value.code == 2
    assert "usage: tfllv" in capsys.readouterr().err


def test_errors_are_one_line_without_a_traceback_unless_debugging():
    code = "import sys\nfrom tfllv import cli\nsys.exit(cli.main(sys.argv[1:]))"
    words = ["enhance", "no such file", "-o", "out", "--method", "gamma"]
    result = python(code, *words)
    assert result.returncode == 2
    assert result.stderr.startswith("tfllv enhance: ") and result.stderr.count("\n") == 1
    assert "Traceback" in python(code, *words, TFLLV_DEBUG="1").stderr


@pytest.mark.parametrize(
    ("error", "code", "text"), [(OSError("disk\nfull"), 2, "disk full"), (KeyboardInterrupt(), 130, "stopped")]
)
def test_exit_codes_of_what_a_command_raises(error, code, text, monkeypatch, capsys):
    from tfllv.commands import enhance

    def fail(args):
        raise error

    monkeypatch.setattr(enhance, "run", fail)
    assert cli.main(["enhance", "x", "-o", "y"]) == code
    assert text in capsys.readouterr().err
