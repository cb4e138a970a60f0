"""Code, packages and machine behind a number, without names of persons or folders."""
import contextlib
import os
import platform
import sys
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from fgdlab import __version__

from .code import git_state

PACKAGES = ("torch", "torchvision", "numpy", "pandas", "pycocotools", "pillow", "scikit-learn", "papermill")
EXTRAS = ("faster-coco-eval", "numba")  # optional: the first evaluates, the second compiles loops


def provenance(device: str = "cpu") -> dict:
    return {
        "fgdlab": __version__,
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
    found = {name: version(name) for name in PACKAGES}
    for name in EXTRAS:
        with contextlib.suppress(PackageNotFoundError):
            found[name] = version(name)
    return found


def device_name(device: str) -> str:
    if device == "cuda":
        import torch

        return torch.cuda.get_device_name()
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()


def peak_memory_gb(device: str) -> float:
    if device == "cuda":
        import torch

        return torch.cuda.max_memory_allocated() / 1e9
    try:
        import resource
    except ImportError:  # not on Windows
        return float("nan")
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1e9 if sys.platform == "darwin" else 1e6)
