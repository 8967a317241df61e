"""A run's folder: who may write there, what is finished, what it was made with.

RUN/recipe.yaml        the resolved recipe
RUN/manifest.json      when and with which versions; the funnel; the dataset's shards with their SHA-256
RUN/journal.sqlite     every answer of the teachers, where the recipe names no other file
RUN/drafts/part-00000.arrow ...   one shard per partition (schemas/shards.py)
RUN/models/            what was trained from it, where something was
RUN/logs/              of the servers that avar started
RUN/train/ validation/ rejected/ failed/ dataset_dict.json        the curated dataset
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import platform
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import IO, Any

import yaml

from schemas.config import Recipe, parse_recipe, read_yaml
from schemas.errors import ConfigError, ShardError
from schemas.records import (
    Draft,
    Problem,
    Stage,
    Status,
    draft_from_row,
    draft_schema,
    draft_to_row,
    problem_of,
)
from schemas.shards import (
    ShardInfo,
    count_rows,
    disk_errors,
    iterate_rows,
    read_shard,
    write_json,
    write_shard,
    write_text,
)

RECIPE_FILE = "recipe.yaml"
MANIFEST_FILE = "manifest.json"
DRAFTS = "drafts"
JOURNAL_FILE = "journal.sqlite"
_PARTITION_KEY = b"avar.partition"
_MADE_WITH_KEY = b"avar.made_with"
_PACKAGES = ("avar", "datasets", "pyarrow", "prefect", "torch", "transformers", "trl")


@contextmanager
def open_run(root: Path, recipe: Recipe, prompts: Mapping[str, str]) -> Iterator[None]:
    """Takes a run's folder for writing, and refuses one that holds a run of another source.

    A run may be continued with more rows, other settings or other prompts: what the journal holds is not
    asked again, and drafts that would come out otherwise are made anew (`discard_stale`).

    Args:
        prompts: question -> prompt hash.
    Raises:
        ConfigError: the folder holds another run or foreign files.
        ShardError: another process is writing there, or the folder cannot be written.
    """
    _require_free(root, recipe)
    with locked(root):
        _require_free(root, recipe)  # somebody may have been quicker
        _remove_leftovers(root)
        if not (root / RECIPE_FILE).is_file():  # it makes the folder a run
            write_text(root / RECIPE_FILE, dump_recipe(recipe))
        _start_manifest(root, prompts)
        yield


@contextmanager
def open_curation(run: Path, out: Path, recipe: Recipe) -> Iterator[None]:
    """Takes the folder that a run's drafts are curated into: the run's own, or one for this run alone.

    Args:
        recipe: the run's, with other thresholds perhaps; saved in `out` once its dataset is there.
    Raises:
        ConfigError: the recipe asks for other drafts than the run's, or `out` holds something else.
        ShardError: drafts are missing, or another process is writing there.
    """
    made, asked = (one.synthesis_key(with_filters=False) for one in (load_run_recipe(run), recipe))
    if made != asked:
        changed = _first_difference(made, asked)
        raise ConfigError(
            f"{changed}: synthesis decides that, not curation; `avar run` with another --out does it"
        )
    require_whole(run)
    identity = str(run.resolve())
    elsewhere = identity != str(out.resolve())
    if elsewhere:
        _require_curated_from(out, identity)
    with locked(out), locked(run, shared=True) if elsewhere else nullcontext():
        if not (out / RECIPE_FILE).is_file():  # a new folder says what it is before anything is in it
            write_text(out / RECIPE_FILE, dump_recipe(recipe))
            update_manifest(out, curated_from=identity)
        yield
        write_text(out / RECIPE_FILE, dump_recipe(recipe))


def _require_curated_from(out: Path, identity: str) -> None:
    if out.exists() and not out.is_dir():
        raise ConfigError(f"{out}: a file, not a folder; choose another --out")
    if _is_empty(out):
        return
    if read_manifest(out).get("curated_from") != identity:
        raise ConfigError(f"{out}: holds something else than this run curated before; choose another --out")


def _is_empty(root: Path) -> bool:
    """True for a folder that holds nothing but what a killed start of avar left, or that does not exist."""
    return not root.is_dir() or all(path.name == ".lock" or _is_leftover(path) for path in root.iterdir())


def _is_leftover(path: Path) -> bool:
    """A temporary file of `write_text` or of `ShardWriter`."""
    return re.fullmatch(r"\..+\.\d+\.tmp", path.name) is not None and path.is_file()


def _remove_leftovers(root: Path) -> None:
    """Files of a process that was killed while writing; the lock says that it is gone."""
    for folder in (root, root / DRAFTS):
        for path in folder.glob(".*.tmp"):
            if _is_leftover(path):
                path.unlink()


def dump_recipe(recipe: Recipe) -> str:
    """The resolved recipe as YAML, every default written out."""
    return yaml.safe_dump(recipe.model_dump(mode="json"), sort_keys=False, allow_unicode=True)


def require_run(root: Path) -> None:
    """Raises: ShardError: `root` is not a run's folder."""
    if not (root / RECIPE_FILE).is_file():
        what = "no such folder" if not root.is_dir() else f"not a run ({RECIPE_FILE} is missing)"
        raise ShardError(f"{root}: {what}; `avar run RECIPE --out DIR` makes one")


