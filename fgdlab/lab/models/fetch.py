"""Checkpoints from elsewhere: fetched once, by an address that the reader wrote down, and kept in the cache.

    https://HOST/.../NAME-1a2b3c4d.pth --fetch--> <cache>/checkpoints/NAME-1a2b3c4d.pth, whose hash begins with 1a2b3c4d
"""
import re
import urllib.error
from pathlib import Path
from urllib.parse import unquote, urlsplit

import torch

from ..disk import cache_root, digest, made_once
from ..errors import UserError

HASH = re.compile(r"-([0-9a-f]{8,64})\.\w+$")                        # as torch's and MMDetection's zoos end the names of their files


def fetch(address: str, progress: bool = True) -> Path:
    """The file behind an address, downloaded on first use; where its name ends in a hash, the bytes must agree with it.

    Raises:
        UserError: an address that is none, no network, nothing there, or other bytes than the name promises.
    """
    parts = urlsplit(address)
    name = Path(unquote(parts.path)).name
    if parts.scheme != "https" or not parts.netloc or not name:
        raise UserError(f"a checkpoint's address must begin with https:// and end in a file, got {address!r}; give that, or the path of a file")
    promised = HASH.search(name)
    path = cache_root() / "checkpoints" / f"{digest(address.encode(), 8)}-{name}"

    def download(unfinished: Path) -> None:
        if progress:
            print(f"downloading {address} once; it is kept as {path}", flush=True)
        try:
            torch.hub.download_url_to_file(address, str(unfinished), promised[1] if promised else None, progress)
        except (urllib.error.URLError, TimeoutError, ConnectionError) as error:
            reason = getattr(error, "reason", None) or error
            raise UserError(
                f"{address} must be within reach, got: {reason}; check the network, or download it elsewhere and give the path of the file",
            ) from error
        except RuntimeError as error:                                # torch's word for a hash that differs
            raise UserError(
                f"{address} must have the bytes that its name promises, got others ({error}); try again, or give the path of a file",
            ) from error

    return made_once(path, download)
