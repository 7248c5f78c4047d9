from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from tfllv.evaluate import labelled


@pytest.fixture
def folders(tmp_path):
    """Two classes of two pictures."""
    for name in ("cat", "dog"):
        (tmp_path / name).mkdir()
        for number in range(2):
            Image.new("RGB", (8, 8), (number, 0, 0)).save(tmp_path / name / f"{number}.png")
    return tmp_path


def test_a_folder_of_class_folders_is_read(folders):
    data = labelled.read(folders)
    assert data.classes == ("cat", "dog")
    assert data.labels.tolist() == [0, 0, 1, 1]
    assert len(data.splits) == 0
    assert data.groups is None


def test_a_csv_is_read_with_its_optional_columns(folders):
    table = folders / "set.csv"
    table.write_text("image,label,group,split,lighting\ncat/0.png,cat,a,train,Low\ndog/1.png,dog,b,test,Strong\n")
    data = labelled.read(table)
    assert data.paths[1].name == "1.png"
    assert data.groups.tolist() == ["a", "b"]
    assert data.splits.tolist() == ["train", "test"]
    assert data.lighting.tolist() == ["Low", "Strong"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("picture,label\n", r"set.csv:1: expected the columns image and label; found picture, label"),
        ("image,label\ncat/0.png,\n", r"set.csv:2: expected an image and a label; found an empty cell"),
        ("image,label\nno.png,cat\n", r"set.csv:2: expected an image file; found 'no.png', which does not exist"),
        ("image,label,split\ncat/0.png,cat,all\n", r"set.csv:2: expected a split of train, val, test; found 'all'"),
        ("image,label\ncat/0.png,cat\n", r"two classes or more"),
    ],
)
def test_a_wrong_csv_names_the_line(folders, text, message):
    (folders / "set.csv").write_text(text)
    with pytest.raises(ValueError, match=message):
        labelled.read(folders / "set.csv")


def test_a_picture_outside_the_class_folders_is_named(folders):
    Image.fromarray(np.zeros((4, 4, 3), np.uint8)).save(folders / "stray.png")
    with pytest.raises(ValueError, match=r"where stray.png stands in none"):
        labelled.read(folders)


def test_the_real_exdark_pictures_come_with_class_split_and_light(shared, tmp_path):
    (tmp_path / "ExDark").symlink_to(shared / "data/exdark/mini/ExDark")
    (tmp_path / "imageclasslist.txt").symlink_to(shared / "data/exdark/imageclasslist.txt")
    data = labelled.read(tmp_path)
    assert len(data) == 5
    assert len(data.classes) == 12
    names = [data.classes[label] for label in data.labels]
    assert names == [path.parent.name for path in data.paths]
    assert set(data.lighting) <= set(labelled.exdark.LIGHTING)
