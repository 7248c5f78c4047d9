from __future__ import annotations

import os

import pytest

from tfllv.runner import plan


@pytest.fixture
def tree(tmp_path, monkeypatch):
    """in/b.jpg in/a.PNG in/c.mp4 in/notes.txt in/.hidden.jpg in/sub/a.png in/sub/.cache/x.jpg"""
    for name in ("b.jpg", "a.PNG", "c.mp4", "notes.txt", ".hidden.jpg", "sub/a.png", "sub/.cache/x.jpg"):
        path = tmp_path / "in" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def pairs(tasks):
    return [(task.source.as_posix(), task.target.as_posix()) for task in tasks]


def test_folder_gives_its_images_and_videos_in_order_of_name(tree):
    tasks = plan.plan_tasks(["in"], "out")
    assert pairs(tasks) == [("in/a.PNG", "out/a.PNG"), ("in/b.jpg", "out/b.jpg"), ("in/c.mp4", "out/c.mp4")]
    assert [task.video for task in tasks] == [False, False, True]
    assert not any(task.problem for task in tasks)


def test_recursive_mirrors_the_sub_folders(tree):
    assert ("in/sub/a.png", "out/sub/a.png") in pairs(plan.plan_tasks(["in"], "out", recursive=True))


def test_output_folder_inside_the_input_folder_is_not_read(tree):
    (tree / "in/out/sub").mkdir(parents=True)
    (tree / "in/out/b.jpg").write_bytes(b"")
    (tree / "in/out/sub/b.jpg").write_bytes(b"")
    tasks = plan.plan_tasks(["in"], "in/out", recursive=True, overwrite=True)
    assert [source for source, _ in pairs(tasks)] == ["in/a.PNG", "in/b.jpg", "in/c.mp4", "in/sub/a.png"]
    tasks = plan.plan_tasks(["in/**/*.jpg"], "in/out", overwrite=True)
    assert pairs(tasks) == [("in/b.jpg", "in/out/b.jpg")]


def test_a_folder_linked_to_itself_ends(tree):
    (tree / "in/sub/loop").symlink_to(tree / "in", target_is_directory=True)
    assert len(plan.plan_tasks(["in"], "out", recursive=True)) == 4


def test_glob_mirrors_what_is_below_its_fixed_part(tree):
    assert pairs(plan.plan_tasks(["in/**/a.*"], "out")) == [
        ("in/a.PNG", "out/a.PNG"),
        ("in/sub/a.png", "out/sub/a.png"),
    ]


def test_a_file_whose_name_looks_like_a_glob_is_that_file(tree):
    (tree / "in/a[1].jpg").write_bytes(b"")
    assert pairs(plan.plan_tasks(["in/a[1].jpg"], "out")) == [("in/a[1].jpg", "out/a[1].jpg")]


def test_a_file_named_twice_is_done_once(tree):
    assert pairs(plan.plan_tasks(["in/b.jpg", "./in/b.jpg", "in/*.jpg"], "out")) == [("in/b.jpg", "out/b.jpg")]


def test_one_input_may_have_an_output_file_name(tree):
    assert pairs(plan.plan_tasks(["in/b.jpg"], "bright.png")) == [("in/b.jpg", "bright.png")]
    (tree / "folder.png").mkdir()
    assert pairs(plan.plan_tasks(["in/b.jpg"], "folder.png")) == [("in/b.jpg", "folder.png/b.jpg")]


def test_existing_output_is_a_problem_unless_it_may_be_replaced(tree):
    (tree / "out").mkdir()
    (tree / "out/b.jpg").write_bytes(b"")
    (tree / "out/a.PNG").mkdir()
    first, second, third = plan.plan_tasks(["in"], "out")
    assert first.problem == "'out/a.PNG' is a folder"
    assert second.problem == "'out/b.jpg' exists; --overwrite replaces it"
    assert third.problem is None
    first, second, third = plan.plan_tasks(["in"], "out", overwrite=True)
    assert first.problem and not second.problem and not third.problem


def test_missing_and_unknown_files_carry_their_problem(tree):
    tasks = plan.plan_tasks(["in/b.jpg", "in/none.jpg", "in/notes.txt", "in/*.gif"], "out")
    assert [task.problem and task.problem.split(";")[0] for task in tasks] == [
        None,
        "there is no such file or folder",
        "the suffix '.txt' is not known",
        "there is no such file or folder",
    ]


@pytest.mark.parametrize(
    ("paths", "output", "message"),
    [
        (["none"], "out", "must name images or videos. Received: 'none'"),
        (["empty"], "out", "-r looks into sub-folders too"),
        (["in"], "in", "must not be the input folder. Received: 'in' for both"),
        (["in"], "./sub/../in", "must not be the input folder"),
        (["in/b.jpg"], "in", "must not replace an input. Received: 'in/b.jpg'"),
        (["in/b.jpg"], "in/b.jpg", "must not replace an input"),
        (["in/b.jpg"], "link.jpg", "must not replace an input"),
        (["in/a.PNG", "in/sub/a.png", "other/a.PNG"], "out", "'in/a.PNG' and 'other/a.PNG', both to 'out/a.PNG'"),
        (["in"], "all.png", "must be a folder for 3 inputs. Received: the file name 'all.png'"),
        (["in/c.mp4"], "c.png", "must be of the input's kind"),
        (["in/b.jpg"], "b.mp4", "must be of the input's kind"),
        (["in/b.jpg"], "in/notes.txt", "must be a folder, or an image or video file"),
    ],
)
def test_what_cannot_be_meant_is_refused_before_any_work(paths, output, message, tree):
    for name in ("empty", "other"):
        (tree / name).mkdir()
    (tree / "other/a.PNG").write_bytes(b"")
    (tree / "sub").mkdir()
    (tree / "link.jpg").symlink_to(tree / "in/b.jpg")
    before = sorted(os.walk(tree))
    with pytest.raises(ValueError) as error:
        plan.plan_tasks(paths, output, overwrite=True)
    assert message in str(error.value)
    assert sorted(os.walk(tree)) == before
