"""Annotation files with anything at all wrong in them give problems or one error with a line, never a traceback."""

from __future__ import annotations

import copy
import json
import re

import cv2
import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from tfllv.records import coco, csv, detection, exdark, label_map, pairs, schema
from tfllv.records.problems import Report

FEW = settings(
    max_examples=150, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck)
)
# 6 tests of 1,700 files each: 10,200. No shrinking: a failure prints its example anyway.
MANY = settings(FEW, max_examples=1700, phases=[Phase.generate])

EXDARK = b"% bbGt version=3\nBicycle 4 2 10 12 0 0 0 0 0 0 0\nPeople 1 1 5 6 0 0 0 0 0 0 0\n"
CSV = b"filename,width,height,class,xmin,ymin,xmax,ymax\na.jpg,40,30,Cat,1,2,13,14\na.jpg,40,30,Dog,2,3,39,30\n"
PAIRS = b"scene,low,high\n1,a.jpg,a.jpg\n1,b.jpg,a.jpg\n"
LABELS = b"item {\n  id: 1\n  name: 'Cat'\n}\nitem { id: 2 name: \"Dog\" display_name: 'd' }\n"
LIST = b"Name | Class | Light | In/Out | Train/Val/Test\na.jpg 1 2 1 1\nb.jpg 12 10 2 3\n"
COCO = {
    "images": [{"id": 1, "file_name": "a.jpg", "width": 40, "height": 30}],
    "categories": [{"id": 1, "name": "Cat"}, {"id": 2, "name": "Dog"}],
    "annotations": [
        {"image_id": 1, "category_id": 1, "bbox": [1, 2, 13, 14], "area": 9, "iscrowd": 0, "id": 1}
        | {"segmentation": [[1, 2, 13, 2, 13, 14]]},
        {"image_id": 1, "category_id": 2, "bbox": [0, 0, 2, 30], "area": 60, "iscrowd": 1, "id": 2}
        | {"segmentation": {"size": [30, 40], "counts": [0, 60, 1140]}},
        {"image_id": 1, "category_id": 2, "bbox": [0, 0, 2, 30], "area": 60, "iscrowd": 0, "id": 3}
        | {"segmentation": {"size": [30, 40], "counts": r"0l1dS1"}},
    ],
}

PIECES = [b"", b"\0", b"\xff", b"nan", b"-1", b"1e400", b"inf", b",", b" ", b"\n", b"\r", b'"', b"'", b"{", b"}", b"%"]
PIECES += [b"9" * 30, b"\xef\xbb\xbf", b"../../x", b"0", b"None", b"\xe2\x80\xa8", b"\t", b"[", b"null", b":", b"#"]
ODD = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(max_size=8),
    st.sampled_from([10**400, -(10**400), 1e308, 0, -1, "1", "", "a.jpg", [], {}, [[]], [None], {"size": [30, 40]}]),
    st.lists(st.one_of(st.integers(-50, 50), st.floats(), st.none()), max_size=8),
    st.lists(st.lists(st.floats(-1e12, 1e12), max_size=8), max_size=3),
    st.fixed_dictionaries(
        {"size": st.just([30, 40]), "counts": st.one_of(st.text(max_size=9), st.lists(st.integers()))}
    ),
)


WORDS = [
    b"nan",
    b"-1",
    b"1e400",
    b"inf",
    b"0",
    b"9" * 30,
    b"-5.5",
    b"41",
    b"",
    b"Cow",
    b"../x",
    b"\xff",
    b"1_0",
    b"0x1",
]


