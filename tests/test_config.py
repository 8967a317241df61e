"""A recipe's mistakes are one line that names the key and the mend."""

from __future__ import annotations

from pathlib import Path

import pytest

from flows.recipes import load_recipe, shipped_recipes
from schemas.config import Recipe, parse_recipe
from schemas.errors import ConfigError

SCENES = {"name": "r", "source": {"kind": "scenes"}}


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({"source": {"kind": "scenes"}}, "missing key `name`"),
        (SCENES | {"sorce": 1}, "unknown key `sorce`: did you mean `source`?"),
        (SCENES | {"source": {"kind": "scenes", "cuont": 3}}, "`source.cuont`: did you mean `count`?"),
        (SCENES | {"source": {"kind": "foo"}}, "unknown source 'foo'; known: folder, scenes"),
        (SCENES | {"source": {}}, "missing key `source.kind`"),
        (SCENES | {"source": {"kind": "scenes", "count": 0}}, "`source.count`: Input should be greater"),
        (SCENES | {"source": {"kind": "scenes", "difficulty": [0.5, 2]}}, "must rise within [0, 1]"),
        (SCENES | {"teacher": {"url": "ftp://x"}}, "neither `embedded` nor an http(s) URL"),
        (SCENES | {"teacher": {"url": "http://"}}, "neither `embedded` nor an http(s) URL"),
        (SCENES | {"teacher": {"url": "http://h:99999"}}, "neither `embedded` nor an http(s) URL"),
        (SCENES | {"teacher": {"url": "http://[::1"}}, "neither `embedded` nor an http(s) URL"),
        (SCENES | {"train": {"guided": {"form": "strict"}}}, "`train.guided.form`"),
        (SCENES | {"name": "../up"}, "`name`"),
        (["a"], "a recipe is a mapping"),
    ],
)
def test_a_mistake_names_the_key_and_the_mend(data: object, message: str) -> None:
    with pytest.raises(ConfigError) as error:
        parse_recipe(data, where="r.yaml")
    assert str(error.value).startswith("r.yaml: ")
    assert message in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("name", shipped_recipes())
def test_every_shipped_recipe_loads_and_bears_its_name(name: str) -> None:
    assert load_recipe(name).name == name


def test_there_are_shipped_recipes() -> None:
    assert {"demo", "folder"} <= set(shipped_recipes())


def test_overrides_replace_nested_keys_and_keep_the_rest() -> None:
    recipe = load_recipe(
        "demo", ["source.count=7", "train.guided.alpha=0.5", "describe.teacher={url: 'http://h'}"]
    )
    assert (recipe.source.kind, recipe.source.count) == ("scenes", 7)  # type: ignore[union-attr]
    assert recipe.train.guided.alpha == 0.5
    assert recipe.partition_size == load_recipe("demo").partition_size
    assert recipe.teachers["describe"].url == "http://h"
    assert recipe.teachers["reason"].url == "embedded"


@pytest.mark.parametrize(
    ("assignment", "message"),
    [
        ("source.count", "write key.sub=value"),
        ("source.count=[", "not YAML"),
        ("name.sub=1", "name is a value, not a block"),
        ("filters.min_anchor=1", "did you mean `min_anchors`?"),
    ],
)
def test_a_wrong_override_is_explained(assignment: str, message: str) -> None:
    with pytest.raises(ConfigError, match=r"--set|demo\.yaml") as error:
        load_recipe("demo", [assignment])
    assert message in str(error.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [("a: [", "not YAML"), ("", "a recipe is a mapping"), ("\xff", "a recipe is a mapping")],
)
def test_a_file_that_is_no_recipe_is_refused(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "bad.yaml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError) as error:
        load_recipe(str(path))
    assert message in str(error.value)


def test_an_unknown_name_lists_the_shipped_ones() -> None:
    with pytest.raises(ConfigError, match="shipped are demo, folder"):
        load_recipe("dmo")


def test_the_synthesis_key_ignores_pace_and_curation_but_not_sampling() -> None:
    base = parse_recipe(SCENES, where="r")
    same = base.model_copy(
        update={"validation": 0.5, "teacher": base.teacher.model_copy(update={"timeout_s": 1})}
    )
    other = base.model_copy(update={"reason": base.reason.model_copy(update={"temperature": 0.1})})
    assert same.synthesis_key() == base.synthesis_key()
    assert other.synthesis_key() != base.synthesis_key()


def test_recipes_cannot_be_changed_in_place() -> None:
    recipe: Recipe = parse_recipe(SCENES, where="r")
    with pytest.raises(ValueError, match="frozen"):
        recipe.seed = 3  # type: ignore[misc]


@pytest.mark.parametrize(
    ("teacher", "secret"),
    [({"url": "http://me:hunter2@h"}, "hunter2"), ({"api_key_env": "sk-hunter2"}, "hunter2")],
)
def test_a_secret_in_the_wrong_place_is_refused_and_not_repeated(
    teacher: dict[str, str], secret: str
) -> None:
    with pytest.raises(ConfigError, match="api_key_env") as error:
        parse_recipe(SCENES | {"teacher": teacher}, where="r")
    assert secret not in str(error.value)


def test_a_shipped_name_is_never_a_folder_that_happens_to_be_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "demo").mkdir()
    (tmp_path / "demo" / "recipe.yaml").write_text("name: other\nsource: {kind: scenes, count: 3}\n")
    monkeypatch.chdir(tmp_path)
    assert load_recipe("demo").name == "demo"
    assert load_recipe("./demo").name == "other"


def test_thresholds_of_evidence_change_no_draft() -> None:
    """They are applied by curation; a draft is sampled before its evidence is there."""
    given = {"name": "t", "source": {"kind": "scenes"}, "samples": {"accept": 1}}
    plain = parse_recipe(given, where="t")
    strict = parse_recipe(given | {"filters": {"evidence": {"max_blind_right": 0.5}}}, where="t")
    other = parse_recipe(given | {"filters": {"min_anchors": 5}}, where="t")
    assert strict.synthesis_key() == plain.synthesis_key() != other.synthesis_key()
    assert strict.filters.before_evidence == plain.filters
    after = parse_recipe(given | {"select": {"per_problem": 1}, "dedup": {"enabled": False}}, where="t")
    assert after.synthesis_key() == plain.synthesis_key()


@pytest.mark.parametrize(
    ("filters", "words"),
    [
        ({"min_tokens": 500, "max_tokens": 20}, "min_tokens: 500 is more than max_tokens, 20"),
        ({"evidence": {"min_likelihood_gain": float("nan")}}, "filters.evidence.min_likelihood_gain"),
    ],
)
def test_thresholds_that_would_reject_everything_are_refused(filters: dict[str, object], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        parse_recipe({"name": "t", "source": {"kind": "scenes"}, "filters": filters}, where="t")
