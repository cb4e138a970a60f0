"""Several processes for a test, as torchrun would start them."""

import multiprocessing
import os
import pickle
import socket
import traceback

import pytest

ALLOWED = 120                                                        # seconds, on a machine that has other work to do


def forked(world_size: int, work, *arguments) -> list:
    """Run work(*arguments) in forked processes that find each other; returns their results, in order of rank.

    They have the environment variables that torchrun sets. An error in one of them fails the test with its traceback.
    """
    context = multiprocessing.get_context(
        "fork"
    )  # torch is imported already; a fresh process would take seconds for that
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    pipes, processes = [], []
    for rank in range(world_size):
        ours, theirs = context.Pipe(duplex=False)
        environment = {
            "TORCHELASTIC_RUN_ID": "test",
            "RANK": rank,
            "LOCAL_RANK": rank,
            "WORLD_SIZE": world_size,
            "LOCAL_WORLD_SIZE": world_size,
            "MASTER_ADDR": "127.0.0.1",
            "MASTER_PORT": port,
        }
        processes.append(
            context.Process(
                target=child, args=(theirs, {name: str(value) for name, value in environment.items()}, work, arguments)
            )
        )
        pipes.append(ours)
    for process in processes:
        process.start()
    try:
        answers = [
            pipe.recv() if pipe.poll(ALLOWED) else ("error", f"rank {rank} said nothing for {ALLOWED} s")
            for rank, pipe in enumerate(pipes)
        ]
    finally:
        for process in processes:
            process.join(1)
            if process.is_alive():
                process.kill()
                process.join()
    for rank, (kind, value) in enumerate(answers):
        assert kind == "value", f"rank {rank}: {value}"
    return [pickle.loads(value) for _, value in answers]


def child(pipe, environment: dict, work, arguments: tuple) -> None:
    os.environ |= environment
    try:
        answer = ("value", pickle.dumps(work(*arguments)))
    except BaseException:
        answer = ("error", traceback.format_exc())
    pipe.send(answer)
    pipe.close()
    os._exit(0)


@pytest.fixture
def together():
    """together(work, *arguments) -> [what rank 0 returned, what rank 1 returned]."""

    def run(work, *arguments) -> list:
        return forked(2, work, *arguments)

    return run
