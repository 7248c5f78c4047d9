from __future__ import annotations

import io
import zipfile

import pytest

from tfllv.serve import archive


@pytest.mark.parametrize(
    ("name", "stem"),
    [
        ("photo.jpg", "photo"),
        ("../../etc/passwd", "passwd"),
        ("C:\\dir\\a b.png", "a_b"),
        (".htaccess", "htaccess"),
        ("", "image"),
        (None, "image"),
        ("///", "image"),
        ("..", "image"),
        ("nul.png", "_nul"),
        ("a\0b\n.png", "a_b"),
        ("ночь.jpg", "ночь"),
        ("x" * 300 + ".png", "x" * 80),
    ],
)
def test_names_become_safe(name, stem):
    assert archive.safe_stem(name) == stem


def test_names_become_unique_also_without_letter_case():
    names = archive.unique_names(["a.jpg", "A.png", "b/a.webp", "a-2.jpg"], ".png")
    assert names == ["a.png", "A-2.png", "a-3.png", "a-2-2.png"]
    assert len({name.casefold() for name in names}) == 4


def test_the_zip_is_sent_while_it_is_made():
    made = []

    def entries():
        for number in range(3):
            made.append(number)
            yield f"{number}.png", bytes([number]) * 1000

    pieces = archive.stream(entries())
    first = next(pieces)
    assert made == [0]
    data = first + b"".join(pieces)
    with zipfile.ZipFile(io.BytesIO(data)) as file:
        assert file.testzip() is None
        assert file.namelist() == ["0.png", "1.png", "2.png"]
        assert file.read("2.png") == b"\x02" * 1000


def test_the_same_files_give_the_same_bytes():
    first, second = (b"".join(archive.stream([("a", b"x")])) for _ in range(2))
    assert first == second
