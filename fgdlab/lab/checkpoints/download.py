"""Checkpoints from an address that the user names: downloaded once and kept in the cache."""
import http.client
import re
from pathlib import Path
from urllib.parse import unquote, urlsplit

import torch

from ..errors import UserError
from ..io import cache_root, create_once, short_hash

HASH = re.compile(r"-([0-9a-f]{8,64})\.\w+$")  # in file names of torch and MMDetection


def download(address: str, progress: bool = True) -> Path:
    """The file at an address, downloaded on first use. If its name ends in a hash, the bytes must have it."""
    try:
        parts = urlsplit(address)
    except ValueError:
        parts = urlsplit("")
    name = Path(unquote(parts.path)).name
    if parts.scheme != "https" or not parts.netloc or not name:
        problem = f"a checkpoint's address must begin with https:// and end in a file, got {address!r}"
        raise UserError(f"{problem}; give that, or the path of a file")
    path = cache_root() / "checkpoints" / f"{short_hash(address.encode(), 8)}-{name}"
    promised = HASH.search(name)

    def to(unfinished: Path) -> None:
        if progress:
            print(f"downloading {address} once; it is kept as {path}", flush=True)
        try:
            torch.hub.download_url_to_file(address, str(unfinished), promised and promised[1], progress)
        except (http.client.HTTPException, OSError, ValueError, RuntimeError) as error:
            reason = " ".join(str(getattr(error, "reason", None) or error).split())
            hint = "check the network, or download it elsewhere and give the path of the file"
            raise UserError(f"{address} must give its file, got: {reason}; {hint}") from error

    return create_once(path, to)
