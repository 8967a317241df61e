"""What the README tells people to type works."""

from __future__ import annotations

import re
import shlex
from typing import Any

import pytest

from tests.conftest import ROOT, Demo, avar

README = ROOT / "README.md"


def commands() -> list[str]:
    """Every `avar ...` line of the README's bash blocks, without its comment."""
    blocks = re.findall(r"^```bash\n(.*?)^```", README.read_text(), re.S | re.M)
    text = "\n".join(blocks).replace("\\\n", " ")
    lines = (line.split("  #")[0].strip() for line in text.splitlines())
    return [line for line in lines if line.startswith("avar ")]


def test_the_demo_shown_is_the_demo(demo: Demo) -> None:
    result = demo.result
    shown = README.read_text()
    line = f"problems {result['problems']} = {result['accepted']} accepted"
    assert line in shown
    for reason, rows in result["reasons"].items():
        assert re.search(rf"^{reason} +{rows}$", shown, re.M), reason
    assert losses_are_near(shown, result)


def losses_are_near(shown: str, result: dict[str, Any]) -> bool:
    """Floats differ a little between processors; the README's are near."""
    found = re.search(r"LM loss ([\d.]+) -> ([\d.]+)", shown)
    assert found
    return (
        abs(float(found[1]) - result["loss_first"]) < 0.1 and abs(float(found[2]) - result["loss_last"]) < 0.5
    )


def make_targets() -> set[str]:
    return set(re.findall(r"(?:^|`)make ([a-z-]+)", README.read_text(), re.M))


def test_the_readme_shows_commands() -> None:
    assert "@@" not in README.read_text(), "a placeholder"
    assert len(commands()) >= 6
    assert {"demo", "test", "vllm-env"} <= make_targets()


@pytest.mark.parametrize("target", sorted(make_targets()))
def test_every_make_target_exists(target: str) -> None:
    assert re.search(rf"^{target}:", (ROOT / "Makefile").read_text(), re.M)


# Commands that need a server, a GPU or half an hour are checked for their arguments alone.
NEEDS_A_MACHINE = (
    "avar teacher serve",
    "avar run folder",
    "avar synth folder",
    "avar train sft folder",
    "avar demo",
    "avar ladder",
)


@pytest.mark.parametrize("line", commands())
def test_a_command_of_the_readme_runs(
    line: str, demo: Demo, tmp_path_factory: pytest.TempPathFactory
) -> None:
    if line.startswith(NEEDS_A_MACHINE):
        words = shlex.split(line)
        depth = 3 if words[1] in {"teacher", "train"} else 2
        help_text = avar(*words[1:depth], "--help").out
        assert all(
            word.split("=")[0] in help_text for word in words if word.startswith("--") and word != "--"
        )
        return
    scratch = tmp_path_factory.mktemp("readme")
    # `runs/demo` is what `avar demo` left; other folders are new.
    line = line.replace("runs/demo-", f"{scratch}/demo-").replace("runs/demo", str(demo.root))
    line = line.replace("runs/", f"{scratch}/")
    measures = line.startswith("avar vas")
    ran = avar(*shlex.split(line)[1:], *(["--json"] if measures else []), cwd=scratch)
    assert ran.code == 0, ran.err
    if measures:  # the saved student is the one that the demo measured
        assert ran.last_json["vas"] == pytest.approx(demo.result["vas_after"], rel=1e-3)


def test_python_blocks_run(demo: Demo) -> None:
    blocks = re.findall(r"^```python\n(.*?)^```", README.read_text(), re.S | re.M)
    assert blocks
    for block in blocks:
        exec(compile(block.replace("runs/demo", str(demo.root)), str(README), "exec"), {})
