"""The FGD loss with few reads of both maps; results equal FGDLoss up to rounding.

FGDLoss reads and writes each map some forty times, and its masks compare every cell with every box. Both are limited
by memory bandwidth, not by arithmetic. FusedFGDLoss (loss.py) fuses the passes. dispatch.py chooses how:

    CPU     cpu/: loops compiled by numba over tiles of all levels, one read forward and one backward, in one autograd
            function for all levels, because on small maps calls cost more than arithmetic
    CUDA    cuda/: the sums of a level as formulas that torch.compile fuses; masks as in FGDLoss. The first use
            compares them with FGDLoss on small maps (cuda/self_check.py)

Only first derivatives exist. Where neither implementation applies, FGDLoss runs: see ``dispatch.why_readable``.
"""
