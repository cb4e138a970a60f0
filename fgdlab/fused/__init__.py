"""FGD's sums from one read of both maps forward, on a card two, and one backward; equal to the readable form of focal.py and relation.py.

The readable form reads and writes each map some forty times, and its masks look at every box in every cell. Both are limited by memory, not
by arithmetic. Here, with ``FusedFGDLoss``:

    boxes --paint--> masks --+
    student, teacher --------+--> small sums (names: sums) --> terms                 forward
                             +--> gradient of the student's map                      backward, all of it behind one node of the graph

Two rooms read the maps. cpu: loops compiled by numba (loops, paint_loop) over the tiles of all levels (tiles), one read forward and one backward; what
follows from the sums is compiled, too, and all levels are one node, for on small maps calls cost more than numbers. card: Triton kernels (kernels,
paint_card), a node a level (node, sums), small tensors by torch (level, gradient); a card tries its kernels on a small case first (trial). First
derivatives only. Where neither applies, the readable form runs: ask :func:`why_readable`; and where maps differ in images or channels (level.alike).
"""
