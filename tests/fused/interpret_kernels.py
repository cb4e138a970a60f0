"""Compares the kernels of the fused loss, in Triton's interpreter on the CPU, with the readable implementation.

Prints {case: "" or the error} as JSON. Runs in its own process with TRITON_INTERPRET=1, which Triton reads at import.
"""
import json
import sys
import time
from dataclasses import replace

import torch
from torch.testing import assert_close

from fgdlab import FGDConfig, FGDLoss, FusedFGDLoss
from fgdlab.fused import dispatch
from fgdlab.fused.cuda import launch, self_check
from fgdlab.fused.cuda import masks as cuda_masks
from fgdlab.fused.cuda.autograd import level_sums
from fgdlab.masks import focal_masks
from fgdlab.terms import total
from tests.conftest import random_scene, shake
from tests.fused.test_fused import FUSED, case, name_of


def agree(loss, scene, teacher, tolerance):
    """Compares every raw term, and the gradients of a weighted sum of them: the interpreter is slow."""
    found = []
    for forward in (FusedFGDLoss.forward, FGDLoss.forward):
        maps = scene.features["P4"].detach().clone(memory_format=torch.preserve_format).requires_grad_()
        raw = {term.name: term.raw for term in forward(loss, replace(scene, features={"P4": maps}), teacher)}
        inputs = {"map": maps} | {name: each for name, each in loss.named_parameters() if not name.endswith("key.bias")}
        whole = sum((1 + i) * each for i, each in enumerate(raw.values()))
        found.append((raw, dict(zip(inputs, torch.autograd.grad(whole, list(inputs.values())), strict=True))))
    (ours, our_gradients), (readable, gradients) = found
    assert ours.keys() == readable.keys() and ours
    for name, value in readable.items():
        assert_close(
            ours[name], value, rtol=tolerance, atol=tolerance * 1e-3, msg=lambda text, name=name: f"{name}: {text}"
        )
    largest = {name: each.abs().max().item() for name, each in gradients.items()}
    of_blocks = max((each for name, each in largest.items() if name != "map"), default=0.0)
    for name, value in gradients.items():
        scale = largest[name] if name == "map" else of_blocks
        assert_close(
            our_gradients[name],
            value,
            rtol=tolerance,
            atol=tolerance * scale,
            msg=lambda text, name=name: f"{name}: {text}",
        )


def drawn(config, channels, dtype=torch.float64, seed=3):
    return case(random_scene, shake, config, seed, channels, dtype, levels=("P4",), wide=channels)


def in_float64(config):
    """Five channels and few cells: no step of a tile is full."""
    agree(*drawn(config, 5), 1e-11)


def in_float32():
    agree(*drawn(FGDConfig(), 16, torch.float32, seed=4), 1e-6)


def pixel_after_pixel():
    loss, scene, teacher = drawn(FGDConfig(), 4)
    turned = {"P4": teacher["P4"].to(memory_format=torch.channels_last)}
    agree(loss, scene, turned, 1e-11)
    agree(
        loss,
        replace(scene, features={"P4": scene.features["P4"].to(memory_format=torch.channels_last)}),
        teacher,
        1e-11,
    )


def teacher_gets_no_gradient_and_biases_none_but_0():
    loss, scene, teacher = drawn(FGDConfig(), 4)
    teacher["P4"].requires_grad = True
    total(loss(scene, teacher)).backward()
    assert teacher["P4"].grad is None and all(each.grad is not None for each in loss.parameters())
    assert loss.relation["P4"].student.key.bias.grad.count_nonzero() == 0


def in_half_precision():
    for dtype in (torch.float16, torch.bfloat16):
        torch.manual_seed(0)
        student, teacher = (
            (3 * torch.randn(2, 6, 5, 9)).to(dtype).requires_grad_(),
            (3 * torch.randn(2, 6, 5, 9)).to(dtype),
        )
        masks = focal_masks([torch.tensor([[8.0, 8.0, 50.0, 30.0]])] * 2, [(40, 72)] * 2, (5, 9))
        relation = drawn(FGDConfig(), 6, torch.float32)[0].relation["P4"]
        wide = student.detach().float().requires_grad_()
        halves, floats = (
            level_sums(maps, teacher.to(maps.dtype), masks, relation, FGDConfig()) for maps in (student, wide)
        )
        for name in floats:
            assert halves[name].dtype == torch.float32 and torch.equal(halves[name], floats[name]), (dtype, name)
        (ours,), (expected,) = (
            torch.autograd.grad(1e-3 * sum(raw.values()), maps) for raw, maps in ((halves, student), (floats, wide))
        )
        assert ours.dtype == dtype
        # The interpreter truncates bfloat16 where a GPU rounds.
        assert_close(ours.float(), expected, rtol=2**-7, atol=1e-5)


def rasterised():
    for seed in range(4):
        scene = random_scene(seed)
        for number, grid in enumerate(((7, 13), (1, 5), (9, 4))):
            rounding, axes, frame = (
                ("authors", "exact")[(seed + number) % 2],
                ("xy", "yx")[seed % 2],
                ("canvas", "image")[seed // 2 % 2],
            )
            for boxes, dtype in ((scene.boxes, torch.float64), ([each.float() for each in scene.boxes], torch.float32)):
                asked = boxes, scene.frame_sizes(frame), grid
                ours = dispatch.rasterised_masks(*asked, rounding=rounding, axes=axes, dtype=dtype)
                theirs = focal_masks(*asked, rounding=rounding, axes=axes, dtype=dtype)
                assert torch.equal(ours.fg, theirs.fg) and torch.equal(ours.bg, theirs.bg), (seed, grid, dtype)


def many_boxes():
    """More boxes than one step takes, and an image without boxes."""
    corners = 50 * torch.rand(40, 2)
    boxes = [torch.zeros(0, 4), torch.cat([corners, corners + 2 + 12 * torch.rand(40, 2)], dim=1)]
    ours = dispatch.rasterised_masks(boxes, [(64, 64)] * 2, (9, 9), rounding="authors", axes="xy", dtype=torch.float32)
    assert torch.equal(ours.fg, focal_masks(boxes, [(64, 64)] * 2, (9, 9)).fg)


def self_check_passes():
    assert self_check.failure("cpu") is None, self_check.failure("cpu")


def self_check_finds_a_wrong_kernel():
    """A kernel that is off by a thousandth is found."""
    right = launch.write_gradient
    launch.write_gradient = lambda out, *given: (right(out, *given), out.mul_(1.001))[0]
    try:
        self_check.failure.cache_clear()
        assert "differ" in (self_check.failure("cpu") or ""), self_check.failure("cpu")
    finally:
        launch.write_gradient = right


CASES = {
    each.__name__: each
    for each in (
        in_float32,
        pixel_after_pixel,
        in_half_precision,
        teacher_gets_no_gradient_and_biases_none_but_0,
        rasterised,
        many_boxes,
        self_check_passes,
        self_check_finds_a_wrong_kernel,
    )
} | {f"float64 {name_of(config)}": lambda config=config: in_float64(config) for config in FUSED}


def main() -> None:
    dispatch.on_cuda = lambda maps: True
    launch.CHANNELS, launch.CELLS, cuda_masks.CELLS = 4, 16, 64
    found = {}
    for name, each in CASES.items():
        torch.manual_seed(0)
        try:
            each()
            found[name] = ""
        except Exception as error:  # reported by the test of this case
            found[name] = f"{type(error).__name__}: {error}"
        if "-v" in sys.argv:
            print(name, found[name] or "passed", round(time.process_time(), 1), file=sys.stderr, flush=True)
    print(json.dumps(found))


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
