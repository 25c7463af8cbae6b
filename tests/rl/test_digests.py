"""Digests of the files of a folder: any other content is noticed, and a file may grow behind what counts."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
from cosignal.errors import SnapshotDamaged
from cosignal.rl.digests import DIGESTS, Digest, check_digests, digest_of, write_digests


def test_the_digest_is_that_of_the_first_bytes(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"abcdef")
    assert digest_of(path) == Digest(6, hashlib.sha256(b"abcdef").hexdigest())
    assert digest_of(path, 3) == Digest(3, hashlib.sha256(b"abc").hexdigest())
    assert digest_of(path, 9).size == 6


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "a").write_bytes(b"abcdef")
    (tmp_path / "b").write_bytes(b"")
    write_digests(tmp_path, {"a": digest_of(tmp_path / "a", 3)})
    return tmp_path


def test_what_was_written_is_accepted_and_may_grow_behind_what_counts(folder: Path) -> None:
    assert check_digests(folder, ["a", "b"])
    (folder / "a").write_bytes(b"abcXYZ and more")
    assert check_digests(folder, ["a"])


@pytest.mark.parametrize("content", [b"abXdef", b"ab", b""])
def test_another_content_is_noticed(folder: Path, content: bytes) -> None:
    (folder / "a").write_bytes(content)
    with pytest.raises(SnapshotDamaged, match="'a' is not the file that was written"):
        check_digests(folder)
    assert check_digests(folder, ["b"], every=False)


def test_a_missing_file_is_noticed_and_one_without_a_digest_where_it_must_have_one(folder: Path) -> None:
    with pytest.raises(SnapshotDamaged):
        check_digests(folder, ["c"])
    (folder / "b").unlink()
    with pytest.raises(SnapshotDamaged):
        check_digests(folder)


@pytest.mark.parametrize("text", ["", "[]", "{", '{"a": 1}', '{"a": [3]}', '{"../a": [3, "x"]}', "\x00", "\xff"])
def test_digests_that_are_none_are_refused(folder: Path, text: str) -> None:
    (folder / DIGESTS).write_text(text, encoding="latin-1")
    with pytest.raises(SnapshotDamaged):
        check_digests(folder)


def test_a_folder_of_an_older_version_has_none(tmp_path: Path) -> None:
    assert not check_digests(tmp_path, ["a"])
