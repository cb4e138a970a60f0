"""The FGD loss with few reads of both maps; results equal FGDLoss up to rounding.

FGDLoss reads and writes each map some forty times. FusedFGDLoss (loss.py) fuses the passes; dispatch.py chooses how:

    CPU     cpu/: loops compiled by numba over tiles of all levels, one read forward and one backward
    CUDA    cuda/: formulas that torch.compile fuses, after a comparison with FGDLoss (cuda/self_check.py)
"""