@st.composite
def mutated(draw, text):
    """The file with up to three words replaced by odd ones, or up to four pieces cut out and put in, anywhere."""
    if draw(st.booleans()):
        words = re.split(rb"(\w+)", text)
        for _ in range(draw(st.integers(1, 3))):
            words[draw(st.integers(0, len(words) // 2 - 1)) * 2 + 1] = draw(st.sampled_from(WORDS))
        return b"".join(words)
    data = bytearray(text)
    for _ in range(draw(st.integers(1, 4))):
        start = draw(st.integers(0, len(data)))
        stop = min(len(data), start + draw(st.integers(0, 12)))
        data[start:stop] = draw(st.one_of(st.sampled_from(PIECES), st.binary(max_size=4)))
    return bytes(data)


def places(value, parent=None, key=None):
    """Every value inside a document, as (container, key)."""
    if parent is not None:
        yield parent, key
    if isinstance(value, dict | list):
        for inner in list(value) if isinstance(value, dict) else range(len(value)):
            yield from places(value[inner], value, inner)


@st.composite
def mutated_document(draw):
    """COCO's document with up to three values anywhere in it replaced, removed or doubled; or its text mutated."""
    document = json.loads(json.dumps(COCO))
    for _ in range(draw(st.integers(1, 3))):
        found = list(places(document))
        if not found:
            break
        container, key = found[draw(st.integers(0, len(found) - 1))]
        action = draw(st.integers(0, 9))
        if action == 0:
            del container[key]
        elif action == 1 and isinstance(container, list):
            container.append(copy.deepcopy(container[key]))
        else:
            container[key] = copy.deepcopy(draw(ODD))
    text = json.dumps(document).encode("utf-8", "surrogatepass")
    return draw(mutated(text)) if draw(st.integers(0, 5)) == 0 else text


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("mutations")
    picture = np.random.default_rng(0).integers(0, 255, (30, 40, 3)).astype(np.uint8)
    for name in ("a.jpg", "b.jpg", "images/a.jpg", "ExDark/Cat/a.jpg"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(folder / name), picture)
    (folder / "ExDark_Annno" / "Cat").mkdir(parents=True)
    return folder


def check(path, data, read):
    """Writes the file, reads it and builds what it describes; whatever is said about it names file and line."""
    path.write_bytes(data)
    report = Report()
    try:
        items = read(report)
    except ValueError as error:
        assert re.match(re.escape(str(path)) + r":\d+: .", str(error)), error
        assert "\n" not in str(error)
        return
    for problem in report:
        assert re.match(re.escape(str(path)) + r":\d+: [^:]+: ", str(problem)), str(problem)
    for item in items:
        build = (
            pairs.PairBuilder()
            if isinstance(item, pairs.Pair)
            else detection.DetectionBuilder(include_masks=any(thing.segmentation for thing in item.things), rows=True)
        )
        built = build(item)
        assert all("\n" not in str(problem) for problem in built.problems)
        if built.record is not None and not isinstance(item, pairs.Pair):
            check_record(schema.parse(built.record))


def check_record(record):
    boxes = np.array([record[key] for key in (schema.XMIN, schema.YMIN, schema.XMAX, schema.YMAX)])
    assert np.isfinite(boxes).all() and (boxes >= 0).all() and (boxes <= 1).all()
    assert (boxes[0] < boxes[2]).all() and (boxes[1] < boxes[3]).all(), "no empty box ever gets into a record"
    assert min(record[schema.CLASS_LABEL], default=1) >= 1
    assert len({len(record[key]) for key in (schema.XMIN, schema.CLASS_LABEL, schema.CLASS_TEXT, schema.AREA)}) == 1
    assert len(record.get(schema.MASK, record[schema.XMIN])) == len(record[schema.XMIN])


def run_exdark(folder, data):
    path = folder / "ExDark_Annno" / "Cat" / "a.jpg.txt"
    check(path, data, lambda report: exdark.read_exdark(folder, report, split="random")["train"])


def run_list(folder, data):
    path = folder / "list.txt"
    check(path, data, lambda report: [*exdark.read_class_list(path, report)][:0])


def run_csv(folder, data):
    path = folder / "boxes.csv"
    check(path, data, lambda report: csv.read_csv(path, folder / "images", None, report)[0])


def run_pairs(folder, data):
    path = folder / "pairs.csv"
    check(path, data, lambda report: pairs.read_pairs_csv(path, None, report))


def run_labels(folder, data):
    path = folder / "map.pbtxt"
    check(path, data, lambda report: [*label_map.read(path)][:0])


def run_coco(folder, data):
    path = folder / "instances.json"
    check(path, data, lambda report: coco.read_coco(path, folder / "images", report, masks=True)[0])


CASES = {
    "exdark": (run_exdark, mutated(EXDARK)),
    "list": (run_list, mutated(LIST)),
    "csv": (run_csv, mutated(CSV)),
    "pairs": (run_pairs, mutated(PAIRS)),
    "label_map": (run_labels, mutated(LABELS)),
    "coco": (run_coco, mutated_document()),
}


def count_checked(case, folder, many):
    """Lets `check` see the mutated files of a case; returns how many they were."""
    run, files = CASES[case]
    done = []
    many(given(files)(lambda data: done.append(run(folder, data))))()
    return len(done)


@pytest.mark.parametrize("case", CASES)
def test_hundreds_of_mutated_files_give_no_traceback(case, folder):
    assert count_checked(case, folder, FEW) >= FEW.max_examples


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES)
def test_ten_thousand_mutated_files_give_no_traceback(case, folder):
    assert count_checked(case, folder, MANY) >= MANY.max_examples


@pytest.mark.parametrize(
    ("case", "data"),
    [
        ("exdark", EXDARK),
        ("list", LIST),
        ("csv", CSV),
        ("pairs", PAIRS),
        ("label_map", LABELS),
        ("coco", json.dumps(COCO).encode()),
    ],
)
def test_the_files_that_are_mutated_are_good(case, data, folder, monkeypatch):
    seen = []
    monkeypatch.setattr(Report, "add", lambda self, *words: seen.append(words))
    CASES[case][0](folder, data)
    assert not seen
