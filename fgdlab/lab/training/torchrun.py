"""How this process was started: by itself, or by torchrun as one of several. Read from the environment, without torch."""
import os


def world() -> int:
    """How many processes torchrun started for this command; 1 without torchrun, whatever a cluster has put into the environment."""
    return int(os.environ.get("WORLD_SIZE", 1)) if "TORCHELASTIC_RUN_ID" in os.environ else 1


def rank() -> int:
    """This process's number among them, from 0, the leader's."""
    return int(os.environ["RANK"]) if world() > 1 else 0
