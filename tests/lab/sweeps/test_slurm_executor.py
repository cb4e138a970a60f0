"""Runs as jobs of Slurm. The Slurm of these tests is four small programs on the path: sbatch starts the tasks of an
array as processes.

What submitit writes and reads is real, and so are the processes; no queue, no other machine. A run is a module that
leaves a result.
"""
import json
import os
import sys
from pathlib import Path

import pytest

import fgdlab
from fgdlab.lab.config.run_config import RunConfig
from fgdlab.lab.errors import UserError
from fgdlab.lab.sweeps import execution as lab_sweep
from fgdlab.lab.sweeps.planning import PlannedRun
from fgdlab.lab.sweeps.slurm_executor import SlurmExecutor
from tests.helpers.stand_in_jobs import write_stand_in

ROOT = Path(fgdlab.__file__).parents[1]
STAND_IN = """
import json, os, sys
from pathlib import Path
from fgdlab.lab.run import RunFolder
folder = Path(sys.argv[1])
here = RunFolder(folder)
here.claim()
here.begin(here.read("job.json")["parameters"], {})
if (folder / "dies").exists():
    os._exit(9)
job, threads = os.environ["SLURM_JOB_ID"], os.environ["OMP_NUM_THREADS"]
here.finish({"AP": 20.0, "AR": 30.0, "seconds": 1.0, "job": job, "threads": threads})
here.release()
"""
SBATCH = """
import os, re, shlex, subprocess, sys
from pathlib import Path
text = Path(sys.argv[1]).read_text()
home = Path(os.environ["FAKE_SLURM"])
number = 1 + len(list(home.glob("*.sh")))
(home / f"{number}.sh").write_text(text)
if "nowhere" in text:
    sys.exit("sbatch: error: invalid partition specified: nowhere")
(line,) = [each for each in text.splitlines() if each.startswith("srun")]
command = shlex.split(line)
command = command[command.index(sys.executable):]
array = re.search(r"--array=0-([0-9]+)", text)
for task in range(int(array[1]) + 1) if array else [None]:
    if task == 3:
        continue  # lost: it never starts, and sacct says that it failed
    ids = {"SLURM_JOB_ID": str(100 * number + (task or 0)), "SUBMITIT_EXECUTOR": "slurm"}
    of_array = {"SLURM_ARRAY_JOB_ID": str(number), "SLURM_ARRAY_TASK_ID": str(task)}
    ids |= of_array if array else {"SLURM_JOB_ID": str(number)}
    with open(home / f"{number}_{task}.log", "w") as log:
        subprocess.Popen(command, env={**os.environ, **ids}, stdout=log, stderr=log, start_new_session=True)
print(f"Submitted batch job {number}")
"""
SACCT = """
print("JobID|State|NodeList")
for number in (1, 2):
    for task in range(4):
        print(f"{number}_{task}|{'FAILED' if task == 3 else 'RUNNING'}|here")
"""


@pytest.fixture(autouse=True)
def project(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path), str(ROOT)]))
    write_stand_in(tmp_path, STAND_IN)
    (tmp_path / "ablations/sweeps").mkdir(parents=True)
    real = lab_sweep.job_of
    monkeypatch.setattr(lab_sweep, "job_of", lambda run: {**real(run), "module": "stand_in"})
    monkeypatch.setattr(lab_sweep, "prepare_shared", lambda todo, say: None)


@pytest.fixture
def slurm(tmp_path, monkeypatch) -> Path:
    """Puts the programs on the path. The folder where sbatch keeps the scripts it was given."""
    home = tmp_path / "slurm_of_tests"
    home.mkdir()
    for name, text in {"sbatch": SBATCH, "sacct": SACCT, "srun": "", "scancel": ""}.items():
        (tmp_path / name).write_text(f"#!{sys.executable}\n{text}")
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    monkeypatch.setenv("FAKE_SLURM", str(home))
    return home


def planned(count: int, tmp_path: Path) -> list[PlannedRun]:
    return [
        PlannedRun("fg", seed, RunConfig(seed=seed, threads=2), tmp_path / "runs/mine" / f"run{seed}")
        for seed in range(count)
    ]


def swept(runs, pool) -> tuple[dict[str, list[int]], list[str]]:
    said = []
    states = lab_sweep.execute(runs, executor=pool, jobs=len(runs), say=said.append)
    return {state: [run.seed for run in found] for state, found in states.items() if found}, said


@pytest.mark.slow
def test_a_sweep_is_one_array_and_a_job_that_is_lost_costs_its_run_alone(slurm, tmp_path):
    runs = planned(4, tmp_path)
    runs[1].folder.mkdir(parents=True)
    (runs[1].folder / "dies").touch()
    with SlurmExecutor(tmp_path / "runs/mine/slurm", partition="gpu", minutes=90, gpus=1, cpus=2, at_once=3) as pool:
        states, said = swept(runs, pool)
        assert states == {"done": [0, 2], "interrupted": [1], "pending": [3]}
        assert any("fg, seed 3" in line and "job 1_3 ended without a result" in line for line in said)
        (script,) = slurm.glob("*.sh")
        flags = {line.split(" ", 1)[1] for line in script.read_text().splitlines() if line.startswith("#SBATCH")}
        assert {
            "--array=0-3%3", "--partition=gpu", "--time=90", "--gpus-per-node=1", "--cpus-per-task=2",
            "--job-name=fgdlab",
        } <= flags
        result = json.loads((runs[2].folder / "result.json").read_text())
        assert result["threads"] == "2" and result["job"] == "102"
        (runs[1].folder / "dies").unlink()
        assert swept(runs, pool)[0] == {"done": [0, 1, 2, 3]}        # two runs are left, another array
    assert len(list(slurm.glob("*.sh"))) == 2


@pytest.mark.slow
def test_submitits_stand_in_for_slurm_on_this_machine_does_as_well(tmp_path, monkeypatch):
    monkeypatch.setenv("SLURM_JOB_ID", "none")                       # the module reads it
    runs = planned(2, tmp_path)
    with SlurmExecutor(tmp_path / "runs/mine/slurm", cluster="local") as pool:
        assert swept(runs, pool)[0] == {"done": [0, 1]}


@pytest.mark.slow
def test_jobs_that_slurm_refuses_leave_their_runs_pending_and_say_why(slurm, tmp_path):
    with SlurmExecutor(tmp_path / "runs/mine/slurm", partition="nowhere") as pool:
        states, said = swept(planned(2, tmp_path), pool)
    assert states == {"pending": [0, 1]} and all("invalid partition specified: nowhere" in line for line in said)


def test_a_machine_without_slurm_and_a_python_without_submitit_are_one_line(tmp_path, monkeypatch):
    with pytest.raises(
        UserError, match="--slurm must find Slurm's commands here, got: .*run it on a machine that has sbatch",
    ):
        SlurmExecutor(tmp_path / "slurm")
    monkeypatch.setitem(sys.modules, "submitit", None)
    with pytest.raises(
        UserError,
        match=r"--slurm must find the package submitit, got none; install it by `pip install 'fgdlab\[slurm\]'`",
    ):
        SlurmExecutor(tmp_path / "slurm")
