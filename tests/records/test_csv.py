from __future__ import annotations

import pytest

from tfllv.records import csv
from tfllv.records.problems import Report

HEADER = "filename,width,height,class,xmin,ymin,xmax,ymax\n"


@pytest.fixture
def read(tmp_path):
    def call(text, labels=None, header=HEADER):
        path = tmp_path / "boxes.csv"
        path.write_text(header + text)
        report = Report()
        items, labels = csv.read_csv(path, tmp_path / "images", labels, report)
        return items, labels, [str(problem).removeprefix(f"{path}:") for problem in report]

    return call


def test_rows_of_one_picture_are_one_item(read, tmp_path):
    items, labels, problems = read("a.jpg,40,30,Dog,1,2,3,4\nb.jpg,40,30,Cat,1,2,3,4\na.jpg,40,30,Cat,5,6,7.5,8\n")
    assert labels == {"Cat": 1, "Dog": 2} and not problems
    assert [(item.key, item.size, len(item.things)) for item in items] == [
        ("a.jpg", (40, 30), 2),
        ("b.jpg", (40, 30), 1),
    ]
    assert items[0].image == str(tmp_path / "images" / "a.jpg")
    assert items[0].things[1].box == (5, 6, 7.5, 8) and items[0].things[1].label == 1


def test_columns_may_stand_in_any_order_and_be_more(read):
    items, _, problems = read(
        "Cat,9,8,7,6,x,a.jpg,40,30\n", header="class,ymax,xmax,ymin,xmin,note,filename,width,height\n"
    )
    assert items[0].things[0].box == (6, 7, 8, 9) and not problems


def test_every_wrong_row_is_reported_in_one_pass(read):
    items, _, problems = read(
        "a.jpg,40,30,Cat,1,2,3,4\n"
        "a.jpg,41,30,Cat,1,2,3,4\n"
        "a.jpg,40,30,Cow,1,2,3,4\n"
        ",40,30,Cat,1,2,3,4\n"
        "a.jpg,0,30,Cat,1,2,3,4\n"
        "a.jpg,40,3.5,Cat,1,2,3,4\n"
        "a.jpg,40,30,Cat,1,2,inf,4\n"
        "a.jpg,40,30,Cat,1,2\n",
        {"Cat": 3},
    )
    assert len(items) == 1 and len(items[0].things) == 1
    assert [line.split(": ")[:2] for line in problems] == [
        ["9", "row"],
        ["3", "width"],
        ["4", "class"],
        ["5", "filename"],
        ["6", "width"],
        ["7", "height"],
        ["8", "xmax"],
    ]


@pytest.mark.parametrize("text", ["", "\n\n", "filename,width\na,3\n"])
def test_a_csv_without_its_columns_is_an_error(read, text):
    with pytest.raises(ValueError, match=r"boxes.csv:\d: header"):
        read("", header=text)


def test_what_is_written_reads_back(read):
    rows = [["b.jpg", 40, 30, "Cat", 1, 2, 3, 4], ["a,1.jpg", 40, 30, "Dog", 1, 2, 3, 4]]
    items, _, problems = read("", header=csv.write_csv(rows).decode())
    assert [item.key for item in items] == ["a,1.jpg", "b.jpg"] and not problems
