"""A bad environment: disks that are full or read-only, half-written caches, locks, clocks, no card.

A read-only folder and a full disk are played by the calls that would meet them, as the user may be root and the disk
large; one row has a real limit on the size of files, in a process of its own (tests/robustness/test_bad_inputs.py).
"""
import builtins
import errno
import io
import os
import shutil
import time
from contextlib import ExitStack, contextmanager
from pathlib import Path
from unittest import mock

import torch
from filelock import FileLock

from .annotations import says
from .world import RUN, SWEEP, TAUGHT, Row, cut, holds


@contextmanager
def refusing(folder: str, number: int):
    """Every attempt to make or to write a file below a folder fails with this error number."""
    root = os.path.abspath(folder) + os.sep

    def below(path) -> bool:
        return isinstance(path, (str, os.PathLike)) and os.path.abspath(path).startswith(root)

    def guard(function, writes):
        def guarded(path, *rest, **settings):
            if below(path) and writes(*rest, **settings):
                raise OSError(number, os.strerror(number), str(path))
            return function(path, *rest, **settings)

        return guarded

    def by_mode(mode="r", *rest, **settings) -> bool:
        return any(letter in mode for letter in "wax+")

    def by_flags(flags, *rest, **settings) -> bool:
        return bool(flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT))

    with ExitStack() as stack:
        for owner, name, writes in (
            (builtins, "open", by_mode), (io, "open", by_mode), (os, "open", by_flags),
            (os, "mkdir", lambda *rest, **settings: True),
        ):
            stack.enter_context(mock.patch.object(owner, name, guard(getattr(owner, name), writes)))
        yield


DIGITS = ("data", "digits", "--train", "1", "--tune", "1", "--val", "1", "--out", "place/digits")


def full(folder: str):
    return lambda: refusing(folder, errno.ENOSPC)


def read_only(folder: str):
    return lambda: refusing(folder, errno.EROFS)


@contextmanager
def locked():
    """Another process runs in ``mine``; nobody waits half a minute for it here."""
    from fgdlab.lab.io import lock_file
    from fgdlab.lab.run import folder as run

    os.makedirs("mine")
    soon = mock.patch.object(run, "lock_file", lambda path, timeout, busy: lock_file(path, 0.05, busy))
    with FileLock("mine/lock"), soon:
        yield


@contextmanager
def no_memory():
    from fgdlab.lab.run import one_run as run

    def too_much(*arguments, **settings):
        raise RuntimeError(
        "[enforce fail at alloc_cpu.cpp:1] err == 0. DefaultCPUAllocator: can't allocate memory: you tried to allocate "
        "10 bytes.")

    with mock.patch.object(run, "train", too_much):
        yield


@contextmanager
def yesterday():
    """The clock is a day behind what it was when the files were written."""
    now = time.time
    with mock.patch.object(time, "time", lambda: now() - 86_400):
        yield


@contextmanager
def no_card():
    with mock.patch.object(torch.cuda, "is_available", lambda: False):
        yield


def trained(name, spoil, line, check=None, command=(*TAUGHT[:-1], "again"), around=None) -> Row:
    """A row that finds a filled cache: scenes, teacher, its maps and its scores; the run of ``mine`` again, in another
    folder."""
    return Row(name, spoil, command, line, check, around, trained=True)


def in_the_future() -> None:
    """Every file of the run, the data and the cache is from tomorrow."""
    os.unlink("mine/result.json")
    for path in Path().rglob("*"):
        os.utime(path, (time.time() + 86_400,) * 2)


