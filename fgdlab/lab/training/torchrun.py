"""How torchrun started this process, read from the environment without importing torch."""
import os


def world_size() -> int:
    """1 without torchrun, whatever variables a cluster sets."""
    return int(os.environ.get("WORLD_SIZE", 1)) if "TORCHELASTIC_RUN_ID" in os.environ else 1


def rank() -> int:
    return int(os.environ["RANK"]) if world_size() > 1 else 0
