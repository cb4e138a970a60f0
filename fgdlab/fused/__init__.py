"""The FGD loss with one read of both maps forward (CUDA: two) and one backward; results equal FGDLoss up to rounding.

FGDLoss reads and writes each map some forty times, and its masks compare every cell with every box. Both are limited
by memory bandwidth, not by arithmetic. FusedFGDLoss (loss.py) computes from one pass what the terms need:

    boxes --> masks -----+
    student, teacher ----+--> sums --> terms                   forward
                         +--> gradient of the student's map    backward, in one autograd function

dispatch.py chooses the implementation. cpu/: loops compiled by numba over tiles of all levels, and one autograd
function for all, because on small maps calls cost more than arithmetic. cuda/: Triton kernels, one autograd function
per level, small tensors by torch; the first use compares them with FGDLoss on a small case (self_check.py).

Only first derivatives exist. Where neither implementation applies, FGDLoss runs: see ``dispatch.why_readable``.
"""
