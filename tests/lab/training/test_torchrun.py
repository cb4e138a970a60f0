"""``torchrun -m fgdlab run``: what starts, what is printed once, and a group in which one process dies."""
import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

import fgdlab
from fgdlab.lab.commands import cli
from fgdlab.lab.config.run_config import RunConfig
from fgdlab.lab.run import one_run as lab_run

ROOT = Path(fgdlab.__file__).parents[1]
DEADLY = '''
import os
import socket
import stat
import time
from pathlib import Path
from fgdlab.pyramid import PyramidLoss
from fgdlab.terms import Term

class Deadly(PyramidLoss):
    """An L2 distance. In the first group that torchrun starts, rank 1 dies in the first step after a checkpoint.

    It loses its connections first: torchrun ends rank 0 soon after a death, and rank 0 must have time for its line.
    """

    def on_level(self, level, scene, teacher):
        first_start = os.environ["TORCHELASTIC_RESTART_COUNT"] == "0"
        if os.environ["RANK"] == "1" and first_start and Path("run/checkpoint.pt").exists():
            time.sleep(5)  # until rank 0 waits for this rank's gradients
            for number in map(int, os.listdir("/proc/self/fd")):
                if number > 2 and os.path.exists(f"/proc/self/fd/{number}") and stat.S_ISSOCK(os.fstat(number).st_mode):
                    try:
                        socket.socket(fileno=number).shutdown(socket.SHUT_RDWR)
                    except OSError:  # it listens, or is closed already
                        pass
            time.sleep(60)  # until torchrun ends this rank, because rank 0 has ended with its line
            os._exit(9)
        return [Term("plain", level, (teacher - self.aligned(scene, level)).square().mean())]
'''
TINY = [
    "--image-size",
    "64",
    "--train-images",
    "12",
    "--eval-images",
    "8",
    "--teacher",
    "resnet18",
    "--teacher-epochs",
    "1",
    "--teacher-batch-size",
    "4",
    "--epochs",
    "2",
    "--batch-size",
    "4",
    "--log-every",
    "1",
    "--checkpoint-every",
    "4",
    "--device",
    "cpu",
    "--scale",
    "smoke",
    "--out",
    "run",
    "--flavour",
    "mmdet",
    "--student",
    "resnet18",  # norms that learn are refused in several processes on the CPU
]


@pytest.fixture
def as_rank(monkeypatch):
    """as_rank(n): this process is number n of two that torchrun started."""

    def be(rank: int) -> None:
        for name, value in {"TORCHELASTIC_RUN_ID": "test", "WORLD_SIZE": "2", "RANK": str(rank)}.items():
            monkeypatch.setenv(name, value)

    return be


@pytest.mark.slow
def test_a_group_in_which_a_process_died_resumes_with_the_same_command(lab_home, tmp_path):
    """torchrun kills the other process and starts the command again, as a person would."""
    (tmp_path / "own.py").write_text(DEADLY)
    command = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--standalone",
        "--max-restarts",
        "1",
        "--nproc-per-node",
        "2",
        "-m",
        "fgdlab",
        "run",
        *TINY,
        "--method",
        "own.py:Deadly",
    ]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stderr
    result = json.loads((tmp_path / "run/result.json").read_text())
    assert result["resumed_at"] == 4 and result["steps"] == 6 and result["provenance"]["processes"] == 2
    steps = [
        row["step"]
        for row in map(json.loads, (tmp_path / "run/metrics.jsonl").read_text().splitlines())
        if row["name"] == "total"
    ]
    assert steps == [1, 2, 3, 4, 5, 6]
    assert done.stdout.count("4 images per step (2 processes), peak lr") == 2                 # once per start
    assert "all 2 processes must stay alive, but one has ended" in done.stderr and "Traceback" not in done.stderr
    assert sum(line.startswith("AP ") for line in done.stdout.splitlines()) == 1


def losses(folder: Path) -> list[float]:
    """The total of each step."""
    return [
        row["weighted"]
        for row in map(json.loads, (folder / "metrics.jsonl").read_text().splitlines())
        if row["name"] == "total"
    ]


@pytest.mark.slow
def test_two_machines_that_meet_over_the_network_train_as_one_process(lab_home, tmp_path):
    """Two torchruns as in ablations/README.md, on the loopback address and in one folder, as on a shared disk."""
    command = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--nnodes",
        "2",
        "--rdzv-backend",
        "c10d",
        "--rdzv-endpoint",
        f"127.0.0.1:{free_port()}",
    ]
    command += ["--local-addr", "127.0.0.1", "--nproc-per-node", "1", "-m", "fgdlab", "run", *TINY, "--method", "fgd"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    machines = [
        subprocess.Popen(
            command, cwd=tmp_path, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        for _ in range(2)
    ]
    try:
        said = [each.communicate(timeout=300) for each in machines]
    finally:
        for each in machines:
            each.kill()
    assert [each.returncode for each in machines] == [0, 0], said
    assert sorted(out.count("\nAP ") for out, _ in said) == [0, 1]                         # rank 0 is on one of them
    result = json.loads((tmp_path / "run/result.json").read_text())
    assert result["provenance"]["processes"] == 2 and result["steps"] == 6
    alone = lab_run.run(RunConfig.of(result["settings"]), tmp_path / "alone", progress="off")
    assert alone["steps"] == 6 and "processes" not in alone["provenance"]
    theirs, own = losses(tmp_path / "run"), losses(tmp_path / "alone")
    assert len(theirs) == 6 and theirs == pytest.approx(own, rel=1e-2)                      # AdamW makes rounding grow
    assert theirs[:3] == pytest.approx(own[:3], rel=1e-4)


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


def test_torchrun_starts_a_run_and_nothing_else(as_rank):
    as_rank(0)
    done = CliRunner().invoke(cli.main, ["sweep", "table1_areas"])
    assert (
        done.exit_code == 1
        and "torchrun must start `fgdlab run`, got 'sweep'" in done.stderr
        and len(done.stderr.splitlines()) == 1
    )


def test_rank_0_prints_and_the_others_do_not(as_rank, monkeypatch, tmp_path):
    result = {"AP": 1.0, "AP50": 2.0, "AR": 3.0, "data_line": "scenes", "teacher_AP": None}
    monkeypatch.setattr(lab_run, "run", lambda config, folder: result)
    said = {}
    for rank in (0, 1):
        as_rank(rank)
        done = CliRunner().invoke(cli.main, ["run", "--out", str(tmp_path)])
        assert done.exit_code == 0
        said[rank] = done.stdout
    assert said[0].startswith("AP 1.0") and said[1] == ""


def test_an_error_of_all_ranks_is_printed_by_rank_0_first(as_rank, monkeypatch):
    waited = []
    monkeypatch.setattr(cli.time, "sleep", waited.append)
    for rank in (0, 1):
        as_rank(rank)
        done = CliRunner().invoke(cli.main, ["run", "--epochs", "0"])
        assert done.exit_code == 1 and "epochs must be" in done.stderr
    assert waited == [2]                                             # the second one's; torchrun ends it meanwhile
