"""Imports go one way: a module may import its own layer's package and the layers below it, never one above."""

from __future__ import annotations

import ast
import pathlib

import pytest

PACKAGE = pathlib.Path(__file__).parent.parent / "tfllv"

# Lowest first. Names in one row are siblings; they do not import each other, except as SIBLINGS allows.
LAYERS = [
    {"contracts", "config"},
    {"ops"},
    {"losses", "metrics", "models", "diffusion", "records"},
    {"inputs", "objectives", "enhancers"},
    {"runner"},
    {"train", "evaluate", "detection", "export"},
    {"serve"},
    {"commands"},
    {"cli"},
]
SIBLINGS = {
    ("detection", "train"),
    ("losses", "metrics"),
    ("models", "diffusion"),
    ("objectives", "inputs"),
    ("config", "contracts"),
}
ORDER = {name: rank for rank, names in enumerate(LAYERS) for name in names}


def imports_of(path: pathlib.Path) -> set[str]:
    """The second-level packages of tfllv that a file imports, anywhere in it."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == "tfllv":
            parts = node.module.split(".")
            found |= {parts[1]} if len(parts) > 1 else {alias.name for alias in node.names}
        elif isinstance(node, ast.Import):
            found |= {a.name.split(".")[1] for a in node.names if a.name.startswith("tfllv.")}
    return found & set(ORDER)


def modules() -> list[pathlib.Path]:
    return [
        path
        for path in sorted(PACKAGE.rglob("*.py"))
        if path.relative_to(PACKAGE).parts[0] not in ("__init__.py", "__main__.py")
    ]


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_a_module_imports_only_its_own_package_and_lower_layers(path):
    own = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
    assert own in ORDER, f"{own} has no layer; add it to LAYERS"
    for name in imports_of(path) - {own}:
        allowed = ORDER[name] < ORDER[own] or (own, name) in SIBLINGS
        assert allowed, f"{path.relative_to(PACKAGE)} imports tfllv.{name}, which is not below tfllv.{own}"


def test_networks_and_losses_are_backend_neutral():
    for package in ("models", "losses", "objectives"):
        for path in sorted((PACKAGE / package).glob("*.py")):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                names = [a.name for a in node.names] if isinstance(node, ast.Import) else []
                names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
                assert not any(n.split(".")[0] in ("tensorflow", "torch", "jax") for n in names), f"{path}: {names}"


def test_no_module_grows_past_four_hundred_lines():
    long = {str(p.relative_to(PACKAGE)): n for p in modules() if (n := p.read_text().count("\n")) > 400}
    assert not long
