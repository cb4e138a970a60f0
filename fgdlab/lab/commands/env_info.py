"""The machine as a run will find it: versions, devices, caches, disk, and whether the fused loss applies."""
import os
import platform
import shutil
from collections.abc import Iterator
from pathlib import Path

import torch

from fgdlab.config import FGDConfig
from fgdlab.fused.dispatch import why_readable

from ..errors import UserError
from ..io import cache_root, make_folder
from ..provenance import device_name, packages
from ..training import CheckResult

LEAST_FREE, USUAL_FREE = 1.0, 20.0                                   # GB: below the first nothing can be written, below the second no teacher's maps


def machine_lines() -> Iterator[CheckResult]:
    yield CheckResult("python and packages", True, ", ".join([f"python {platform.python_version()}", *(f"{name} {version}" for name, version in packages().items())]))
    yield CheckResult("processor", True, f"{device_name('cpu')}, {os.cpu_count()} cores")
    yield from cards()
    yield from fused_loss()
    yield from folders()


def cards() -> Iterator[CheckResult]:
    if not torch.cuda.is_available():
        yield CheckResult("cards", None, "none that torch can use; runs go to the CPU", "for one with a card: install its driver, and a torch built for it")
        return
    for index in range(torch.cuda.device_count()):
        free, whole = torch.cuda.mem_get_info(index)
        yield CheckResult(
            f"card {index}", free > 0.2 * whole, f"{torch.cuda.get_device_name(index)}, {free / 1e9:.0f} of {whole / 1e9:.0f} GB free",
            "" if free > 0.2 * whole else "see who uses it: nvidia-smi",
        )


def fused_loss() -> Iterator[CheckResult]:
    for device in ("cpu", *(("cuda",) if torch.cuda.is_available() else ())):
        why = why_readable(FGDConfig(), device)
        used = "what FGD runs use" if device == "cpu" else "FGD runs use it with fused=on"
        yield CheckResult(f"fused FGD loss on {device}", True if why is None else None, f"applies; {used}" if why is None else f"does not apply: {why}")


def folders() -> Iterator[CheckResult]:
    root = cache_root()
    try:
        make_folder(root)
        held = sum(each.stat().st_size for each in root.rglob("*") if each.is_file() and not each.is_symlink()) / 1e9
        yield CheckResult(
            "cache", os.access(root, os.W_OK), f"{root}, {held:.2f} GB",
            "" if os.access(root, os.W_OK) else "set FGDLAB_HOME to a folder that can be written",
        )
    except UserError as error:
        yield CheckResult("cache", False, str(error), "set FGDLAB_HOME to a folder that can be written")
        root = Path.cwd()
    for name, place in (("the cache", root), ("runs/", Path.cwd())):
        free = shutil.disk_usage(place).free / 1e9
        good = False if free < LEAST_FREE else True if free > USUAL_FREE else None
        yield CheckResult(
            f"disk for {name}", good, f"{free:.0f} GB free",
            "" if good else "free some, or write elsewhere: a teacher's maps of COCO take over 1000 GB, a checkpoint 0.5",
        )
