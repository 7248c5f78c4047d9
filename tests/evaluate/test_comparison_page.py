"""The page: complete, self-contained, escaped, and written whole or not at all."""

from __future__ import annotations

import html.parser
import io
import json
import pathlib
import re
import shutil
import subprocess

import numpy as np
import pytest
from PIL import Image

from tfllv.evaluate import comparison, comparison_page

METHODS = ["histogram_equalization", "clahe", "gamma", "exposure", "adaptive_gamma", "ssr", "msr", "lime", "sgz"]


def webp(level: int) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(np.full((30, 40, 3), level, np.uint8)).save(stream, "WEBP")
    return stream.getvalue()


@pytest.fixture
def made():
    """A comparison with made-up numbers: the page must show them, whatever they are."""
    versions = ["input", "reference", *METHODS]
    rows = []
    for index, name in enumerate(versions):
        measured = index > 1
        rows.append(
            {
                "name": name,
                "summary": f"what <{name}> does",
                "pictures": 2,
                "median_seconds": 0.01 * index if measured else None,
                "throughput_mp_per_s": 100 / index if measured else None,
                "peak_memory_mb": 50.0 + index if measured else None,
                "loaded_memory_mb": 40.0 if measured else None,
                "parameters": 10561 if name == "sgz" else None,
                "macs": 44_667_500 if name == "sgz" else None,
                "psnr": None if name == "reference" else 10.0 + index,
                "ssim": None if name == "reference" else 0.05 * index,
                "niqe": 7.5 - 0.1 * index,
            }
        )
    images = [
        {
            "file": f"x/{name}",
            "name": name,
            "width": 40,
            "height": 30,
            "reference": None,
            "results": {each: {"psnr": float("inf"), "ssim": 1.0, "niqe": None} for each in versions},
            "notes": ["NIQE: too small"],
        }
        for name in ("night.png", '"><script>alert(1)</script>.png')
    ]
    report = {
        "tfllv": "1.2.3",
        "created": "2030-01-02T03:04:05+00:00",
        "machine": {"system": "Linux x86_64", "cores": 2, "python": "3.11", "numpy": "2"},
        "runs": 5,
        "protocol": comparison.protocol(5),
        "methods": rows,
        "images": images,
        "skipped": [{"method": "zero_dce", "reason": "no weights are shipped"}],
        "failed": [{"what": "bad.png", "reason": "not an image"}],
    }
    pictures = [{name: webp(10 * k) for k, name in enumerate(versions)} for _ in images]
    return comparison.Comparison(report, pictures)


class Reader(html.parser.HTMLParser):
    """Collects tags, and checks that every element is closed."""

    VOID = ("meta", "img", "input", "br", "wbr", "link")

    def __init__(self):
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


@pytest.fixture
def page(made):
    text = comparison_page.render(made)
    reader = Reader()
    reader.feed(text)
    assert not reader.open
    return text, reader.tags


def test_every_method_is_in_the_table_and_beside_every_picture(page):
    text, tags = page
    for name in ["input", "reference", *METHODS]:
        assert f"<code>{name.replace('_', '_<wbr>')}</code><small>" in text
        assert sum(attrs.get("data-version") == name for _, attrs in tags) == 2


def test_every_picture_has_a_slider_with_a_labelled_range_and_choices(page):
    _, tags = page
    ranges = [attrs for tag, attrs in tags if tag == "input" and attrs["type"] == "range"]
    assert len(ranges) == 2 and all(attrs["aria-label"] for attrs in ranges)
    assert sum(tag == "select" for tag, _ in tags) == 4
    selected = [attrs for tag, attrs in tags if tag == "option" and "selected" in attrs]
    assert len(selected) == 4


def test_every_thumbnail_has_a_text_and_a_size(page):
    images = [attrs for tag, attrs in page[1] if tag == "img" and "src" in attrs]
    assert len(images) == 2 * 11
    assert all(attrs["alt"] and attrs["width"] == "40" and attrs["height"] == "30" for attrs in images)


def test_the_page_loads_nothing_from_outside(page):
    text, tags = page
    without_pictures = re.sub(r"data:image/webp;base64,[A-Za-z0-9+/=]+", "data:", text)
    assert not re.search(r"https?:|//[a-z]|@import|url\(", without_pictures)
    for tag, attrs in tags:
        assert tag not in ("link", "iframe", "object", "embed")
        for key in ("src", "href"):
            assert (attrs.get(key) or "data:").startswith(("data:", "#"))
    policy = next(attrs["content"] for _, attrs in tags if attrs.get("http-equiv") == "Content-Security-Policy")
    assert policy.startswith("default-src 'none'; img-src data:")