def load_run_recipe(root: Path) -> Recipe:
    """The recipe a run was made with.

    Raises: ShardError: `root` is not a run.
    """
    require_run(root)
    path = root / RECIPE_FILE
    return parse_recipe(read_yaml(path), where=str(path))


def _require_free(root: Path, recipe: Recipe) -> None:
    if root.exists() and not root.is_dir():
        raise ConfigError(f"{root}: a file, not a folder; choose another --out")
    if _is_empty(root):
        return
    if not (root / RECIPE_FILE).is_file():
        raise ConfigError(f"{root}: not empty and not a run of avar; choose another --out")
    if "curated_from" in read_manifest(root):
        raise ConfigError(f"{root}: holds a dataset curated from another run; choose another --out")
    if not any((root / DRAFTS).glob("part-*.arrow")):
        return
    stored = load_run_recipe(root)
    if stored.source_key() != recipe.source_key():
        changed = _first_difference(stored.source_key(), recipe.source_key())
        raise ConfigError(f"{root}: holds another run ({changed}); choose another --out or remove the folder")
    if stored.synthesis_key() != recipe.synthesis_key():
        _require_answers(root, journal_path(root, recipe))


def journal_path(root: Path, recipe: Recipe) -> Path:
    """Where the run's answers are kept."""
    return recipe.journal or root / JOURNAL_FILE


def note_models(root: Path, models: Mapping[str, str]) -> dict[str, str]:
    """Notes which model answers each question. Returns: those noted earlier as well."""
    known = {**read_manifest(root).get("models", {}), **models}
    update_manifest(root, models=known)
    return known


def synthesis_stamp(recipe: Recipe, prompts: Mapping[str, str], models: Mapping[str, str]) -> str:
    """Hash of everything but the rows that a draft depends on: recipe, prompts, models.

    Returns: 32 hexadecimal digits.
    """
    asked = {name: models.get(name, "") for name in recipe.questions}
    key = {name: value for name, value in recipe.synthesis_key().items() if name != "source"}
    made_with = [key, dict(sorted(prompts.items())), asked]
    return hashlib.sha256(json.dumps(made_with, sort_keys=True).encode()).hexdigest()[:32]


def begin_synthesis(root: Path, recipe: Recipe, stamp: str) -> None:
    """Makes this the recipe of the run's drafts, now that its teachers have been found.

    Raises: ConfigError: drafts would have to be made anew, and the journal is gone.
    """
    discard_stale(root, stamp, journal_path(root, recipe))
    write_text(root / RECIPE_FILE, dump_recipe(recipe))


def discard_stale(root: Path, stamp: str, journal: Path) -> int:
    """Removes draft shards that were made with other settings, prompts or models.

    Nothing is lost with them: the answers they rest on are in the journal.

    Returns: how many were removed.
    Raises: ConfigError: that journal is gone.
    """
    stale = [path for path in _shard_paths(root) if _metadata(path, _MADE_WITH_KEY) != stamp]
    if stale:
        _require_answers(root, journal)
    for path in stale:
        path.unlink()
    if stale:
        reopen_synthesis(root)
    return len(stale)


def _require_answers(root: Path, journal: Path) -> None:
    if not journal.is_file():
        raise ConfigError(
            f"{root}: holds drafts made with other settings, and the journal of their answers is not at "
            f"{journal}; name it with `journal:`, or choose another --out"
        )


