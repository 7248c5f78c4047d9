from __future__ import annotations

import json
import subprocess
import sys

from tfllv import cli, enhancers, models


def test_every_method_and_network_is_printed_with_its_source(capsys):
    assert cli.main(["list"]) == 0
    lines = capsys.readouterr().out.splitlines()
    middle = lines.index("")
    for rows, table in ((lines[:middle], enhancers.METHODS), (lines[middle:], models.MODELS)):
        for name, row in table.items():
            (line,) = [line for line in rows if line.split()[:1] == [name]]
            assert row.summary in line
            assert row.source in line


def test_json_holds_the_same_tables(capsys):
    assert cli.main(["list", "--json"]) == 0
    content = json.loads(capsys.readouterr().out)
    assert [row["name"] for row in content["methods"]] == list(enhancers.METHODS)
    assert [row["name"] for row in content["networks"]] == list(models.MODELS)
    for row in content["methods"]:
        assert (row["weights"] is None) == (row["kind"] == "classical")
    assert set(content["networks"][0]) == {"name", "summary", "source", "weights"}


def test_weights_are_called_shipped_where_the_file_is_there(capsys, monkeypatch, tmp_path):
    monkeypatch.setattr(models, "WEIGHTS_FOLDER", tmp_path)
    (tmp_path / "sgz.weights.h5").touch()
    cli.main(["list", "--json"])
    weights = {row["name"]: row["weights"] for row in json.loads(capsys.readouterr().out)["networks"]}
    assert weights["sgz"] == "weights shipped"
    assert weights["zero_dce"] == "needs --weights"


def test_list_imports_neither_tensorflow_nor_keras():
    heavy = "{'tensorflow', 'keras'} & set(sys.modules)"
    script = f"import sys; from tfllv import cli; cli.main(['list']); sys.exit(bool({heavy}))"
    assert subprocess.run([sys.executable, "-c", script], stdout=subprocess.DEVNULL, timeout=60).returncode == 0