def test_names_of_files_are_text_and_never_markup(page):
    text, tags = page
    assert "<script>alert" not in text and "&lt;script&gt;alert(1)" in text
    assert sum(tag == "script" for tag, _ in tags) == 1


def test_the_protocol_the_skipped_and_the_failed_are_printed(page, made):
    text, _ = page
    for line in made.report["protocol"].values():
        assert comparison_page._escape(line) in text
    assert "<code>zero_dce</code>: no weights are shipped" in text
    assert "<code>bad.png</code>: not an image" in text


def test_the_best_of_each_column_is_marked_among_the_methods(page):
    # Time, throughput and memory grow worse from the first method on; the scores grow better up to SGZ, the last.
    assert re.findall(r"<strong>([^<]*)<", page[0]) == ["20.0", "50.0", "52 ", "20.00", "0.500", "6.50"]


def test_columns_that_nobody_fills_are_left_out(made):
    for row in made.report["methods"]:
        row["parameters"] = row["macs"] = row["psnr"] = None
    text = comparison_page.render(made)
    head = text[text.index("<thead>") : text.index("</thead>")]
    assert "Parameters" not in head and "MACs" not in head and "PSNR" not in head and "NIQE" in head


def test_json_holds_the_report_and_infinity_as_text(made, tmp_path):
    comparison_page.write(made, tmp_path / "report")
    data = json.loads((tmp_path / "report" / "compare.json").read_text(encoding="utf-8"), parse_constant=pytest.fail)
    assert data["images"][0]["results"]["gamma"]["psnr"] == "inf"
    assert data["methods"] == made.report["methods"]


def test_a_new_folder_holds_both_files_and_nothing_is_left_beside_it(made, tmp_path):
    page = comparison_page.write(made, tmp_path / "deep" / "report")
    assert page == tmp_path / "deep" / "report" / "index.html"
    assert sorted(each.name for each in page.parent.iterdir()) == ["compare.json", "index.html"]
    assert [each.name for each in page.parent.parent.iterdir()] == ["report"]
    assert page.parent.stat().st_mode & 0o777 == 0o755


def test_a_folder_that_exists_is_refused_and_with_overwrite_keeps_its_other_files(made, tmp_path):
    target = tmp_path / "report"
    target.mkdir()
    (target / "mine.txt").write_text("mine")
    with pytest.raises(ValueError, match=r"`output` must be a new folder.*pass --overwrite"):
        comparison_page.write(made, target)
    assert [each.name for each in target.iterdir()] == ["mine.txt"]
    comparison_page.write(made, target, overwrite=True)
    assert sorted(each.name for each in target.iterdir()) == ["compare.json", "index.html", "mine.txt"]
    with pytest.raises(ValueError, match="which is a file"):
        comparison_page.check_target(target / "mine.txt", overwrite=True)


def test_a_failed_write_leaves_nothing_behind(made, tmp_path, monkeypatch):
    monkeypatch.setattr(pathlib.Path, "rename", lambda *_: (_ for _ in ()).throw(OSError("disk full")))
    with pytest.raises(OSError, match="disk full"):
        comparison_page.write(made, tmp_path / "report")
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_the_slider_answers_to_keys_pointer_and_thumbnails_in_a_browser(made, tmp_path):
    browser = shutil.which("chromium") or shutil.which("google-chrome")
    if browser is None:
        pytest.skip("no Chromium is installed")
    page = comparison_page.write(made, tmp_path / "report")
    probe = """
<script>
var section = document.querySelector(".picture"), stage = section.querySelector(".stage"), found = [];
function at() { return stage.style.getPropertyValue("--at"); }
found.push(!section.querySelector(".slider").hidden, section.querySelector(".tag-right").textContent, at());
var range = stage.querySelector("input");
range.value = 80; range.dispatchEvent(new Event("input")); found.push(at());
section.querySelector("[data-version=clahe]").click();
found.push(section.querySelector(".tag-right").textContent);
found.push(section.querySelector("[data-version=clahe]").getAttribute("aria-pressed"));
found.push(section.querySelector("[data-version=sgz]").getAttribute("aria-pressed"));
document.querySelector("thead button").click();
found.push(document.querySelector("tbody tr code").textContent);
found.push(document.documentElement.scrollWidth <= window.innerWidth);
document.title = JSON.stringify(found);
</script></body>"""
    page.write_text(page.read_text(encoding="utf-8").replace("</body>", probe), encoding="utf-8")
    command = [browser, "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--window-size=500,900"]
    command += [f"--user-data-dir={tmp_path / 'profile'}", "--dump-dom", page.as_uri()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    title = re.search(r"<title>(.*?)</title>", done.stdout)
    assert title is not None
    assert json.loads(title[1]) == [True, "sgz", "50%", "80%", "clahe", "true", "false", "sgz", True]