def discard_failed(root: Path) -> int:
    """Removes draft shards with rows, or parts of evidence, that failed at a teacher: they are drafted anew.

    Returns: how many were removed.
    """
    removed = 0
    for path in _shard_paths(root):
        rows = read_shard(path).select(["status", "stage", "evidence_faults"]).to_pylist()
        if any(row["evidence_faults"] or _failed_at_teacher(row) for row in rows):
            path.unlink()
            removed += 1
    if removed:
        reopen_synthesis(root)
    return removed


def _failed_at_teacher(row: Mapping[str, Any]) -> bool:
    return row["status"] == Status.FAILED and row["stage"] != Stage.SOURCE


def reopen_synthesis(root: Path) -> None:
    """Notes that partitions are drafted anew, or added to a run that was finished."""
    if synthesis_finished(root):
        manifest = {k: v for k, v in read_manifest(root).items() if k not in {"partitions", "drafts"}}
        write_json(root / MANIFEST_FILE, manifest)


def _first_difference(old: Any, new: Any, path: str = "") -> str:
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        for key in [*old, *(key for key in new if key not in old)]:
            if old.get(key) != new.get(key):
                return _first_difference(old.get(key), new.get(key), f"{path}.{key}" if path else key)
    return f"{path} is {old!r} there, {new!r} here"


