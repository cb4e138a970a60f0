"""What a nursery compiles, its runs find compiled."""
import os
import subprocess
import sys

from fgdlab.lab.sweeps.forkserver import OF_A_RUN
from fgdlab.lab.sweeps.worker import cpu_environment

RUN = """
import fgdlab.lab.sweeps.precompile
import torch
from fgdlab.config import FGDConfig
from fgdlab.fused.cpu import loops, masks
from fgdlab.fused.loss import FusedFGDLoss
from fgdlab.scene import Scene
from fgdlab.terms import total

def compiled():
    return sum(len(loop.signatures) for loop in (*vars(loops.compiled("float32")).values(), masks.compiled(torch.float32, torch.float32)))

before = compiled()
for order in (torch.contiguous_format, torch.channels_last):
    maps = torch.randn(2, 8, 8, 8).to(memory_format=order).requires_grad_()
    scene = Scene(torch.zeros(2, 3, 64, 64), [torch.tensor([[8.0, 8, 30, 30]])] * 2, [(64, 64)] * 2, {"P3": maps})
    total(FusedFGDLoss(("P3",), 8, 8, FGDConfig())(scene, {"P3": torch.randn(2, 8, 8, 8)})).backward()
print(before, compiled(), torch.__version__)
"""


def said(home, code: str = RUN) -> list[str]:
    done = subprocess.run(
        [sys.executable, "-c", code], env={**os.environ, **cpu_environment(1), "FGDLAB_HOME": str(home)}, capture_output=True, text=True, timeout=300,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


def test_a_run_compiles_nothing_that_its_nursery_has(tmp_path):
    before, after, _ = said(tmp_path)
    assert before == after == "6" and "fgdlab.lab.sweeps.precompile" in OF_A_RUN


def test_a_cache_that_cannot_be_written_stops_no_run(tmp_path):
    (tmp_path / "file").touch()
    assert said(tmp_path / "file", "import fgdlab.lab.sweeps.precompile; print('well')") == ["well"]
