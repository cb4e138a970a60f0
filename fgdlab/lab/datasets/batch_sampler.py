"""Which images make which batch: one order for the whole run, by seed and epoch alone, that processes share between them.

    seed, epoch --permutation--> indices --by shape or as they come--> batches of batch_size --Team.share--> each process's part
"""
import torch


def epoch_batches(scenes, batch_size: int, seed: int, epoch: int, aspect_groups: bool = False) -> list[list[int]]:
    """Full batches of one epoch as lists of indices; what does not fill a batch is left out until the next epoch.

    aspect_groups: a batch holds images that are wider than tall, or images that are not, and never both; less of it is padding then.
    """
    order = torch.randperm(len(scenes), generator=torch.Generator().manual_seed(seed * 100_003 + epoch)).tolist()
    if not aspect_groups:
        return [order[i:i + batch_size] for i in range(0, len(order) - batch_size + 1, batch_size)]
    full, filling = [], {True: [], False: []}
    for i in order:
        group = filling[is_wide(scenes, i)]
        group.append(i)
        if len(group) == batch_size:
            full.append(group.copy())
            group.clear()
    return full


def batches_per_epoch(scenes, batch_size: int, aspect_groups: bool = False) -> int:
    """How many batches :func:`epoch_batches` gives, the same in every epoch."""
    if not aspect_groups:
        return len(scenes) // batch_size
    wide = sum(is_wide(scenes, i) for i in range(len(scenes)))
    return wide // batch_size + (len(scenes) - wide) // batch_size


def is_wide(scenes, i: int) -> bool:
    height, width = scenes.loaded_size(i)
    return width > height