@contextmanager
def locked(root: Path, *, shared: bool = False) -> Iterator[None]:
    """Keeps other avar processes from writing there; `shared`: others may read it, too.

    Raises: ShardError: another one is at it.
    """
    with opened_for_lock(root) as file:
        try:
            fcntl.flock(file, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise ShardError(f"{root}: another avar process (pid {_holder(file)}) is writing here") from error
        if shared:
            yield
            return
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
        yield


@contextmanager
def opened_for_lock(root: Path) -> Iterator[IO[str]]:
    """The lock file of a folder, which is made where it does not exist."""
    with disk_errors(root):
        root.mkdir(parents=True, exist_ok=True)
        file = (root / ".lock").open("a+")
    with file:
        yield file


def _holder(file: IO[str]) -> str:
    file.seek(0)
    return file.read().strip() or "unknown"


# ------------------------------------------------------------------------------------------- manifest


def read_manifest(root: Path) -> dict[str, Any]:
    """The manifest, {} where the run has none yet."""
    path = root / MANIFEST_FILE
    if not path.is_file():
        return {}
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ShardError(f"{path}: not JSON ({error}); remove it and run the command again") from error
    if not isinstance(data, dict):
        raise ShardError(f"{path}: not a manifest; remove it and run the command again")
    return data


def update_manifest(root: Path, **entries: object) -> None:
    """Sets entries of the manifest, atomically."""
    write_json(root / MANIFEST_FILE, read_manifest(root) | entries)


def now() -> str:
    """UTC time for the manifest; shards hold no clock time."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def _start_manifest(root: Path, prompts: Mapping[str, str]) -> None:
    started = read_manifest(root).get("started", now())
    versions = {"python": platform.python_version()} | {name: version(name) for name in _PACKAGES}
    update_manifest(root, started=started, versions=versions, prompts=dict(prompts))


def shard_entries(shards: Iterable[ShardInfo]) -> list[dict[str, object]]:
    """Shards as manifest entries."""
    return [{"file": s.name, "rows": s.rows, "bytes": s.bytes, "sha256": s.sha256} for s in shards]


# ------------------------------------------------------------------------------------------- partitions


def partition_path(root: Path, number: int) -> Path:
    """Where a partition's draft shard is."""
    return root / DRAFTS / f"part-{number:05d}.arrow"


def partition_fingerprint(problems: Sequence[Problem | Draft]) -> str:
    """Hash of a partition's rows in order: all that is stored of them, and why rows failed at the source."""
    digest = hashlib.sha256()
    for item in problems:
        digest.update(json.dumps(_identity(item)).encode() + b"\n")
    return digest.hexdigest()[:32]


def _identity(item: Problem | Draft) -> tuple[str | int, ...]:
    problem = problem_of(item)
    failure = item.failure if isinstance(item, Draft) else None
    return (
        *(problem.id, problem.index, problem.source, problem.row, problem.category),
        *(problem.facts, problem.licence, *(image.path for image in problem.images)),
        *((failure.reason, failure.detail) if failure else ()),
    )


def write_partition(
    root: Path, number: int, fingerprint: str, drafts: Sequence[Draft], stamp: str = "", *, whole: bool = True
) -> ShardInfo:
    """Writes a partition's drafts as one shard, in source order.

    Args:
        fingerprint: of its rows; stamp: of what they were made with.
        whole: False where rows are still missing: they can be looked at, and are drafted anew.
    """
    schema = draft_schema()
    marks = {_PARTITION_KEY: (fingerprint if whole else "").encode(), _MADE_WITH_KEY: stamp.encode()}
    schema = schema.with_metadata({**(schema.metadata or {}), **marks})
    return write_shard(partition_path(root, number), [draft_to_row(draft) for draft in drafts], schema)


def finished_as(root: Path, number: int) -> str:
    """The fingerprint of the rows that a partition's finished shard holds, "" where there is no such shard.

    Raises: ShardError: it is damaged.
    """
    path = partition_path(root, number)
    return _metadata(path, _PARTITION_KEY) if path.exists() else ""


def iterate_partition(root: Path, number: int) -> Iterator[Draft]:
    """The drafts of a partition's shard, in order."""
    return map(draft_from_row, iterate_rows(partition_path(root, number)))


def count_partition(root: Path, number: int) -> int:
    """How many drafts a partition's shard holds, 0 where there is none."""
    path = partition_path(root, number)
    return count_rows(path) if path.exists() else 0


def count_all_drafts(root: Path) -> int:
    """Rows in all draft shards, 0 where there are none."""
    return sum(map(count_rows, _shard_paths(root)))


def discard_misfit(root: Path, number: int, last: int, *, whole: bool) -> bool:
    """Removes the shard behind a partition if it was cut elsewhere: no row may be in two shards.

    Where partitions end depends on the size of their pictures: a source that has changed may cut others.
    Nothing is lost, since the answers are in the journal. Shards further behind are looked at when the one
    before them is written; some of them may be of this go already.

    Args:
        last: index of the last row that the partition has read.
        whole: whether that is its last row.
    Returns: whether it was removed.
    """
    behind = partition_path(root, number + 1)
    if not behind.exists():
        return False
    first = read_shard(behind).column("index")[0].as_py()
    if first == last + 1 or (not whole and first > last):
        return False
    behind.unlink()
    return True


def _metadata(path: Path, key: bytes) -> str:
    return (read_shard(path).schema.metadata or {}).get(key, b"").decode()


def finish_synthesis(root: Path, partitions: Sequence[int]) -> None:
    """Notes that every partition is drafted.

    Args:
        partitions: rows of each partition, in order.
    """
    remove_surplus(root, len(partitions))
    update_manifest(root, drafts=sum(partitions), partitions=list(partitions))


def synthesis_finished(root: Path) -> bool:
    """True where every partition of the run's source is drafted."""
    return "partitions" in read_manifest(root)


def require_whole(root: Path) -> None:
    """Raises: ShardError: a draft shard is missing, damaged, or holds other rows than were written."""
    paths = draft_shards(root)
    missing = [path for number, path in enumerate(paths) if path != partition_path(root, number)]
    known = read_manifest(root).get("partitions")
    if known is None:
        # Not finished: partitions may end in any order, so a gap is no loss yet.
        return
    if missing or len(paths) != len(known):
        raise ShardError(
            f"{root / DRAFTS}: {len(paths)} of {len(known)} draft shards are there; run `avar synth` again "
            "with the same recipe and --out to make the missing ones"
        )
    for path, rows in zip(paths, known, strict=True):
        if count_rows(path) != rows:
            raise ShardError(
                f"{path}: {count_rows(path)} rows, {rows} were written; remove it and synthesize again"
            )


def remove_surplus(root: Path, partitions: int) -> None:
    """Removes shards of partitions that the source no longer has; their answers stay in the journal."""
    for path in _shard_paths(root):
        if path >= partition_path(root, partitions):
            path.unlink()


def draft_shards(root: Path) -> list[Path]:
    """The run's draft shards in source order.

    Raises: ShardError: there is none.
    """
    paths = _shard_paths(root)
    if not paths:
        raise ShardError(f"{root}: no drafts; run `avar synth RECIPE --out {root}` first")
    return paths


def _shard_paths(root: Path) -> list[Path]:
    return sorted((root / DRAFTS).glob("part-*.arrow"))


def iterate_drafts(root: Path) -> Iterator[dict[str, Any]]:
    """Every draft's row in source order, one record batch in memory at a time."""
    for path in draft_shards(root):
        yield from iterate_rows(path)


def count_drafts(root: Path) -> int:
    """Rows in all draft shards."""
    return sum(count_rows(path) for path in draft_shards(root))
