"""The disk cache of the gallery: bounded, whole files only, and a directory that another process may clear."""

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gallery.disk_cache import DiskCache


def files(directory: Path) -> list[Path]:
    """The files of a cache."""
    return sorted(directory.iterdir())


def age(directory: Path) -> None:
    """Make all files a minute older, as time does."""
    for path in files(directory):
        then = path.stat().st_mtime - 60
        os.utime(path, (then, then))


def test_bytes_come_back_by_their_key(tmp_path: Path) -> None:
    """Keys are any text: names of objects are untrusted."""
    cache = DiskCache(tmp_path, 1000)
    cache.put("../../etc/passwd", b"one")
    cache.put("\udcff", b"two")
    assert (cache.get("../../etc/passwd"), cache.get("\udcff"), cache.get("else")) == (b"one", b"two", None)
    assert len(files(tmp_path)) == 2


def test_the_least_recently_read_is_deleted_first(tmp_path: Path) -> None:
    """Reading keeps a file."""
    cache = DiskCache(tmp_path, 30)
    for key in ("a", "b", "c"):
        cache.put(key, b"0123456789")
    cache.get("a")
    cache.put("d", b"0123456789")
    assert [key for key in "abcd" if cache.get(key)] == ["a", "c", "d"]
    assert cache.total_bytes == 30


def test_the_order_outlives_the_process(tmp_path: Path) -> None:
    """The next process deletes the least recently read, too."""
    before = DiskCache(tmp_path, 30)
    for key in ("a", "b"):
        before.put(key, b"0123456789")
    age(tmp_path)
    before.get("a")
    after = DiskCache(tmp_path, 25)
    after.put("c", b"0123456789")
    assert [key for key in "abc" if after.get(key)] == ["a", "c"]


@given(st.lists(st.tuples(st.sampled_from("abcdef"), st.integers(1, 40)), max_size=40))
def test_the_directory_never_has_more_bytes_than_allowed(
    tmp_path_factory: pytest.TempPathFactory, puts: list[tuple[str, int]]
) -> None:
    """Whatever is put, the count of bytes is that of the files."""
    directory = tmp_path_factory.mktemp("cache")
    cache = DiskCache(directory, 64)
    for key, size in puts:
        cache.put(key, b"x" * size)
        found = sum(path.stat().st_size for path in files(directory))
        assert found == cache.total_bytes <= 64
        assert cache.get(key) == b"x" * size


def test_too_many_bytes_are_not_kept(tmp_path: Path) -> None:
    """Nothing else is deleted for a file that does not fit."""
    cache = DiskCache(tmp_path, 10)
    cache.put("a", b"0123456789")
    cache.put("b", b"x" * 11)
    assert (cache.get("a"), cache.get("b")) == (b"0123456789", None)


def test_a_cleared_directory_is_an_empty_cache(tmp_path: Path) -> None:
    """A person may delete the files at any time, and an empty file is the rest of a power cut."""
    cache = DiskCache(tmp_path, 100)
    cache.put("a", b"one")
    cache.put("b", b"two")
    first, second = files(tmp_path)
    first.unlink()
    second.write_bytes(b"")
    assert (cache.get("a"), cache.get("b"), cache.total_bytes) == (None, None, 0)
    cache.put("a", b"one")
    assert cache.get("a") == b"one"


def test_a_full_disk_keeps_nothing_and_fails_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The copy is served all the same, and no part of a file is left."""
    cache = DiskCache(tmp_path, 100)

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "replace", full)
    cache.put("a", b"one")
    assert (cache.get("a"), files(tmp_path)) == (None, [])
