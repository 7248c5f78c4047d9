"""The page of an evaluation."""

from __future__ import annotations

import dataclasses
import html.parser
import re

import cv2
import numpy as np
import pytest

from tfllv.detection import evaluation, evaluation_page

VOID = {"meta", "img", "input", "rect", "link", "br"}


class Checker(html.parser.HTMLParser):
    """Collects elements, and tags that are not closed in order."""

    def __init__(self):
        super().__init__()
        self.open, self.wrong, self.elements = [], [], []

    def handle_starttag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        if tag in VOID or not self.open or self.open.pop() != tag:
            self.wrong.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))


@pytest.fixture(scope="module")
def made(synthetic):
    """Ground truth with a name that needs escaping, and pictures behind all entries but the last."""
    truth = synthetic.make_truth(20, labels={1: "Bicycle", 2: "<b>&\"Boat'", 5: "Car"}, masks=True)
    images = []
    for index, image in enumerate(truth.images):
        data = cv2.imencode(".png", np.full((image.height, image.width, 3), 9 * index, np.uint8))[1].tobytes()
        name = "<script>alert(1)</script>.png" if index == 0 else image.file
        images.append(dataclasses.replace(image, file=name, read=lambda data=data: data))
    images[3] = dataclasses.replace(images[3], read=lambda: b"broken")
    return dataclasses.replace(truth, images=tuple(images))


@pytest.fixture(scope="module")
def page(made, synthetic):
    """(elements, text of the page, evaluation)."""
    found = synthetic.detect(made, miss=0.5, false=1, masks=True)
    result = evaluation.evaluate(made, found, resamples=20, about={"model": "<i>model</i>", "step": 1500})
    text = evaluation_page.render(result.report, result.worst, result.false, result.label_map)
    checker = Checker()
    checker.feed(text)
    assert not checker.wrong and not checker.open
    return checker.elements, text, result


def test_the_page_is_well_formed_and_loads_nothing(page):
    elements, text, _ = page
    assert not re.search(r"https?://", text)
    assert all(e.get("src", "data:image/webp;base64,").startswith("data:image/webp;base64,") for _, e in elements)
    assert not any(tag == "link" for tag, _ in elements)
    assert "$" not in re.sub(r"<script>.*?</script>|<style>.*?</style>", "", text, flags=re.DOTALL)


def test_names_from_outside_stay_text(page):
    _, text, _ = page
    assert "<script>alert" not in text and "&lt;script&gt;alert(1)" in text
    assert "&lt;i&gt;model&lt;/i&gt;, step 1,500" in text
    assert "&lt;b&gt;&amp;&quot;Boat" in text


def test_every_missed_object_and_false_detection_has_its_mark(page):
    elements, _, result = page
    marks = [e["class"] for tag, e in elements if tag == "g"]
    shown = [*result.worst, *result.false]
    assert marks.count("missed") == sum(int(example.missed.sum()) for example in shown) > 0
    assert marks.count("false") == sum(int(example.false.sum()) for example in shown) > 0
    assert marks.count("found") == sum(int((~example.false).sum()) for example in shown)


def test_the_worst_picture_comes_first(page):
    _, text, result = page
    places = [
        text.index(f"<code>{name}</code>") for name in (e.truth.file for e in result.worst[1:5]) if "<" not in name
    ]
    assert places == sorted(places) and len(places) > 2


def test_there_is_a_table_for_each_metric_and_place(page):
    elements, _, _ = page
    tables = [(e["data-metric"], e["data-place"]) for _, e in elements if "data-metric" in e]
    assert sorted(tables) == sorted((m, p) for m in ("AP", "AP50") for p in ("both", "indoor", "outdoor"))


def test_the_figures_are_those_of_the_report(page):
    _, text, result = page
    for kind in ("bbox", "segm"):
        for value in result.report["metrics"][kind].values():
            assert f"<td>{100 * value:.1f}</td>" in text or value < 0
    row = result.report["cells"][5]
    assert f">{100 * row['AP50']:.1f}<small>" in text


def test_a_picture_that_cannot_be_read_leaves_its_reason(made, synthetic):
    nothing = synthetic.detect(made, miss=1.0, masks=True)
    result = evaluation.evaluate(made, nothing, resamples=5, count=100)
    text = evaluation_page.render(result.report, result.worst, result.false, result.label_map)
    assert text.count('class="absent"') == (1 if len(made.images[3].boxes) else 0)
    assert 'id="false"' not in text


def test_perfect_detections_give_a_page_without_examples(made, synthetic):
    perfect = synthetic.detect(made, masks=True)
    images = tuple(dataclasses.replace(i, scores=np.full(len(i.scores), 0.9)) for i in perfect.images)
    result = evaluation.evaluate(made, dataclasses.replace(perfect, images=images), resamples=5)
    text = evaluation_page.render(result.report, result.worst, result.false, result.label_map)
    assert "Worst misses" not in text and "100.0" in text


def test_embedded_pictures_are_bounded_in_size(synthetic):
    made = synthetic.make_truth(1)
    image = dataclasses.replace(
        made.images[0],
        width=3000,
        height=1500,
        read=lambda: cv2.imencode(".jpg", np.zeros((1500, 3000, 3)))[1].tobytes(),
    )
    big = dataclasses.replace(made, images=(image,))
    result = evaluation.evaluate(big, synthetic.detect(big, miss=1.0), resamples=5)
    text = evaluation_page.render(result.report, result.worst, result.false, result.label_map)
    assert f'width="{evaluation_page.SIDE}" height="{evaluation_page.SIDE // 2}"' in text