ROWS = [
    # places
    Row("run: the folder is a file", holds("taken", ""), (*RUN, "--out", "taken"),
        "taken must be a folder that can be written, got: File exists; choose another folder"),
    Row("run: the folder is below a file", holds("taken", ""), (*RUN, "--out", "taken/x"),
        "taken/x must be a folder that can be written, got: Not a directory; choose another folder"),
    Row("sweep: the folder is below a file", holds("taken", ""), (
        "sweep", "table1_areas", "--scale", "smoke", "--out", "taken/x",
    ),
        ".../taken/x must be a folder that can be written, got: Not a directory; choose another folder"),
    Row("teacher: the copy is below a file", holds("taken", ""), (
        "teacher", *TAUGHT[1:-2], "--weights", "taken/t.safetensors",
    ),
        "taken must be a folder that can be written, got: File exists; choose another folder"),
    Row("run: a read-only folder", lambda: os.mkdir("mine"), (*RUN, "--out", "mine"),
        "mine must be a folder that can be written, got: Read-only file system; choose another folder",
        around=read_only("mine")),
    Row("run: a read-only cache", None, (*TAUGHT,),
        "home/pixels must be a folder that can be written, got: Read-only file system; choose another folder",
        around=read_only("home")),
    Row("digits: a read-only folder", lambda: os.mkdir("place"), DIGITS,
        "place must be a folder that can be written, got: Read-only file system; choose another folder",
        around=read_only("place")),
    Row("run: the cache is below a file", lambda: holds("home", "")(), (*TAUGHT,),
        "home/pixels must be a folder that can be written, got: Not a directory; choose another folder"),
    # no room
    Row("run: the disk is full", lambda: os.mkdir("mine"), (*RUN, "--out", "mine"),
        "mine must be a folder that can be written, got: No space left on device; choose another folder",
        around=full("mine")),
    Row("digits: the disk is full", lambda: os.mkdir("place"), DIGITS,
        "place must be a folder that can be written, got: No space left on device; choose another folder",
        around=full("place")),
    Row("run: no file may be larger than 60 kB, so the checkpoint does not fit", None, (*RUN, "--out", "mine"),
        "mine/checkpoint.pt must be writable, got: File too large; free space there or choose another folder",
        elsewhere="test_bad_inputs.py::test_a_real_limit_on_the_size_of_files_is_one_line"),
    trained(
        "the disk is full while the teacher's maps are made",
        lambda: [shutil.rmtree(path) for path in Path("home/teacher_maps").iterdir() if path.is_dir()],
        "home/teacher_maps must be a folder that can be written, got: No space left on device; choose another folder",
        around=full("home/teacher_maps")),
    Row(
        "run: the memory does not suffice", None, RUN,
        "the memory must suffice, got: ...; lower batch_size or image_size", around=no_memory,
    ),
    # a cache that a power cut left half-written
    trained(
        "half of the decoded images", cut("home/pixels/*.npy"),
        "home/pixels/....npy must be whole, got: ...; delete it, and it is made again",
    ),
    trained("half of the teacher", cut("home/teachers/*.safetensors"),
        "home/teachers/retinanet-compact_s-....safetensors must be a .safetensors file, got something else (...); "
        "export it anew; or delete it, "
        "and it is made again"),
    trained("half of the teacher's scores", cut("home/teachers/*.json", 0.3),
        "home/teachers/scores-....json must be whole, got: ...; delete it, and it is made again"),
    trained("half of the teacher's maps", cut("home/teacher_maps/*/P3.npy"),
        "home/teacher_maps/... must be whole, got: ...; delete it, and it is made again"),
    trained("half of the index of the teacher's maps", cut("home/teacher_maps/*/index.json"),
        "home/teacher_maps/... must be whole, got: ...; delete it, and it is made again"),
    trained("no index of the teacher's maps", lambda: next(Path("home").glob("teacher_maps/*/index.json")).unlink(),
        "home/teacher_maps/... must be whole, got: ...; delete it, and it is made again"),
    # others, cards, clocks
    Row("run: another process is at work in the folder", None, (*RUN, "--out", "mine"),
        "mine must be free, but another process is running in it; wait for it, or choose another folder",
        around=locked),
    Row("run: cuda asked for, no card", None, (*RUN, "--device", "cuda"),
        "device=cuda must find a CUDA GPU, got none; use device=auto or device=cpu, or check the driver",
        around=no_card),
    Row("sweep: cuda asked for, no card", None, (*SWEEP, "--set", "device=cuda"),
        "device=cuda must find a CUDA GPU, got none; use device=auto or device=cpu, or check the driver",
        around=no_card),
    Row("two processes make the same scenes", None, ("data", "digits"), "", elsewhere=
        "test_digits.py::test_two_processes_that_ask_at_once_make_it_once"),
    Row(
        "two processes make the same cache", None, TAUGHT, "",
        elsewhere="test_io.py::test_processes_that_ask_at_once_make_it_once",
    ),
    Row("the reader of the output has seen enough (`| head -1`)", None, ("data", "check", "pets"), "", elsewhere=
        "test_bad_inputs.py::test_a_reader_that_has_seen_enough_is_no_error"),
    Row("the port of JupyterLab is in use", None, ("make lab",), "", elsewhere=
        "test_safety.py::test_jupyterlab_takes_the_next_port_and_asks_for_a_token_on_the_loopback_address"),
    trained("all files are from tomorrow", in_the_future, "", says("teacher AP"), command=TAUGHT),
    trained(
        "the clock is a day behind", lambda: os.unlink("mine/result.json"), "", says("teacher AP"), command=TAUGHT,
        around=yesterday,
    ),
]
