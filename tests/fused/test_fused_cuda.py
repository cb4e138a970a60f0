"""The fused implementation on CUDA. Without a GPU its kernels run in Triton's interpreter and are compiled only."""
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from fgdlab import FGDConfig, FusedFGDLoss
from fgdlab.fused.cuda import self_check
from fgdlab.fused.dispatch import rasterised_masks, why_readable
from fgdlab.masks import focal_masks
from fgdlab.terms import total
from tests.fused.test_fused import FUSED, agree, case, name_of

HERE = Path(__file__).parent
NAMES = [f"float64 {name_of(config)}" for config in FUSED] + [
    "in_float32",
    "pixel_after_pixel",
    "in_half_precision",
    "teacher_gets_no_gradient_and_biases_none_but_0",
    "rasterised",
    "many_boxes",
    "self_check_passes",
    "self_check_finds_a_wrong_kernel",
]


@pytest.fixture(scope="module")
def interpreted():
    """{case: "" or what is wrong} of interpret_kernels.py."""
    pytest.importorskip("triton", reason="torch for this machine brings no Triton")
    environment = {**os.environ, "TRITON_INTERPRET": "1", "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run(
        [sys.executable, str(HERE / "interpret_kernels.py")], env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_the_interpreted_kernels_equal_the_readable_implementation(name, interpreted):
    assert interpreted[name] == ""


@pytest.mark.slow
def test_every_interpreted_case_is_read(interpreted):
    assert sorted(interpreted) == sorted(NAMES)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["first_read", "second_read", "gradient", "rasterise"])
def test_the_kernels_compile_for_a_gpu(name, tmp_path, monkeypatch):
    pytest.importorskip("triton", reason="torch for this machine brings no Triton")
    import triton
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    from fgdlab.fused.cuda import kernels

    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))
    kernel, maps = getattr(kernels, name), ("student", "teacher", "out")
    fixed = {
        "CHANNELS": 32,
        "CELLS": 128,
        "DTYPE": triton.language.float32,
        "KEYS": True,
        "BOXES": 16,
        "EXTRA": 1,
        "SWAP": True,
    }
    fixed = {each: value for each, value in fixed.items() if each in kernel.arg_names}
    tensors = {
        "key_s",
        "key_t",
        "cells_out",
        "channels_out",
        "weights",
        "a_channel",
        "focal_out",
        "contexts_out",
        "of_cells",
        "of_channels",
        "keys_out",
        "boxes",
        "fg",
    }
    kinds = {
        each: "*bf16"
        if each in maps
        else "*fp32"
        if each in tensors
        else "*i32"
        if each == "table"
        else "constexpr"
        if each in fixed
        else "i32"
        for each in kernel.arg_names
    }
    compiled = triton.compile(ASTSource(fn=kernel, signature=kinds, constexprs=fixed), target=GPUTarget("cuda", 90, 32))
    assert f".visible .entry {name}" in compiled.asm["ptx"]


def test_a_gpu_is_used_only_where_the_self_check_passes(monkeypatch):
    monkeypatch.setattr(self_check, "failure", lambda device: f"{device} is wrong")
    assert why_readable(FGDConfig(), "cuda") == "cuda is wrong"
    monkeypatch.setattr(self_check, "failure", lambda device: None)
    assert why_readable(FGDConfig(), "cuda") is None and why_readable(FGDConfig(relation="nonlocal"), "cuda")


def test_the_self_check_says_what_failed_and_runs_once(monkeypatch):
    if not torch.cuda.is_available():
        self_check.failure.cache_clear()
        reason = self_check.failure("cuda")
        assert "Triton" in reason or "do not run on cuda" in reason
        monkeypatch.setattr(self_check, "worst_difference", None)
        assert self_check.failure("cuda") is reason


# ---- on a GPU ----

def on_gpu(loss, scene, teacher):
    from dataclasses import replace

    scene = replace(
        scene,
        pixels=scene.pixels.cuda(),
        boxes=[each.cuda() for each in scene.boxes],
        features={k: v.cuda() for k, v in scene.features.items()},
    )
    return loss.cuda(), scene, {level: each.cuda() for level, each in teacher.items()}


@pytest.mark.cuda
@pytest.mark.parametrize("config", FUSED, ids=name_of)
def test_on_a_gpu_values_and_gradients_are_those_of_the_readable_implementation(config, random_scene, shake):
    assert why_readable(config, "cuda") is None
    agree(*on_gpu(*case(random_scene, shake, config)), 1e-10)
    agree(*on_gpu(*case(random_scene, shake, config, seed=4, channels=16, wide=16, dtype=torch.float32)), 2e-6)


@pytest.mark.cuda
@pytest.mark.parametrize("axes", ["xy", "yx"])
@pytest.mark.parametrize("rounding", ["authors", "exact"])
def test_masks_rasterised_on_a_gpu_are_the_masks_to_the_last_bit(rounding, axes, random_scene):
    for seed in range(20):
        scene = random_scene(seed)
        boxes = [each.float().cuda() for each in scene.boxes]
        for grid in ((7, 13), (33, 20), (1, 1)):
            asked = boxes, scene.frame_sizes("image"), grid
            ours, theirs = (draw(*asked, rounding=rounding, axes=axes) for draw in (rasterised_masks, focal_masks))
            assert torch.equal(ours.fg, theirs.fg) and torch.equal(ours.bg, theirs.bg), (seed, grid)


@pytest.mark.cuda
def test_a_step_on_a_gpu_never_makes_the_host_wait(random_scene, shake):
    loss, scene, teacher = on_gpu(*case(random_scene, shake, FGDConfig(), dtype=torch.float32))
    scene.features.update({level: each.detach().requires_grad_() for level, each in scene.features.items()})
    assert isinstance(loss, FusedFGDLoss) and why_readable(loss.config, "cuda") is None
    total(loss(scene, teacher)).backward()  # compiles the kernels and runs the self-check
    torch.cuda.synchronize()
    torch.cuda.set_sync_debug_mode("error")
    try:
        total(loss(scene, teacher)).backward()
    finally:
        torch.cuda.set_sync_debug_mode("default")
