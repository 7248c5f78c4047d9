from __future__ import annotations

import http.client
import json
import os
import pathlib
import signal
import subprocess
import sys
import time

import cv2
import numpy as np
import pytest

from tfllv import cli

ROOT = pathlib.Path(__file__).parent.parent.parent


@pytest.fixture
def start():
    """Starts `tfllv serve` with more words; gives the process and its port once it is ready."""
    started = []

    def run(*words, **environment):
        command = [sys.executable, "-m", "tfllv", "serve", "--port", "0", *words]
        process = subprocess.Popen(
            command,
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, **environment},
        )
        started.append(process)
        line = json.loads(process.stdout.readline())
        port = int(line["addresses"][0].rpartition(":")[2])
        end = time.monotonic() + 60
        while ask(port, "/readyz")[0] != 200:
            assert time.monotonic() < end and process.poll() is None
            time.sleep(0.05)
        return process, port

    yield run
    for process in started:
        if process.poll() is None:
            process.kill()
        process.communicate()


def ask(port, path, body=None, headers=None):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    try:
        connection.request("POST" if body else "GET", path, body, headers or {})
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()


def form(data):
    head = '--b\r\nContent-Disposition: form-data; name="image"; filename="a.png"\r\n\r\n'
    return head.encode() + data + b"\r\n--b--\r\n", {"Content-Type": "multipart/form-data; boundary=b"}


def test_the_command_serves_until_it_is_told_to_stop(start):
    process, port = start("--method", "gamma", "--method", "clahe")
    data = cv2.imencode(".png", np.full((20, 30, 3), 40, np.uint8))[1].tobytes()
    status, answer = ask(port, "/enhance", *form(data))
    assert status == 200
    assert cv2.imdecode(np.frombuffer(answer, np.uint8), 1).mean() == pytest.approx(255 * (40 / 255) ** 0.5, abs=1)
    assert [model["name"] for model in json.loads(ask(port, "/models")[1])["models"]] == ["gamma", "clahe"]
    process.send_signal(signal.SIGTERM)
    output, errors = process.communicate(timeout=30)
    assert process.returncode == 0 and errors == ""
    events = [json.loads(line)["event"] for line in output.splitlines()]
    assert events[-1] == "stopped" and "request" in events


def test_the_token_comes_from_a_file_or_the_environment(start, tmp_path):
    (tmp_path / "token").write_text("from-file\n")
    for words, token in ((["--token_file", str(tmp_path / "token")], "from-file"), ([], "from-environment")):
        process, port = start("--method", "gamma", *words, TFLLV_TOKEN="from-environment")
        assert ask(port, "/models")[0] == 401
        assert ask(port, "/models", headers={"Authorization": f"Bearer {token}"})[0] == 200
        process.terminate()
        assert token not in process.communicate(timeout=30)[0]


def test_a_model_that_does_not_work_ends_the_command_in_one_line(tmp_path):
    (tmp_path / "model" / "1").mkdir(parents=True)
    (tmp_path / "model" / "1" / "saved_model.pb").write_bytes(b"nonsense")
    command = [sys.executable, "-m", "tfllv", "serve", "--port", "0", "--model", str(tmp_path / "model")]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert run.returncode == 2
    (line,) = [line for line in run.stderr.splitlines() if line.startswith("tfllv serve:")]
    assert "has no version that works" in line and "Traceback" not in run.stderr


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--model", "missing"], "`model` must be a folder of versions"),
        (["--model", "a=x", "--model", "a=y"], "'a' twice"),
        (["--method", "sgzz"], "did you mean 'sgz'"),
        (["--method", "gamma", "--max_pixels", "0"], "`max_pixels` must be"),
        (["--method", "gamma", "--token_file", "missing"], "missing"),
    ],
)
def test_wrong_use_is_one_line_and_exit_2(words, message, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert cli.main(["serve", *words]) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1


def test_without_a_model_all_methods_that_need_no_file_are_served_the_default_first():
    from tfllv.commands import serve

    class Words:
        method, model, backend = None, [], []

    names = serve._methods(Words)
    assert names[:2] == ["sgz", "mirnet_small"] and "clahe" in names
    assert "mirnet" not in names and "zero_dce" not in names
