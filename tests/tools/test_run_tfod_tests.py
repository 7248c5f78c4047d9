"""The runner of TFOD's own tests passes exactly what is documented."""

from __future__ import annotations

import importlib.util
import pathlib

import pytest

PATH = pathlib.Path(__file__).parents[2] / "tools" / "run_tfod_tests.py"


@pytest.fixture
def tool(monkeypatch):
    spec = importlib.util.spec_from_file_location("run_tfod_tests", PATH)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.setattr(module, "KNOWN", {"a_test.Case.test_x": "no such file"})
    return module


def found(**changes):
    return {"core.a_test": {"tests": 3, "skipped": [], "failures": [], "errors": []} | changes}


def test_a_documented_failure_for_its_reason_is_expected(tool):
    assert tool.deviations(found(errors=[("object_detection.core.a_test.Case.test_x", "Error: no such file")])) == []


@pytest.mark.parametrize(
    ("result", "line"),
    [
        (
            found(errors=[("core.a_test.Case.test_x", "Error: memory")]),
            "core.a_test.Case.test_x: not documented: Error",
        ),
        (found(), "a_test.Case.test_x: documented as failing, and did not fail"),
        ({"core.b_test": found(tests=0)["core.a_test"]}, "core.b_test: holds no test"),
    ],
)
def test_another_reason_a_surprising_pass_and_an_empty_file_are_not(tool, result, line):
    (only,) = tool.deviations(result)
    assert only.startswith(line)


def test_a_file_that_ends_before_it_reports_is_an_error_with_its_last_line(tool, monkeypatch):
    monkeypatch.setattr(tool, "__file__", str(PATH.with_name("absent.py")))
    result = tool.run_file("core.a_test", timeout=60)
    ((name, why),) = result["errors"]
    assert name == "core.a_test" and why.startswith("ended with 2: ") and "absent.py" in why
    assert result["tests"] == 0
