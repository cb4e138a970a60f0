"""The batches of an epoch as lists of indices. They depend on seed and epoch only; processes then share each batch."""
import torch


def epoch_batches(dataset, batch_size: int, seed: int, epoch: int, aspect_groups: bool = False) -> list[list[int]]:
    """Full shuffled batches of one epoch as lists of indices. Images that do not fill a batch are left out.

    Args:
        aspect_groups: a batch holds only wide images or only others, for less padding.
    """
    order = torch.randperm(len(dataset), generator=torch.Generator().manual_seed(seed * 100_003 + epoch)).tolist()
    if not aspect_groups:
        return [order[i:i + batch_size] for i in range(0, len(order) - batch_size + 1, batch_size)]
    full, groups = [], {True: [], False: []}
    for i in order:
        group = groups[is_wide(dataset, i)]
        group.append(i)
        if len(group) == batch_size:
            full.append(group.copy())
            group.clear()
    return full


def batches_per_epoch(dataset, batch_size: int, aspect_groups: bool = False) -> int:
    """Number of batches of :func:`epoch_batches`, the same in every epoch."""
    wide = sum(is_wide(dataset, i) for i in range(len(dataset))) if aspect_groups else 0
    return wide // batch_size + (len(dataset) - wide) // batch_size


def is_wide(dataset, i: int) -> bool:
    height, width = dataset.loaded_size(i)
    return width > height
