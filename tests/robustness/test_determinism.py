"""The same settings give the same weights, bit for bit, on one CPU: across processes, workers and interruptions.

Not promised: on CUDA, where the order of additions changes from run to run; across machines, where libraries choose
other kernels; with another number of threads (setting ``threads``). There results agree only up to rounding.
"""
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

import fgdlab
from fgdlab.lab.run import make_distiller, prepare, run
from fgdlab.lab.training.loop import train

ROOT = Path(fgdlab.__file__).parents[1]
DISTILLED = {"method": "fgd", "rounding": "exact", "epochs": 2, "checkpoint_every": 2}
IN_A_PROCESS = """
import json, os, sys
import torch
from fgdlab.lab.training import loop
from fgdlab.lab.config.run_config import RunConfig
from fgdlab.lab.run import run

torch.rand(int(sys.argv[4]))                                         # a process that stands elsewhere
if int(sys.argv[3]):
    real = loop.save
    def save(folder, step, *rest):
        real(folder, step, *rest)
        if step == int(sys.argv[3]):
            os._exit(9)
    loop.save = save
run(RunConfig.of(json.loads(sys.argv[1])), sys.argv[2], progress="off")
"""


def in_a_process(config, folder: Path, stop_after: int = 0, drawn: int = 1, hash_seed: str = "0") -> int:
    """A run in a process of its own; it dies after a checkpoint, if asked to. The exit status."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONHASHSEED": hash_seed, "OMP_NUM_THREADS": "1"}
    return subprocess.run(
        [sys.executable, "-c", IN_A_PROCESS, json.dumps(config.dict()), *map(str, (folder, stop_after, drawn))],
        env=environment
    ).returncode


@pytest.mark.slow
def test_weights_are_equal_across_processes_workers_and_an_interruption(lab_home, tiny_config, tmp_path, same_bits):
    config = tiny_config(**DISTILLED)
    assert in_a_process(config, tmp_path / "one") == 0
    assert in_a_process(config.but(workers=2), tmp_path / "workers", drawn=7, hash_seed="1") == 0
    assert (
        in_a_process(config, tmp_path / "broken", stop_after=4) == 9 and not (tmp_path / "broken/result.json").exists()
    )
    assert in_a_process(config, tmp_path / "broken", drawn=3) == 0
    first = load_file(tmp_path / "one/student.safetensors")
    for other in ("workers", "broken"):
        same_bits(load_file(tmp_path / other / "student.safetensors"), first)
        assert (tmp_path / other / "detections.json").read_bytes() == (tmp_path / "one/detections.json").read_bytes()
        assert (tmp_path / other / "metrics.jsonl").read_bytes() == (tmp_path / "one/metrics.jsonl").read_bytes()


@pytest.mark.parametrize("workers", [0, 2])
def test_a_run_has_the_weights_of_its_seed_whoever_loads_the_images(
    lab_home, tiny_config, tmp_path, same_bits, workers
):
    config = tiny_config(epochs=1, flip=0.5, workers=workers)
    torch.manual_seed(workers + 5)
    run(config, tmp_path / "run", progress="off")
    inputs = prepare(config, progress=False)
    alone = make_distiller(config.but(workers=0), inputs)
    train(alone, inputs.train_set, config.but(workers=0), progress="off")
    same_bits(load_file(tmp_path / "run/student.safetensors"), alone.student)


def test_what_is_not_promised_is_said():
    text = (ROOT / "tests/robustness/ROBUST.md").read_text()
    assert "**Not promised** on CUDA" in text and "`threads`" in text


@pytest.mark.cuda
def test_on_cuda_equal_settings_start_equal_and_agree_to_rounding_only(lab_home, tiny_config, tmp_path):
    """Not promised on CUDA: the last bits. Promised: the first step's loss within 0.1 %, and an end without NaN."""
    first = []
    for name in ("a", "b"):
        run(tiny_config(**DISTILLED, device="cuda"), tmp_path / name, progress="off")
        rows = [json.loads(line) for line in (tmp_path / name / "metrics.jsonl").read_text().splitlines()]
        first.append(next(row["raw"] for row in rows if row["name"] == "total"))
        assert all(each.isfinite().all() for each in load_file(tmp_path / name / "student.safetensors").values())
    assert first[0] == pytest.approx(first[1], rel=1e-3)
