"""A full disk is one line, and what was finished before stays."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import avar


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 4 MiB."""
    if os.geteuid() != 0:
        pytest.skip("mounting a tmpfs needs root")
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(folder)], capture_output=True, check=False
    )
    if mount.returncode:
        pytest.skip(f"a tmpfs cannot be mounted here: {mount.stderr.decode().strip()}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


@pytest.mark.root
def test_a_full_disk_is_said_and_finished_partitions_are_kept(small_disk: Path) -> None:
    sets = ("--set", "source.count=200", "--set", "partition_size=10")
    ran = avar("run", "demo", "--out", small_disk / "run", *sets)
    assert ran.code == 1, (ran.out, ran.err)
    assert "the disk is full" in ran.err
    assert "Traceback" not in ran.err
    shards = list((small_disk / "run" / "drafts").glob("part-*.arrow"))
    assert shards
    assert not list((small_disk / "run").rglob("*.tmp"))

    subprocess.run(["mount", "-o", "remount,size=200m", str(small_disk)], check=True)
    before = {path: path.stat().st_mtime_ns for path in shards}
    again = avar("run", "demo", "--out", small_disk / "run", "--json", *sets)
    assert again.code == 0, again.err
    assert again.last_json["problems"] == 200
    assert {path: path.stat().st_mtime_ns for path in shards} == before
