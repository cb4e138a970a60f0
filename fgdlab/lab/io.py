"""Files: the cache folder, atomic writes, locks, reads that report corrupt files, hashes and YAML."""
import hashlib
import json
import os
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout
from tqdm import tqdm

from .errors import UserError, reason

MAX_YAML_LENGTH = 100_000  # characters; this project's sweeps have about 3,000
MANY_FILES = 2000  # a progress bar from here on
CLOCK_STEP = 2.0  # seconds between two times of the coarsest file systems


def cache_root() -> Path:
    """The folder of all that can be made again: ``$FGDLAB_HOME``, else ``fgdlab`` in the user's cache folder."""
    if home := os.environ.get("FGDLAB_HOME"):
        return user_path(home)
    return user_path(os.environ.get("XDG_CACHE_HOME") or "~/.cache") / "fgdlab"


def user_path(path: str | Path) -> Path:
    """~ is the user's home. A file's own name may begin with it, too."""
    return Path(os.path.expanduser(path))


def refuse_source(out: Path, source: Path) -> None:
    """UserError where writing ``out`` would replace the file that it is made of."""
    if out.exists() and out.samefile(source):
        raise UserError(f"the file to write must be new, got its source {str(out)!r}; choose another")


def write_text(path: Path, text: str) -> None:
    with atomic_write(path) as unfinished:
        unfinished.write_text(text, encoding="utf-8")


def write_json(path: Path, value) -> None:
    """NaN and infinities become null."""
    write_text(path, json.dumps(nan_to_none(value), indent=1) + "\n")


def nan_to_none(value):
    if isinstance(value, dict):
        return {key: nan_to_none(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [nan_to_none(item) for item in value]
    return None if isinstance(value, float) and not abs(value) < float("inf") else value


def make_folder(path: Path) -> Path:
    """Create the folder and its parents if they do not exist. UserError where it cannot be written."""
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise not_writable(path, error) from error
    return path


def not_writable(folder: Path, error: OSError) -> UserError:
    return UserError(f"{folder} must be a folder that can be written, got: {reason(error)}; choose another folder")


@contextmanager
def atomic_write(path: Path) -> Iterator[Path]:
    """Yield a temporary path in the same folder and rename it to ``path``, a file or folder, when the block succeeds.

    Readers see the old content or the new one, never a part. A file is flushed to disk before the rename, so a power
    cut leaves no empty file.
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
        got = f"got: {reason(error)}; free space there or choose another folder"
        raise UserError(f"{path} must be writable, {got}") from error
    finally:
        if unfinished.is_dir():
            shutil.rmtree(unfinished, ignore_errors=True)
        else:
            with suppress(OSError):
                unfinished.unlink(missing_ok=True)


def create_once(path: Path, create: Callable[[Path], None]) -> Path:
    """Call ``create(temporary path)`` if ``path`` does not exist, once among concurrent processes."""
    if not path.exists():
        make_folder(path.parent)
        with lock_file(f"{path}.lock"):
            if not path.exists():
                with atomic_write(path) as unfinished:
                    create(unfinished)
    return path


@contextmanager
def lock_file(path: Path | str, timeout: float = -1, busy: str = "") -> Iterator[None]:
    """Hold a lock file. timeout: seconds to wait; below 0: no limit.

    Raises:
        UserError: the folder cannot be written; ``busy``, if another process held the lock for the whole time.
    """
    try:
        lock = FileLock(path, timeout=timeout).acquire()
    except Timeout:
        raise UserError(busy) from None
    except OSError as error:
        raise not_writable(Path(path).parent, error) from error
    with lock:
        yield


def reserve_disk_space(path: Path) -> None:
    """Reserve a file's bytes where the system can: writing to a mapped file on a full disk kills the process."""
    if hasattr(os, "posix_fallocate"):
        with path.open("rb+") as file:
            os.posix_fallocate(file.fileno(), 0, path.stat().st_size)


@contextmanager
def checked_read(path: Path) -> Iterator[None]:
    """Read a file that this project wrote. Errors in the block become a UserError: corrupt, safe to delete."""
    try:
        yield
    except (OSError, EOFError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise UserError(f"{path} must be whole, got: {reason(error)}; delete it, and it is made again") from error


def short_hash(value, length: int = 12) -> str:
    """The start of the SHA-256 of bytes, or of any JSON value; the order of dict keys does not matter."""
    data = value if isinstance(value, bytes) else json.dumps(value, sort_keys=True, separators=(",", ":")).encode()
    return hashlib.sha256(data).hexdigest()[:length]


def file_hashes(folder: Path | str, names: Sequence[str]) -> list[str]:
    """The SHA-256 of each file's bytes. The cache keeps them with the file's size, times and inode; only files where
    these have changed are read."""
    folder = os.path.realpath(folder)
    store = cache_root() / "contents" / f"{short_hash(folder)}.json"
    try:
        known = {**json.loads(store.read_bytes())}
    except (OSError, ValueError, TypeError):  # none yet, or damaged: the files are read again
        known = {}
    stamps = {}
    for name in names:
        status = os.stat(os.path.join(folder, name))
        stamps[name] = [status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino]
    new = [name for name in stamps if (known.get(name) or [0])[:-1] != stamps[name]]
    for name in tqdm(new, desc="read image files", unit="file", leave=False, disable=len(new) < MANY_FILES):
        with open(os.path.join(folder, name), "rb") as file:
            known[name] = [*stamps[name], hashlib.file_digest(file, "sha256").hexdigest()]
    hashes = [known[name][-1] for name in names]
    last = (time.time() - CLOCK_STEP) * 1e9  # a file may change again before the clock shows it
    if settled := [name for name in new if max(stamps[name][1:3]) < last]:
        kept = {name: row for name, row in known.items() if name not in new or name in settled}
        write_text(store, json.dumps(kept))
    return hashes


def load_yaml(text: str):
    """The plain value of a YAML text: None, bool, int, float, str, list, dict or date.

    UserError: not YAML, a tag that asks for code, nested too deeply, or too long.
    """
    import yaml

    class Loader(yaml.SafeLoader):
        def construct_mapping(self, node, deep=False):
            keys = [key.value for key, _ in node.value]
            if twice := [key for i, key in enumerate(keys) if key in keys[:i]]:
                raise yaml.constructor.ConstructorError(None, None, f"the key {twice[0]!r} twice", node.start_mark)
            return super().construct_mapping(node, deep)

    if len(text) > MAX_YAML_LENGTH:
        got = f"got {len(text)}; cut it into several files"
        raise UserError(f"must be YAML of at most {MAX_YAML_LENGTH} characters, {got}")
    try:
        return Loader(text).get_single_data()
    except yaml.YAMLError as error:
        mark, problem = getattr(error, "problem_mark", None), getattr(error, "problem", error)
        where = f" in line {mark.line + 1}" if mark else ""
        raise UserError(f"must be YAML, got a mistake{where}: {problem}; correct it there") from error
    except (RecursionError, MemoryError) as error:
        raise UserError("must be YAML, got lists or mappings that are nested too deeply; correct it") from error
    except (ValueError, LookupError, TypeError, AttributeError) as error:  # such as the date 2026-13-45
        got = f"got an invalid value: {reason(error)}; put it in quotes, or correct it"
        raise UserError(f"must be YAML, {got}") from error
