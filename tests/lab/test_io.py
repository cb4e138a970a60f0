"""Files appear whole or not at all, and are made once."""
import json
import multiprocessing
import os
import threading
import time
from pathlib import Path

import pytest

from fgdlab.lab.io import atomic_write, cache_root, create_once, short_hash, user_path, write_json, write_text


def names(folder) -> list[str]:
    """What lies in a folder, lock files aside: they hold nothing and may stay."""
    return sorted(each.name for each in folder.iterdir() if not each.name.endswith(".lock"))


# ---- whole files ---

def test_the_final_name_appears_only_when_the_block_ends_well(tmp_path):
    with atomic_write(tmp_path / "deep" / "file") as unfinished:
        unfinished.write_text("all of it")
        assert not (tmp_path / "deep/file").exists() and unfinished.parent == tmp_path / "deep"
    assert names(tmp_path / "deep") == ["file"] and (tmp_path / "deep/file").read_text() == "all of it"


@pytest.mark.parametrize("failure", [ValueError, KeyboardInterrupt])
@pytest.mark.parametrize("as_folder", [False, True])
def test_a_failed_block_leaves_the_old_content_and_nothing_else(tmp_path, failure, as_folder):
    write_text(tmp_path / "file", "old")
    with pytest.raises(failure), atomic_write(tmp_path / ("folder" if as_folder else "file")) as unfinished:
        if as_folder:
            unfinished.mkdir()
            (unfinished / "half").write_text("ha")
        else:
            unfinished.write_text("ha")
        raise failure
    assert names(tmp_path) == ["file"] and (tmp_path / "file").read_text() == "old"


def test_a_place_that_cannot_be_written_is_one_line(tmp_path, refusal):
    (tmp_path / "file").write_text("in the way")
    assert "must be writable" in refusal(write_text, tmp_path / "file" / "below", "text")


def test_a_cache_that_cannot_be_written_is_one_line(tmp_path, refusal):
    (tmp_path / "file").write_text("in the way")
    assert "must be a folder that can be written" in refusal(
        create_once, tmp_path / "file" / "cache" / "thing", lambda unfinished: unfinished.write_text("x")
    )


def test_json_has_null_for_numbers_that_json_lacks(tmp_path):
    write_json(
        tmp_path / "a.json",
        {"AP": float("nan"), "rows": [1, (float("inf"), -float("inf"))], "deep": {"x": [0.5, "NaN", None, True]}},
    )
    strict = json.loads(
        (tmp_path / "a.json").read_text(), parse_constant=lambda word: pytest.fail(f"{word} is no JSON")
    )
    assert strict == {"AP": None, "rows": [1, [None, None]], "deep": {"x": [0.5, "NaN", None, True]}}


# ---- made once ---

def test_what_is_there_is_not_made_again(tmp_path):
    path = create_once(tmp_path / "a" / "thing", lambda unfinished: unfinished.write_text("first"))
    assert create_once(path, lambda unfinished: pytest.fail("made again")).read_text() == "first"


def test_a_failed_making_leaves_nothing_and_may_be_tried_again(tmp_path):
    def fail(unfinished):
        unfinished.mkdir()
        (unfinished / "half").write_text("ha")
        raise RuntimeError("half-way")

    with pytest.raises(RuntimeError, match="half-way"):
        create_once(tmp_path / "thing", fail)
    assert names(tmp_path) == []
    create_once(tmp_path / "thing", lambda unfinished: unfinished.write_text("second"))
    assert (tmp_path / "thing").read_text() == "second"


def make_slowly(path, log, start):
    def make(unfinished):
        with open(log, "a") as file:
            file.write(f"{os.getpid()}\n")
        time.sleep(0.2)
        unfinished.write_text("whole")

    start.wait()
    assert create_once(path, make).read_text() == "whole"


def test_threads_that_ask_at_once_make_it_once(tmp_path):
    start = threading.Barrier(4)
    threads = [
        threading.Thread(target=make_slowly, args=(tmp_path / "thing", tmp_path / "log", start)) for _ in range(4)
    ]
    for each in threads:
        each.start()
    for each in threads:
        each.join(30)
    assert len((tmp_path / "log").read_text().splitlines()) == 1 and names(tmp_path) == ["log", "thing"]


@pytest.mark.skipif("fork" not in multiprocessing.get_all_start_methods(), reason="this system cannot fork")
def test_processes_that_ask_at_once_make_it_once(tmp_path):
    fork = multiprocessing.get_context("fork")
    start = fork.Barrier(3)
    processes = [fork.Process(target=make_slowly, args=(tmp_path / "thing", tmp_path / "log", start)) for _ in range(3)]
    for each in processes:
        each.start()
    for each in processes:
        each.join(30)
    assert [each.exitcode for each in processes] == [0, 0, 0]
    assert len((tmp_path / "log").read_text().splitlines()) == 1 and names(tmp_path) == ["log", "thing"]


# ---- names ---

def test_the_cache_lies_where_the_environment_says(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    monkeypatch.setenv("FGDLAB_HOME", str(tmp_path / "own"))
    assert cache_root() == tmp_path / "own"
    monkeypatch.setenv("FGDLAB_HOME", "~/own")
    assert cache_root() == Path.home() / "own"
    monkeypatch.delenv("FGDLAB_HOME")
    assert cache_root() == tmp_path / "xdg" / "fgdlab"
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert cache_root() == Path.home() / ".cache" / "fgdlab"


def test_a_digest_depends_on_values_and_not_on_the_order_of_keys():
    assert short_hash({"a": 1, "b": [2, 3]}) == short_hash({"b": [2, 3], "a": 1})
    assert (
        len({short_hash({"a": 1}), short_hash({"a": 2}), short_hash({"b": 1}), short_hash([1]), short_hash(b"1")}) == 5
    )
    assert short_hash(b"abc", 64) == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


# ---- names ---

def test_a_tilde_is_the_home_and_may_begin_a_name(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert user_path("~/data") == tmp_path / "data" and user_path(Path("~")) == tmp_path
    assert user_path("~no-such-user/data") == Path("~no-such-user/data")
