"""Where things lie, and how they get there whole: cache root, atomic writes, locks, hashes."""
import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

from .errors import UserError


def cache_root() -> Path:
    """The folder of everything that can be made again: scenes, trained teachers, teacher maps.

    ``$FGDLAB_HOME`` if set, else ``fgdlab`` in the user's cache folder.
    """
    given = os.environ.get("FGDLAB_HOME")
    return Path(given).expanduser() if given else Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "fgdlab"


def write_text(path: Path, text: str) -> None:
    """Write a file so that a reader, or a kill, at any moment meets the old file or the new one and never a half of it."""
    with atomic_write(path) as unfinished:
        unfinished.write_text(text, encoding="utf-8")


def write_json(path: Path, value) -> None:
    """:func:`write_text` of indented JSON; numbers that JSON lacks (NaN) become null."""
    write_text(path, json.dumps(nan_to_none(value), indent=1) + "\n")


def nan_to_none(value):
    """The same nested lists and dicts with every NaN and infinity replaced by None."""
    if isinstance(value, dict):
        return {key: nan_to_none(each) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [nan_to_none(each) for each in value]
    return None if isinstance(value, float) and not abs(value) < float("inf") else value


def make_folder(path: Path) -> Path:
    """The folder, made with its parents if need be.

    Raises:
        UserError: a file is in the way, or nothing may be written there.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"{path} must be a folder that can be written, got: {error.strerror or error}; choose another folder") from error
    return path


@contextmanager
def atomic_write(path: Path) -> Iterator[Path]:
    """Give a temporary name beside ``path``; when the block ends well, what lies there takes the final name in one step.

    Serves files and folders. A failed block leaves nothing behind. A file's bytes are on the disk before it takes its name, so that a power
    cut leaves no empty file of that name.
    """
    unfinished = path.with_name(f".{path.name}.{os.getpid()}.unfinished")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield unfinished
        if unfinished.is_file():
            with unfinished.open("rb+") as file:
                os.fsync(file.fileno())
        os.replace(unfinished, path)
    except OSError as error:
        raise UserError(f"{path} must be writable, got: {error.strerror or error}; free space there or choose another folder") from error
    finally:
        if unfinished.is_dir():
            shutil.rmtree(unfinished, ignore_errors=True)
        else:
            with suppress(OSError):
                unfinished.unlink(missing_ok=True)


def create_once(path: Path, make: Callable[[Path], None]) -> Path:
    """``path``, made by ``make(unfinished path)`` unless it is there already. Two processes that ask at once make it once."""
    if not path.exists():
        make_folder(path.parent)
        with lock_file(f"{path}.lock"):
            if not path.exists():
                with atomic_write(path) as unfinished:
                    make(unfinished)
    return path


@contextmanager
def lock_file(path: Path | str, timeout: float = -1) -> Iterator[None]:
    """Hold the lock of this name; wait for it at most ``timeout`` seconds, for ever below 0.

    Raises:
        UserError: nothing may be written there. filelock.Timeout: another process held it for the whole time.
    """
    lock = FileLock(path, timeout=timeout)
    try:
        lock.acquire()
    except Timeout:
        raise
    except OSError as error:
        raise UserError(f"{Path(path).parent} must be a folder that can be written, got: {error.strerror or error}; choose another folder") from error
    try:
        yield
    finally:
        lock.release()


def reserve_disk_space(path: Path, size: int) -> None:
    """Claim so many bytes of disk for a file that exists: a mapped file that meets a full disk later ends the process without a word.

    Raises:
        OSError: there is no room. Does nothing on systems that cannot reserve.
    """
    if hasattr(os, "posix_fallocate"):
        with path.open("rb+") as file:
            os.posix_fallocate(file.fileno(), 0, size)


@contextmanager
def checked_read(path: Path) -> Iterator[None]:
    """Read a file of this project's own making within; whatever is wrong with its bytes is one line that says it may be deleted.

    Raises:
        UserError: the file cannot be read, or is not what was written.
    """
    try:
        yield
    except (OSError, EOFError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        reason = " ".join(str(getattr(error, "strerror", None) or error).split()) or type(error).__name__
        raise UserError(f"{path} must be whole, got: {reason}; delete it, and it is made again") from error


def short_hash(value, length: int = 12) -> str:
    """A short hash of any JSON value, the same for equal values whatever the order of keys; or of bytes."""
    data = value if isinstance(value, bytes) else json.dumps(value, sort_keys=True, separators=(",", ":")).encode()
    return hashlib.sha256(data).hexdigest()[:length]
