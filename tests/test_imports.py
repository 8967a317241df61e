"""The import direction of the house, and what a quick command may not import."""

from __future__ import annotations

import ast
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.conftest import ROOT

ALLOWED = {
    "schemas": {"schemas"},
    "filters": {"schemas", "filters"},
    "synth": {"schemas", "synth"},
    "trainer": {"schemas", "filters", "trainer"},
    "flows": {"schemas", "filters", "synth", "trainer", "flows"},
}
MODULES = [path for package in ALLOWED for path in sorted((ROOT / package).rglob("*.py"))]


def first_party_imports(path: Path) -> set[str]:
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: a relative import hides its direction"
            found.add((node.module or "").split(".")[0])
    return found & set(ALLOWED)


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_go_one_way(path: Path) -> None:
    package = path.relative_to(ROOT).parts[0]
    assert first_party_imports(path) <= ALLOWED[package]


def test_the_embedded_teacher_cannot_reach_the_generator() -> None:
    """It may share words and rules with the scenes, never the code that knows what was drawn."""
    code = (
        "import sys, synth.embedded;"
        "print([m for m in sys.modules if m == 'synth.scenes' or m.startswith('synth.drawing')])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True)
    assert done.stdout.strip() == "[]"


def test_the_method_needs_neither_trl_nor_datasets() -> None:
    names = ", ".join(
        f"trainer.{name}"
        for name in ("attention", "regions", "losses", "vas", "focus", "intervene", "watch", "rollouts")
    )
    code = f"import sys, {names}; print([m for m in ('trl', 'datasets') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True)
    assert done.stdout.strip() == "[]"


def test_help_is_quick_and_imports_nothing_heavy() -> None:
    heavy = ["torch", "transformers", "trl", "datasets", "prefect", "pyarrow", "pydantic", "rich"]
    code = (
        "import sys; from click.testing import CliRunner; from flows.cli import avar;"
        "assert CliRunner().invoke(avar, ['--help']).exit_code == 0;"
        f"print([m for m in {heavy!r} if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True)
    assert done.stdout.strip() == "[]"


def test_help_answers_within_half_a_second() -> None:
    def once() -> float:
        started = time.monotonic()
        subprocess.run(
            [sys.executable, "-m", "flows.cli", "--help"], cwd=ROOT, capture_output=True, check=True
        )
        return time.monotonic() - started

    assert min(once() for _ in range(3)) < 0.5
