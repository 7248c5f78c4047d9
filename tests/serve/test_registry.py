from __future__ import annotations

import shutil
import threading
import time

import numpy as np
import pytest

from tfllv.serve import registry
from tfllv.serve.limits import Limits


@pytest.fixture(scope="module")
def versions(export, tmp_path_factory):
    """Versions 1 to 3 with gains of 1.1, 1.2 and NaN, to be copied."""
    folder = tmp_path_factory.mktemp("versions")
    for version, gain in ((1, 1.1), (2, 1.2), (3, float("nan"))):
        export(folder, version, gain=gain)
    return folder


@pytest.fixture
def found(versions, tmp_path):
    shutil.copytree(versions / "1", tmp_path / "model" / "1")
    made = registry.Registry({"toy": tmp_path / "model"}, poll=0.02)
    made.load()
    yield made
    made.close()


def refresh(found):
    found.refresh(found.models["toy"])
    return found.models["toy"].engine.version


def test_the_highest_version_is_taken_up(found, versions, tmp_path):
    assert refresh(found) == 1
    shutil.copytree(versions / "2", tmp_path / "model" / "10")
    assert refresh(found) == 10


def test_a_broken_version_is_refused_and_the_old_one_kept(found, versions, tmp_path):
    shutil.copytree(versions / "3", tmp_path / "model" / "3")
    assert refresh(found) == 1
    assert "NaN" in found.models["toy"].refused[3]
    assert found.ready
    shutil.rmtree(tmp_path / "model" / "3")
    assert refresh(found) == 1 and not found.models["toy"].refused


def test_a_broken_version_is_tried_again_only_when_its_files_change(found, versions, tmp_path, monkeypatch):
    from tfllv.serve import saved_model

    tried = []
    original = saved_model.SavedModelEngine
    monkeypatch.setattr(
        saved_model, "SavedModelEngine", lambda *args, **kw: tried.append(kw["version"]) or original(*args, **kw)
    )
    shutil.copytree(versions / "2", tmp_path / "model" / "2", ignore=shutil.ignore_patterns("variables"))
    assert [refresh(found) for _ in range(3)] == [1, 1, 1]
    assert tried == [2]
    shutil.copytree(versions / "2" / "variables", tmp_path / "model" / "2" / "variables")
    assert refresh(found) == 2
    assert tried == [2, 2]


def test_removing_the_newest_version_rolls_back(found, versions, tmp_path):
    shutil.copytree(versions / "2", tmp_path / "model" / "2")
    assert refresh(found) == 2
    shutil.rmtree(tmp_path / "model" / "2")
    assert refresh(found) == 1
    shutil.rmtree(tmp_path / "model" / "1")
    assert refresh(found) == 1  # nothing else is there: what is in memory goes on


def test_a_new_version_drops_no_request(found, versions, tmp_path, toy):
    found.watch()
    model, image = found.models["toy"], np.full((6, 7, 3), 100, np.uint8)
    seen, failures, stop = [], [], threading.Event()

    def ask():
        while not stop.is_set():
            try:
                engine = model.engine
                result = model.batcher.run(engine, image, time.monotonic() + 30)
                seen.append((engine.version, int(result.image[0, 0, 0])))
            except Exception as error:
                failures.append(error)

    threads = [threading.Thread(target=ask) for _ in range(3)]
    for thread in threads:
        thread.start()
    shutil.copytree(versions / "2", tmp_path / "staged")
    (tmp_path / "staged").rename(tmp_path / "model" / "2")
    end = time.monotonic() + 30
    while not any(version == 2 for version, _ in seen) and time.monotonic() < end:
        time.sleep(0.01)
    stop.set()
    for thread in threads:
        thread.join()
    assert not failures
    assert set(seen) == {(1, 110), (2, 120)}


def test_a_saved_model_by_itself_is_one_version(versions, tmp_path):
    for place in (tmp_path / "plain", tmp_path / "tfod" / "saved_model"):
        shutil.copytree(versions / "1", place)
    made = registry.Registry({"plain": tmp_path / "plain", "tfod": tmp_path / "tfod"})
    made.load()
    assert [model.engine.version for model in made.models.values()] == [1, 1]
    made.close()


def test_a_model_without_a_version_that_works_ends_the_start(versions, tmp_path):
    shutil.copytree(versions / "3", tmp_path / "3")
    with pytest.raises(ValueError, match=r"no version that works: .*NaN"):
        registry.Registry({"toy": tmp_path}).load()


@pytest.mark.parametrize(
    ("folders", "methods", "message"),
    [
        ({"a": "missing"}, [], "`model` must be a folder of versions"),
        ({}, ["sgzz"], "did you mean 'sgz'"),
        ({}, [], "at least one"),
    ],
)
def test_wrong_names_and_folders_are_named(folders, methods, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        registry.Registry({name: tmp_path / path for name, path in folders.items()}, methods, limits=Limits())


@pytest.mark.parametrize(("text", "name"), [("sgz=some/dir", "sgz"), ("some/dir", "dir"), ("a-b_c.1=x=y", "a-b_c.1")])
def test_a_model_is_named_by_its_folder_or_in_front_of_it(text, name):
    assert registry.model_name(text)[0] == name


@pytest.mark.parametrize("text", ["=x", "a/b=x", "a b=x", "x" * 101 + "=y"])
def test_names_that_fit_no_address_are_refused(text):
    with pytest.raises(ValueError, match="`model` must be DIR or NAME=DIR"):
        registry.model_name(text)
