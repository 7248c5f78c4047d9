from __future__ import annotations

import subprocess
import sys

import pytest

from tfllv import cli
from tfllv.records import framing, shards


@pytest.fixture
def damaged(tmp_path):
    """A shard of three records, the second with a flipped byte; without a manifest."""
    from tfllv.records import schema

    records = [schema.serialize({schema.SOURCE_ID: name, schema.ENCODED: b"x" * 50}) for name in ("a", "b", "c")]
    data = bytearray(b"".join(map(framing.frame, records)))
    data[len(framing.frame(records[0])) + 40] ^= 1
    path = tmp_path / "in" / "s.record-00000-of-00001"
    path.parent.mkdir()
    path.write_bytes(bytes(data))
    return path


def test_verify_and_salvage_name_what_is_lost(damaged, tmp_path, capsys):
    assert cli.main(["records", "verify", str(damaged)]) == 1
    shown = capsys.readouterr()
    assert "2 whole records in 1 shards, 1 damaged" in shown.out
    assert "record 1 (b)" in shown.err and "no manifest" in shown.err
    assert cli.main(["records", "salvage", str(damaged), "-o", str(tmp_path / "out")]) == 1
    assert shards.read_manifest(str(tmp_path / "out"), "s.record")["shards"][0]["keys"] == ["a", "c"]
    capsys.readouterr()
    assert cli.main(["records", "verify", str(tmp_path / "out")]) == 0
    assert capsys.readouterr().out == "2 whole records in 1 shards, 0 damaged\n"


def test_wrong_use_is_one_line(tmp_path, capsys):
    assert cli.main(["records", "verify", str(tmp_path / "absent")]) == 2
    assert capsys.readouterr().err.count("\n") == 1
    with pytest.raises(SystemExit):
        cli.main(["records"])


def test_no_tensorflow_is_imported(damaged):
    code = "import sys; from tfllv import cli; cli.main(sys.argv[1:]); assert 'tensorflow' not in sys.modules"
    subprocess.run([sys.executable, "-c", code, "records", "verify", str(damaged)], check=True, capture_output=True)
