"""Where a number came from: code, packages, machine. Enough to run it again, nothing that names a person or a folder."""
import contextlib
import os
import platform
import sys
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from .code import git_state

PACKAGES = ("torch", "torchvision", "numpy", "pandas", "pycocotools", "pillow", "scikit-learn", "papermill")
EXTRAS = ("faster-coco-eval", "numba")                               # where they are installed, the one counts scores and the other compiles loops


def provenance(device: str = "cpu") -> dict:
    """Facts about this process as JSON: commit, dirty, python, package versions, device by its model name, cores, time in UTC."""
    return {
        **git_state(),
        "python": platform.python_version(),
        "packages": packages(),
        "device": device_name(device),
        "cores": os.cpu_count(),
        "system": f"{platform.system()} {platform.machine()}",
        "threads": sys.modules["torch"].get_num_threads() if "torch" in sys.modules else None,
        "finished": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def packages() -> dict[str, str]:
    """Versions of what a number may depend on; of EXTRAS those that are installed, and so had a hand in it."""
    found = {name: version(name) for name in PACKAGES}
    for name in EXTRAS:
        with contextlib.suppress(PackageNotFoundError):
            found[name] = version(name)
    return found


def device_name(device: str) -> str:
    """The card's or the processor's model name, as its maker calls it."""
    if device == "cuda":
        import torch

        return torch.cuda.get_device_name()
    try:
        names = [line.split(":", 1)[1].strip() for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")]
    except OSError:
        names = []
    return names[0] if names else platform.processor() or platform.machine()


def peak_memory_gb(device: str) -> float:
    """The most memory this process has held, in GB: on the card, or resident on the host."""
    if device == "cuda":
        import torch

        return torch.cuda.max_memory_allocated() / 1e9
    try:
        import resource
    except ImportError:                                              # not on Windows
        return float("nan")
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1e9 if sys.platform == "darwin" else 1e6)
