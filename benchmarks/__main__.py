"""``make bench``: every figure of this folder that needs no card, each as a ratio to a rival of the same run, as a table and as JSON in benchmarks/results/.

The loss, then what a step is made of, then data and evaluation, a run, the runner, the explorer (which wants Chromium), and last Table 1 as a whole.
Some twenty-five minutes on two quiet cores; each is a command of its own as well: ``python -m benchmarks.NAME``. What needs a card: benchmarks/gpu.sh.
"""
from benchmarks import evaluation, explorer, fgd_loss, laptop_run, laptop_step, making, methods, runner, table1

ALL = (fgd_loss, laptop_step, methods, making, evaluation, laptop_run, runner, explorer, table1)


def main() -> None:
    for each in ALL:
        print(f"\n== {each.__name__}", flush=True)
        each.main()


if __name__ == "__main__":
    main()
