"""Waiting for other processes, for tests that start them."""
import time

import psutil


def lives(pid: int) -> bool:
    """Whether a process runs; one that has ended and was not waited for does not."""
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def until(true, seconds: float, what: str):
    """What ``true()`` gives as soon as it gives something."""
    deadline = time.monotonic() + seconds
    while not (found := true()):
        assert time.monotonic() < deadline, f"{what} took more than {seconds} s"
        time.sleep(0.02)
    return found
