"""Drawn detections can be read: labels are whole and apart, lines suit the picture, classes differ."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from tfllv.detection import draw

NAMES = {1: "Bicycle", 2: "Boat", 12: "Table"}


def canvas(height=120, width=160, level=20):
    return np.full((height, width, 3), level, np.uint8)


def one(image, box, **options):
    return draw.draw_detections(image, np.array([box]), [1], [0.9], NAMES, **options)


def label_places(monkeypatch, image, boxes, names):
    """Where labels were put, and in which picture."""
    places = []
    place = draw._place_label

    def note(*args):
        places.append(place(*args))
        return places[-1]

    monkeypatch.setattr(draw, "_place_label", note)
    number = len(boxes)
    draw.draw_detections(image, np.array(boxes), [1] * number, np.linspace(0.9, 0.5, number), names)
    return places


def test_the_input_is_not_changed_and_without_detections_nothing_is_drawn():
    image = canvas()
    assert (draw.draw_detections(image, np.zeros((0, 4)), [], [], NAMES) == image).all()
    one(image, [0.2, 0.2, 0.8, 0.8])
    assert (image == 20).all()


def test_a_box_is_framed_in_its_class_color_and_its_inside_is_left_alone():
    drawn = one(canvas(400, 400), [0.25, 0.25, 0.75, 0.75])
    assert (drawn[150:250, 150:250] == 20).all()
    row = drawn[200, 95:115]
    assert (row == draw.class_color(1)).all(-1).any()


def test_scores_below_the_threshold_and_boxes_past_the_limit_are_left_out():
    image, box = canvas(), [[0.2, 0.2, 0.8, 0.8]]
    assert (draw.draw_detections(image, box, [1], [0.29], NAMES) == image).all()
    assert (draw.draw_detections(image, box, [1], [0.9], NAMES, max_boxes=0) == image).all()
    assert (draw.draw_detections(image, box, [1], [0.3], NAMES) != image).any()


def test_of_two_boxes_the_better_one_is_kept_by_the_limit():
    left, right = [0.5, 0.05, 0.9, 0.2], [0.5, 0.8, 0.9, 0.95]
    drawn = draw.draw_detections(canvas(), [left, right], [1, 1], [0.4, 0.8], NAMES, max_boxes=1)
    assert (drawn[:, :60] == 20).all() and (drawn[:, 100:] != 20).any()


@pytest.mark.parametrize("box", [[0, 0, 0.1, 0.1], [0.9, 0.9, 1, 1], [0, 0.9, 0.1, 1], [-3, -3, 4, 4], [0, 0, 1, 1]])
def test_a_label_is_whole_wherever_its_box_is(monkeypatch, box):
    (place,) = label_places(monkeypatch, canvas(), [box], NAMES)
    assert 0 <= place[0] < place[2] <= 160 and 0 <= place[1] < place[3] <= 120


def test_letters_lie_inside_their_ground_with_a_margin():
    # The ground is of one colour; whatever is dark on it is a letter, and none touches its rim.
    drawn = draw.draw_detections(canvas(300, 400, 255), [[0.5, 0.2, 0.9, 0.9]], [1], [0.9], {1: "Ägjpqy|汽车"})
    ground = (drawn[:150] != 255).any(-1)
    rows, columns = np.flatnonzero(ground.any(1)), np.flatnonzero(ground.any(0))
    label = drawn[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1].astype(int)
    letters = np.abs(label - draw.class_color(1)).max(-1) > 60
    assert letters.any()
    for rim in (letters[0], letters[-1], letters[:, 0], letters[:, -1]):
        assert not rim.any()


def test_labels_of_neighbouring_objects_do_not_cover_each_other(monkeypatch):
    boxes = [[0.4, 0.1 + 0.02 * i, 0.5, 0.2 + 0.02 * i] for i in range(6)]
    places = label_places(monkeypatch, canvas(480, 640), boxes, NAMES)
    assert len(places) == 6
    assert not any(draw._overlap(a, b) for a, b in itertools.combinations(places, 2))


def test_a_long_label_shrinks_to_the_width_and_is_left_out_where_it_could_not_be_read(monkeypatch):
    (wide,) = label_places(monkeypatch, canvas(100, 160), [[0.3, 0.3, 0.9, 0.9]], {1: "a rather long name of a class"})
    assert wide[2] - wide[0] <= 160
    assert not label_places(monkeypatch, canvas(100, 60), [[0.3, 0.3, 0.9, 0.9]], {1: "a rather long name of a class"})


@pytest.mark.parametrize("size", [(1, 1), (1, 50), (3, 2), (9, 300)])
def test_tiny_pictures_are_drawn_on(size):
    assert one(canvas(*size), [0.1, 0.1, 0.9, 0.9]).shape == (*size, 3)


def test_lines_and_letters_grow_with_the_picture():
    small, large = draw._Style.of(480, 640), draw._Style.of(3000, 4000)
    assert large.line > 4 * small.line and large.text > 4 * small.text


def test_every_two_of_the_twelve_classes_differ_and_none_is_dark():
    colors = [np.array(draw.class_color(number), float) for number in range(1, 13)]
    assert min(np.abs(a - b).max() for a, b in itertools.combinations(colors, 2)) >= 40
    assert len({draw.class_color(number) for number in range(1, 91)}) == 90
    assert min(np.dot(draw.class_color(number), [0.299, 0.587, 0.114]) for number in range(1, 91)) >= 119


def test_a_mask_is_blended_inside_its_outline_alone():
    mask = np.zeros((120, 160), bool)
    mask[40:80, 50:110] = True
    drawn = one(canvas(), [0.3, 0.3, 0.7, 0.7], masks=mask[None])
    expected = 0.6 * 20 + 0.4 * np.array(draw.class_color(1))
    assert np.abs(drawn[60, 80] - expected).max() <= 1
    assert (drawn[100:, :] == 20).all()
    assert (drawn[40, 60:100] == draw.class_color(1)).all(-1).mean() > 0.9


def test_an_empty_mask_and_a_box_that_is_not_finite_are_no_error():
    image = canvas()
    one(image, [0.3, 0.3, 0.7, 0.7], masks=np.zeros((1, 120, 160), bool))
    assert (one(image, [np.nan, 0, 1, 1]) == image).all()


def test_an_unknown_class_is_drawn_by_its_number(monkeypatch):
    texts = []
    monkeypatch.setattr(draw, "_draw_label", lambda image, box, text, *rest: texts.append(text))
    draw.draw_detections(canvas(), [[0, 0, 1, 1]], [7], [0.999], NAMES)
    assert texts == ["class 7 99%"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"image": np.zeros((4, 4, 3), np.float32)}, "`image` must be"),
        ({"boxes": np.zeros((1, 3))}, "`boxes` must be"),
        ({"scores": [0.5, 0.5]}, "`classes` and `scores`"),
        ({"masks": np.zeros((1, 5, 5), bool)}, "`masks` must be"),
    ],
)
def test_wrong_arguments_are_named(change, message):
    good = {"image": canvas(4, 4), "boxes": [[0, 0, 1, 1]], "classes": [1], "scores": [0.9], "names": NAMES}
    with pytest.raises(ValueError, match=message):
        draw.draw_detections(**(good | change))


def test_a_box_is_drawn_in_a_small_picture_too():
    image = canvas(24, 32)
    drawn = one(image, [0.25, 0.25, 0.75, 0.75])
    assert (drawn[6, 8:24] != image[6, 8:24]).any(-1).all()
