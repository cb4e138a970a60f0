"""The batches of an epoch."""
import torch


def epoch_batches(dataset, batch_size: int, seed: int, epoch: int, aspect_groups: bool = False) -> list[list[int]]:
    """Full shuffled batches of indices; a rest that fills no batch is left out. They depend on seed and epoch only.

    aspect_groups: a batch holds only wide images or only others, for less padding.
    """
    order = torch.randperm(len(dataset), generator=torch.Generator().manual_seed(seed * 100_003 + epoch)).tolist()
    full, groups = [], {True: [], False: []}
    for i in order:
        height, width = dataset.loaded_size(i) if aspect_groups else (0, 0)
        group = groups[width > height]
        group.append(i)
        if len(group) == batch_size:
            full.append(group.copy())
            group.clear()
    return full


def batches_per_epoch(dataset, batch_size: int, aspect_groups: bool = False) -> int:
    return len(epoch_batches(dataset, batch_size, seed=0, epoch=0, aspect_groups=aspect_groups))
