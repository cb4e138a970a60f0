"""Checks of this machine: versions, devices, whether the fused loss applies, cache and disk."""
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

LEAST_FREE, USUAL_FREE = 1.0, 20.0  # GB: enough to write anything; enough for the teacher's maps


def check_machine() -> Iterator[CheckResult]:
    versions = [f"python {platform.python_version()}", *(f"{name} {version}" for name, version in packages().items())]
    yield CheckResult("python and packages", True, ", ".join(versions))
    yield CheckResult("processor", True, f"{device_name('cpu')}, {os.cpu_count()} cores")
    yield from check_gpus()
    yield from check_fused_loss()
    yield from check_folders()


def check_gpus() -> Iterator[CheckResult]:
    if not torch.cuda.is_available():
        hint = "to use one, install its driver and a torch built for it"
        yield CheckResult("GPUs", None, "none that torch can use; runs go to the CPU", hint)
        return
    for index in range(torch.cuda.device_count()):
        free, total = torch.cuda.mem_get_info(index)
        found = f"{torch.cuda.get_device_name(index)}, {free / 1e9:.0f} of {total / 1e9:.0f} GB free"
        good = free > 0.2 * total
        yield CheckResult(f"GPU {index}", good, found, "" if good else "nvidia-smi shows what uses it")


def check_fused_loss() -> Iterator[CheckResult]:
    for device in ("cpu", *(("cuda",) if torch.cuda.is_available() else ())):
        why = why_readable(FGDConfig(), device)
        use = "FGD runs use it" if device == "cpu" else "FGD runs use it with fused=on"
        found = f"applies; {use}" if why is None else f"does not apply: {why}"
        yield CheckResult(f"fused FGD loss on {device}", True if why is None else None, found)


def check_folders() -> Iterator[CheckResult]:
    root, hint = cache_root(), "set FGDLAB_HOME to a writable folder"
    try:
        make_folder(root)
        files = (path for path in root.rglob("*") if path.is_file() and not path.is_symlink())
        size, writable = sum(path.stat().st_size for path in files) / 1e9, os.access(root, os.W_OK)
        yield CheckResult("cache", writable, f"{root}, {size:.2f} GB", "" if writable else hint)
    except UserError as error:
        yield CheckResult("cache", False, str(error), hint)
        root = Path.cwd()
    for name, folder in (("the cache", root), ("runs/", Path.cwd())):
        free = shutil.disk_usage(folder).free / 1e9
        good = False if free < LEAST_FREE else True if free > USUAL_FREE else None
        hint = "free some, or write elsewhere: a teacher's maps of COCO take over 1000 GB, a checkpoint 0.5"
        yield CheckResult(f"disk for {name}", good, f"{free:.0f} GB free", "" if good else hint)
