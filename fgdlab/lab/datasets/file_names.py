"""Image files whose names other systems spell differently: slashes, capitals, accents, escapes, addresses, folders."""
import os
import unicodedata
from pathlib import Path, PurePosixPath, PureWindowsPath
from urllib.parse import unquote


def stays_in_folder(name: str) -> bool:
    posix, windows = PurePosixPath(name), PureWindowsPath(name)
    return not (posix.is_absolute() or windows.anchor or ".." in posix.parts or ".." in windows.parts)


def is_file(folder: Path, name: str) -> bool:
    return stays_in_folder(name) and os.path.isfile(folder / name)


def spelling(name: str) -> tuple[str, ...]:
    name = unicodedata.normalize("NFC", unquote(name)).casefold().replace("\\", "/").replace("?d=", "/")
    return tuple(part for part in name.split("://")[-1].split("?")[0].split("/") if part not in ("", ".", ".."))


def other_spellings(names: list[str], folder: Path) -> dict[str, str]:
    """{missing name: the one file's name that is another spelling of it}.

    One of the two paths must end in the other, so that no image stands for one of another folder.
    """
    missing = [name for name in names if not is_file(folder, name)]
    if not missing:
        return {}
    listed, files = set(names), {}
    for place, _, here in os.walk(folder):
        for file in here:
            path = Path(place, file).relative_to(folder).as_posix()
            if path not in listed and (parts := spelling(path)):
                files.setdefault(parts[-1], []).append((parts, path))
    found = {}
    for name in missing:
        parts = spelling(name)
        matches = [
            path for others, path in files.get(parts[-1] if parts else "", ())
            if others[-len(parts):] == parts or parts[-len(others):] == others
        ]
        if len(matches) == 1:
            found[name] = matches[0]
    taken = list(found.values())
    return {name: path for name, path in found.items() if taken.count(path) == 1}
