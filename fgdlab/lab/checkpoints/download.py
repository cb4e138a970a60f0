"""Checkpoints from elsewhere: fetched once, by an address that the reader wrote down, and kept in the cache.

    https://HOST/.../NAME-1a2b3c4d.pth --fetch--> <cache>/checkpoints/NAME-1a2b3c4d.pth, whose hash begins with 1a2b3c4d
"""
import hashlib
import http.client
import re
import urllib.error
import urllib.request
from pathlib import Path
from urllib.parse import unquote, urlsplit

from tqdm import tqdm

from ..errors import UserError
from ..io import cache_root, create_once, short_hash

HASH = re.compile(r"-([0-9a-f]{8,64})\.\w+$")                        # as torch's and MMDetection's zoos end the names of their files
LARGEST = 4 * 2**30                                                  # bytes; the largest of the paper's teachers has 0.5 GB, twice that with an optimiser's state
PIECE, PATIENCE = 2**20, 60                                          # bytes read at once; seconds without a byte


def fetch(address: str, progress: bool = True) -> Path:
    """The file behind an address, downloaded on first use; where its name ends in a hash, the bytes must agree with it.

    Raises:
        UserError: an address that is none, no network, nothing there, more than LARGEST bytes, fewer than were promised, or other ones.
    """
    try:
        parts = urlsplit(address)
    except ValueError:
        parts = urlsplit("")
    name = Path(unquote(parts.path)).name
    if parts.scheme != "https" or not parts.netloc or not name:
        raise UserError(f"a checkpoint's address must begin with https:// and end in a file, got {address!r}; give that, or the path of a file")
    path = cache_root() / "checkpoints" / f"{short_hash(address.encode(), 8)}-{name}"

    def download(unfinished: Path) -> None:
        if progress:
            print(f"downloading {address} once; it is kept as {path}", flush=True)
        try:
            copied(address, unfinished, HASH.search(name), progress)
        except (urllib.error.URLError, http.client.HTTPException, TimeoutError, ConnectionError, ValueError) as error:
            reason = " ".join(str(getattr(error, "reason", None) or error).split())
            raise UserError(
                f"{address} must be within reach, got: {reason}; check the network, or download it elsewhere and give the path of the file",
            ) from error

    return create_once(path, download)


def copied(address: str, file: Path, promised: re.Match | None, progress: bool) -> None:
    """Write what lies at the address into a file, piece by piece; nothing is read past LARGEST."""
    hash_of, size = hashlib.sha256(), 0
    with opener().open(urllib.request.Request(address, headers={"User-Agent": "fgdlab"}), timeout=PATIENCE) as reply, open(file, "wb") as kept:
        said = reply.headers.get("Content-Length", "")
        whole = int(said) if said.isdecimal() else None
        refuse_large(address, whole or 0)
        with tqdm(total=whole, unit="B", unit_scale=True, unit_divisor=1024, disable=not progress) as bar:
            while piece := reply.read(PIECE):
                size += len(piece)
                refuse_large(address, size)
                kept.write(piece)
                hash_of.update(piece)
                bar.update(len(piece))
    if whole is not None and size != whole:
        raise UserError(f"{address} must give the {whole} bytes that it promises, got {size}; try again, or give the path of a file")
    if promised and not hash_of.hexdigest().startswith(promised[1]):
        raise UserError(
            f"{address} must have the bytes that its name promises, got others, whose hash begins with {hash_of.hexdigest()[:len(promised[1])]}; "
            "try again, or give the path of a file",
        )


def refuse_large(address: str, size: int) -> None:
    if size > LARGEST:
        raise UserError(f"{address} must have at most {LARGEST} bytes, got {size} or more; give a checkpoint without an optimiser's state, or the path of a file")


class Encrypted(urllib.request.HTTPRedirectHandler):
    """Follows where a server sends it on, as long as that is https."""

    def redirect_request(self, request, reply, code, message, headers, to):
        if urlsplit(to).scheme != "https":
            raise UserError(f"{request.full_url} must stay with https://, got sent on to {to}; download it elsewhere and give the path of the file")
        return super().redirect_request(request, reply, code, message, headers, to)


def opener() -> urllib.request.OpenerDirector:
    """What opens addresses; the system's proxy settings hold."""
    return urllib.request.build_opener(Encrypted)
