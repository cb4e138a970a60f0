"""All benchmarks that need no GPU: ``make bench``, about half an hour on two idle cores.

Each prints a table and writes JSON to benchmarks/results/; each is also a command of its own: ``python -m
benchmarks.NAME``. Times are ratios to a baseline measured in the same run. benchmarks/gpu.sh runs those that need a
GPU; ``python -m benchmarks.own_data DIR...`` runs Table 1 on folders of your own.

    fgd_loss      the fused FGD loss against the sums written out
    laptop_step   a distilling training step against a plain one
    methods       a training step with each method against a plain one
    making        drawing digit scenes against reading them back
    evaluation    COCO scores against pycocotools
    laptop_run    the parts of one run of Table 1
    data_check    checking 5,000 images against decoding them
    runner        the overhead of a sweep
    explorer      from a key press to the repainted maps (needs Chromium)
    gpu_model     launches, passes and waits of the loss on a GPU, counted without one, and the cost of a table on COCO
    table1        the whole of Table 1 with an empty cache
"""
import argparse

from benchmarks import (
    data_check,
    evaluation,
    explorer,
    fgd_loss,
    gpu_model,
    laptop_run,
    laptop_step,
    making,
    methods,
    runner,
    table1,
)

ALL = (fgd_loss, laptop_step, methods, making, evaluation, laptop_run, data_check, runner, explorer, gpu_model, table1)


def main() -> None:
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    print(__doc__)
    for module in ALL:
        print(f"\n== {module.__name__}", flush=True)
        module.main()


if __name__ == "__main__":
    main()
