"""What a GPU would do, counted without one: launches, bytes and waits of the loss, and the cost of a table on COCO.

    python -m benchmarks.gpu_model            three minutes; writes benchmarks/results/gpu_model.json
    python -m benchmarks.gpu_model --loss     the compiled loss alone, with this version of torch, into the same file

The readable loss is counted on meta tensors: every operation that is no view is one launch, and reads its inputs and
writes its outputs. The compiled loss is counted from what Inductor generates for CUDA on fake tensors; nothing is run.
Torch 2.11 joins eight kernels at most, so its counts are larger. One pass is one read or write of all of the teacher's
maps. gpu_waits.py counts how often the host waits, and gpu_kernels.py builds the kernels. The cost of a table follows
from counted FLOPs and passes and from the assumptions in ``ASSUMED``, each of which a GPU has yet to confirm.
"""
import argparse
import copy
import json
import math
import re
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from io import BytesIO
from pathlib import Path
from types import SimpleNamespace
from typing import NamedTuple
from unittest import mock

import numpy as np
import torch
import torch._inductor.config
from PIL import Image
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map
from torch.utils.flop_counter import FlopCounterMode

from benchmarks import gpu_waits
from benchmarks.fgd_loss import LAYOUTS
from fgdlab import Distiller, FGDConfig, FGDLoss, Scene, Term, total
from fgdlab.fused.cuda import algebra
from fgdlab.lab.detectors import build
from fgdlab.lab.io import write_json
from fgdlab.lab.provenance import provenance
from fgdlab.relation import GcBlock
from fgdlab.scene import full_precision

PATH = Path("benchmarks/results/gpu_model.json")
FRAME, CHANNELS, BATCH, BOXES = (800, 1344), 256, 16, 10  # COCO's images as detectors see them
LEVELS = ("P3", "P4", "P5", "P6", "P7")
BOUNDS = {"launches": 40, "map_passes": 9, "waits": 0, "step_waits": 8, "step_launches": 1500}
LAUNCH = r"(?m)^ +\w+\.run\(|^ +extern_kernels\.|\.sum\(dim=|torch\.ops\.|\.(?:zero|copy|fill)_\("  # in generated code
FREE = {"empty", "empty_like", "empty_strided", "new_empty", "new_empty_strided", "detach", "_unsafe_view"}
H200 = {  # what Inductor asks of a device
    "name": "H200", "type": "cuda", "index": 0, "major": 9, "minor": 0, "multi_processor_count": 132, "warp_size": 32,
    "total_memory": 141 * 2**30, "max_threads_per_multi_processor": 2048, "max_threads_per_block": 1024,
    "regs_per_multiprocessor": 65536, "shared_memory_per_block_optin": 232448, "L2_cache_size": 60 * 2**20,
    "shared_memory_per_block": 49152, "shared_memory_per_multiprocessor": 233472,
}
ASSUMED = {
    "bf16_tflops": 790, "efficiency": 0.35, "memory_tb_per_s": 4.3, "launch_us": 5, "all_reduce_gb_per_s": 100,
    "cores_per_gpu": 8, "images": 118287, "epochs": 24, "rows_times_seeds": 15, "images_per_gpu": 2,
}


class Case(NamedTuple):
    """Five levels of COCO."""

    batch: int = BATCH
    dtype: torch.dtype = torch.bfloat16
    layout: torch.memory_format = torch.channels_last
    config: FGDConfig = FGDConfig()


class Counts(NamedTuple):
    """Of one loss, forward and backward."""

    launches: int
    map_passes: float | None  # reads and writes of maps, over one read of all of the teacher's
    passes: float             # the same with all else: masks, weights of cells, sums


def grids(levels: tuple[str, ...] = LEVELS) -> list[tuple[int, int]]:
    return [tuple(-(-side // 2**int(level[1:])) for side in FRAME) for level in levels]


# ---- the loss in eager mode ----

class Counted(TorchDispatchMode):
    """Launches and bytes of what runs inside: every operation that is no view reads its inputs, writes its outputs."""

    def __init__(self):
        super().__init__()
        self.launches = self.bytes = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        found = func(*args, **(kwargs or {}))
        if not func.is_view and func._schema.name.split("::")[1] not in FREE:
            self.launches += 1
            self.bytes += nbytes((args, kwargs, found))
        return found


def nbytes(values) -> int:
    """Bytes of all tensors in nested arguments; a dimension that is expanded counts once."""
    tensors = [each for each in tree_leaves(values) if isinstance(each, Tensor)]
    return sum(
        math.prod(size for size, stride in zip(each.shape, each.stride(), strict=True) if stride) * each.element_size()
        for each in tensors)


def pyramid(case: Case, device: str) -> tuple[dict[str, Tensor], dict[str, Tensor], Scene]:
    """Maps of student and teacher, and the scene."""
    student, teacher = (
        {level: torch.empty(case.batch, CHANNELS, *grid, dtype=case.dtype, device=device).to(memory_format=case.layout)
         for level, grid in zip(LEVELS, grids(), strict=True)} for _ in range(2))
    student = {level: maps.requires_grad_() for level, maps in student.items()}
    pixels = torch.empty(1).expand(case.batch, 3, *FRAME)  # on the CPU: autocast knows no device meta
    boxes = [torch.empty(BOXES, 4, device=device)] * case.batch
    return student, teacher, Scene(pixels, boxes, [FRAME] * case.batch, student)


def readable(case: Case) -> Counts:
    """FGDLoss on five levels, forward and backward, masks included."""
    _, teacher, scene = pyramid(case, "meta")
    loss = FGDLoss(LEVELS, CHANNELS, CHANNELS, case.config).to("meta")
    with Counted() as counted:
        total(loss.on_scene(scene.float(), full_precision(teacher))).backward()
    one_pass = nbytes(teacher)
    return Counts(counted.launches, None, counted.bytes / one_pass)


def around_the_compiled_sums(case: Case) -> int:
    """Launches of the compiled loss outside of the compiled sums: boxes are joined, terms are weighed and added."""
    student, teacher, scene = pyramid(case, "meta")
    loss = FGDLoss(LEVELS, CHANNELS, CHANNELS, case.config).to("meta")
    sums = torch.empty(len(LEVELS) * len(case.config.weights()), device="meta", requires_grad=True)
    relations = list(loss.relation.values()) or [None] * len(LEVELS)
    with mock.patch.object(algebra, "compiled", lambda: lambda *given: sums), Counted() as counted:
        found = algebra.sums_of_levels(list(student.values()), list(teacher.values()), scene, relations, case.config)
        weights = case.config.weights().items()
        total([Term(name, "", of_level[name], weight) for of_level in found for name, weight in weights]).backward()
    return counted.launches


# ---- the compiled sums ----

@contextmanager
def a_gpu_is_said_to_be_there() -> Iterator[None]:
    """Inductor generates code for an H200; neither CUDA nor a driver is asked."""
    from torch._dynamo.device_interface import CudaInterface
    from torch.utils import _triton
    from triton.backends.compiler import GPUTarget
    from triton.runtime import driver

    def forget() -> None:  # what torch has found out about Triton here
        for each in vars(_triton).values():
            if hasattr(each, "cache_clear"):
                each.cache_clear()

    properties = SimpleNamespace(**H200)
    answers = {
        "get_device_properties": properties, "get_compute_capability": 90, "is_available": True, "current_device": 0}
    before = getattr(driver, "_active", None)
    stand_in = mock.Mock()
    stand_in.get_current_target.return_value = GPUTarget("cuda", 90, 32)
    stand_in.get_current_device.return_value = 0
    with ExitStack() as stack:
        for name, answer in answers.items():
            patch = mock.patch.object(CudaInterface, name, staticmethod(lambda *args, answer=answer: answer))
            stack.enter_context(patch)
        for name, answer in {
            "get_device_properties": properties, "get_device_capability": (9, 0), "is_available": True,
            "current_device": 0, "device_count": 1, "_lazy_init": None, "synchronize": None,
        }.items():
            stack.enter_context(mock.patch.object(torch.cuda, name, lambda *args, answer=answer: answer))
        driver.set_active(stand_in)
        forget()
        try:
            yield
        finally:
            driver._active = before
            forget()


def generated(graph: torch.fx.GraphModule, backward: bool) -> tuple[int, list[dict[str, int]], str]:
    """(launches, {buffer: bytes} of each kernel, code): what Inductor generates for CUDA from a graph on the CPU."""
    from torch._inductor.compile_fx import _recursive_post_grad_passes, view_to_reshape
    from torch._inductor.debug import DebugContext
    from torch._inductor.graph import GraphLowering
    from torch._inductor.virtualized import V
    from torch._subclasses.fake_tensor import FakeTensor

    moved, gpu = copy.deepcopy(graph), torch.device("cuda", 0)

    def on_gpu(value):
        if not isinstance(value, FakeTensor):
            return value
        plain = torch.empty_strided(value.shape, value.stride(), dtype=value.dtype, device="meta")
        return FakeTensor(value.fake_mode, plain, gpu)

    for node, original in zip(moved.graph.nodes, graph.graph.nodes, strict=True):
        node.meta["val"] = tree_map(on_gpu, original.meta.get("val"))
        if "device" in node.kwargs:
            node.kwargs = {**node.kwargs, "device": gpu}
    inputs = [node.meta["val"] for node in moved.graph.nodes if node.op == "placeholder"]
    view_to_reshape(moved)
    with a_gpu_is_said_to_be_there(), V.set_fake_mode(inputs[0].fake_mode), V.set_debug_handler(DebugContext()):
        _recursive_post_grad_passes(moved, is_inference=False)
        lowering = GraphLowering(moved, is_backward=backward)
        with V.set_graph_handler(lowering):
            lowering.run(*inputs)
            lowering._update_scheduler()
            code, *_ = lowering.codegen()
            kernels = [
                node.get_read_write_buffer_accesses(include_reads=True, include_writes=True)
                for node in lowering.scheduler.nodes]
    code = getattr(code, "value", code)
    launches = len(re.findall(LAUNCH, code[code.index("def call("):]))
    return launches, kernels, code


def compiled_sums(case: Case) -> list[tuple[int, list[dict[str, int]], str]]:
    """``generated`` for the forward and the backward graph of ``algebra.pyramid_sums``: half a minute of one core."""
    from functorch.compile import aot_function, make_boxed_func
    from torch._functorch.partitioners import min_cut_rematerialization_partition
    from torch._inductor.decomposition import select_decomp_table
    from torch._subclasses.fake_tensor import FakeTensorMode

    found: list[tuple[int, list[dict[str, int]], str]] = []

    def counting(backward: bool) -> Callable:
        def compiler(graph: torch.fx.GraphModule, _) -> Callable:
            found.append(generated(graph, backward))
            return make_boxed_func(graph.forward)

        return compiler

    def sums(students: list[Tensor], teachers: list[Tensor], boxes: Tensor, table: Tensor, layers: Tensor | None):
        return algebra.pyramid_sums(students, teachers, boxes, table, layers, case.config)

    def partition(*args, **settings):
        return min_cut_rematerialization_partition(*args, compiler="inductor", **settings)

    known = torch._inductor.list_options()
    options = {name: value for name, value in algebra.OPTIONS.items() if name in known}
    with FakeTensorMode(allow_non_fake_inputs=True), torch._inductor.config.patch(compile_threads=1, **options):
        student, teacher, scene = pyramid(case, "cpu")
        located, layers = algebra.located(scene, case.config.frame), None
        if case.config.relation == "gc":
            size = sum(each.numel() for each in GcBlock(CHANNELS).parameters())
            layers = torch.empty(2 * len(LEVELS), 1, size, requires_grad=True)
        counted = aot_function(
            sums, fw_compiler=counting(False), bw_compiler=counting(True), partition_fn=partition,
            decompositions=select_decomp_table())
        counted(list(student.values()), list(teacher.values()), *located, layers).sum().backward()
    return found


def compiled(case: Case, found: list[tuple[int, list[dict[str, int]], str]] | None = None) -> Counts:
    """The compiled loss on five levels, forward and backward, masks included. found: its ``compiled_sums``."""
    found = found or compiled_sums(case)
    cells = [case.batch * CHANNELS * math.prod(grid) for grid in grids()]
    one_pass = sum(cells) * case.dtype.itemsize
    accesses = [size for _, kernels, _ in found for kernel in kernels for size in kernel.values()]
    sizes = {count * itemsize for count in cells for itemsize in (2, 4, 8)}
    launches = sum(launches for launches, *_ in found) + around_the_compiled_sums(case)
    return Counts(launches, sum(size for size in accesses if size in sizes) / one_pass, sum(accesses) / one_pass)


# ---- a table on COCO ----

@torch.no_grad()
def forward_flops(backbone: str) -> tuple[int, int]:
    """(FLOPs of a RetinaNet's forward pass on one COCO image, bytes of its gradients)."""
    detector = build("retinanet", backbone, 80).to("meta")
    with FlopCounterMode(display=False) as counter:
        detector.head(list(detector.backbone(torch.empty(1, 3, *FRAME, device="meta")).values()))
    return counter.get_total_flops(), sum(each.nbytes for each in detector.parameters())


def decoding_ms() -> float:
    """Milliseconds of one core to decode a JPEG of COCO's usual size and bring it to detector size."""
    pixels = np.random.default_rng(0).integers(0, 255, (60, 80, 3), np.uint8)
    picture, file = Image.fromarray(pixels).resize((640, 480), Image.Resampling.BICUBIC), BytesIO()
    picture.save(file, "JPEG", quality=90)
    started, count = time.process_time(), 20
    for _ in range(count):
        Image.open(file).convert("RGB").resize((1067, 800), Image.Resampling.BILINEAR)
    return 1000 * (time.process_time() - started) / count


def table_cost(loss: Counts, gpus: int, student: tuple[int, int], teacher: tuple[int, int], decode_ms: float) -> dict:
    """Hours of a table of the paper scale: runs side by side, and several GPUs per run where there are more than runs.

    A run on g GPUs computes g images_per_gpu images per step; gradients are averaged by a ring after the step, which is
    pessimistic, because it could overlap with the backward pass.
    """
    runs, per_gpu = ASSUMED["rows_times_seeds"], ASSUMED["images_per_gpu"]
    per_run = max(gpus // runs, 1)
    waves = math.ceil(runs / max(gpus // per_run, 1))
    flops = per_gpu * (3 * student[0] + teacher[0])
    compute = flops / (1e12 * ASSUMED["bf16_tflops"] * ASSUMED["efficiency"])
    one_pass = 2 * per_gpu * CHANNELS * sum(math.prod(grid) for grid in grids())
    loss_time = max(
        loss.passes * one_pass / (1e12 * ASSUMED["memory_tb_per_s"]), loss.launches * 1e-6 * ASSUMED["launch_us"])
    reduce = 2 * (per_run - 1) / per_run * student[1] / (1e9 * ASSUMED["all_reduce_gb_per_s"])
    step = compute + loss_time + reduce
    loading = per_gpu * decode_ms / 1000 / ASSUMED["cores_per_gpu"]
    steps = ASSUMED["images"] * ASSUMED["epochs"] / (per_gpu * per_run)
    return {
        "gpus": gpus, "gpus_per_run": per_run, "waves": waves, "step_ms": round(1000 * step, 1),
        "loss_share": round(loss_time / step, 3), "reduce_share": round(reduce / step, 3),
        "loader_bounds_below_cores_per_gpu": round(per_gpu * decode_ms / 1000 / step, 2),
        "bound": "loader" if loading > step else "GPU",
        "hours_per_table": round(waves * steps * max(step, loading) / 3600, 1),
    }


def on_this_cpu() -> dict:
    """The model against this machine, one thread: its measured rates and counted work predict what is then measured.

    As for a GPU, a detector takes its FLOPs at ``efficiency`` times the rate of a matrix product, and the readable loss
    its bytes at the rate of a copy.
    """
    torch.set_num_threads(1)
    matrix, data = torch.randn(1024, 1024), torch.randn(2**26)
    copied = torch.empty_like(data)
    gflop_per_s = 2e-9 * 1024**3 / seconds(lambda: matrix @ matrix)
    gb_per_s = 2e-9 * data.nbytes / seconds(lambda: copied.copy_(data))

    detector = build("retinanet", "compact_s", 10).to(memory_format=torch.channels_last)
    images = [torch.rand(3, 128, 128) for _ in range(16)]
    targets = [{"boxes": torch.tensor([[10.0, 10.0, 30.0, 50.0]]), "labels": torch.tensor([1])}] * 16

    def step() -> None:
        sum(detector(images, targets).values()).backward()

    with FlopCounterMode(display=False) as counter:
        step()
    gflop = counter.get_total_flops() / 1e9

    case = Case(batch=1, dtype=torch.float32)
    student, teacher, scene = pyramid(case, "cpu")
    for maps in (*student.values(), *teacher.values()):
        maps.data.normal_()
    scene.boxes[0][:] = torch.tensor([100.0, 100.0, 400.0, 300.0])
    loss = FGDLoss(LEVELS, CHANNELS, CHANNELS, case.config)
    gb = readable(case).passes * nbytes(teacher) / 1e9

    times = {
        "RetinaNet, compact_s, 16 images of 128 px": (gflop / gflop_per_s / ASSUMED["efficiency"], seconds(step)),
        "readable loss, one image of COCO": (gb / gb_per_s, seconds(lambda: total(loss(scene, teacher)).backward())),
    }
    times["both"] = tuple(map(sum, zip(*times.values(), strict=True)))
    return {
        "gflop_per_s": round(gflop_per_s, 1), "gb_per_s": round(gb_per_s, 1),
        "detector_gflop": round(gflop, 2), "loss_gb": round(gb, 2),
        **{name: {
            "predicted_ms": round(1000 * predicted, 1), "ms": round(1000 * measured, 1),
            "measured_over_predicted": round(measured / predicted, 2),
        } for name, (predicted, measured) in times.items()},
    }


def seconds(run: Callable[[], object]) -> float:
    """Median processor time of five calls, after one that warms up."""
    times = []
    for _ in range(6):
        started = time.process_time()
        run()
        times.append(time.process_time() - started)
    return statistics.median(times[1:])


def step_launches(detector: str = "retinanet", batch: int = BATCH, size: int = 256) -> dict[str, int]:
    """Launches of a step of the gpu scale, forward and backward, in float32, without the optimiser.

    Counted on meta tensors with the readable loss, which the compiled one replaces.
    """
    student, teacher = (build(detector, backbone, 10) for backbone in ("resnet18", "resnet50"))
    levels = student.levels
    images = [torch.empty(3, size, size, device="meta") for _ in range(batch)]
    targets = [
        {"boxes": torch.empty(5, 4, device="meta"), "labels": torch.ones(5, dtype=torch.long, device="meta")}
        for _ in range(batch)]
    found = {}
    no_autocast = mock.patch.object(torch, "autocast", lambda *given, **settings: nullcontext())  # knows no meta
    with gpu_waits.audited("meta"), no_autocast:
        for name, loss in {"plain": None, "fgd": FGDLoss(levels, CHANNELS, CHANNELS).to("meta")}.items():
            pair = (student,) if loss is None else (student, teacher, loss)
            distiller = Distiller(*pair).to("meta").train()
            if loss is not None:
                loss._boxes_checked = True
                loss.check_input = lambda *given: None  # it reads boxes at each call, but on a GPU only at the first
            with Counted() as counted:
                total(distiller(images, targets)).backward()
            found[name] = counted.launches
    return found


def by_layout() -> dict[str, Counts]:
    """The compiled loss in both layouts of maps: prints each when it is counted."""
    found = {}
    for name, layout in LAYOUTS.items():
        found[name] = compiled(Case(layout=layout))
        print("compiled  {} launches, {} passes over the maps, {:.1f} with all else".format(*found[name]), end="")
        print(f", {name}, torch {torch.__version__}", flush=True)
    return found


def with_this_torch(found: dict[str, Counts]) -> dict:
    """The counts in the file by version of torch, this one's new."""
    before = json.loads(PATH.read_text()).get("compiled_by_torch", {}) if PATH.exists() else {}
    version = torch.__version__.split("+")[0]
    return {**before, version: {layout: each._asdict() for layout, each in found.items()}}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--loss", action="store_true", help="count the compiled loss alone, with this version of torch")
    only_loss = parser.parse_args().loss
    print("loss on five levels of COCO, 16 images, bfloat16, forward and backward")
    if only_loss:
        write_json(PATH, {**json.loads(PATH.read_text()), "compiled_by_torch": with_this_torch(by_layout())})
        return
    losses = {"readable": readable(Case())}
    print(f"readable  {losses['readable'].launches:4} launches, {losses['readable'].passes:6.1f} passes", flush=True)
    layouts = by_layout()
    losses["compiled"] = layouts["channels_last"]
    waits = {name: sum(gpu_waits.of_loss(name == "compiled").values()) for name in losses}
    waits["step of RetinaNet with FGD"] = sum(gpu_waits.of_step("retinanet").values())
    print(f"waits of the host: {waits}", flush=True)
    steps = step_launches()
    steps["fgd, compiled"] = steps["fgd"] - losses["readable"].launches + losses["compiled"].launches
    print(f"launches of a step of the gpu scale: {steps}", flush=True)
    decode_ms, student, teacher = decoding_ms(), forward_flops("resnet50"), forward_flops("resnet101")
    print(f"forward on one COCO image: student {student[0] / 1e9:.0f}, teacher {teacher[0] / 1e9:.0f} GFLOP")
    print(f"one core decodes and resizes an image in {decode_ms:.1f} ms")
    costs = {
        name: [table_cost(loss, gpus, student, teacher, decode_ms) for gpus in (1, 8, 64)]
        for name, loss in losses.items()}
    for name, rows in costs.items():
        for row in rows:
            print(name, row, flush=True)
    check = on_this_cpu()
    print(check)
    write_json(PATH, {
        "what": "counts for a GPU, made without one", "losses": {name: each._asdict() for name, each in losses.items()},
        "compiled_by_torch": with_this_torch(layouts),
        "host_waits": waits, "step_launches": steps, "assumed": ASSUMED,
        "forward_gflop": {"resnet50": student[0] / 1e9, "resnet101": teacher[0] / 1e9},
        "decoding_ms": round(decode_ms, 1), "tables": costs, "cpu": check, "machine": provenance(),
    })
    print(f"written to {PATH}")


if __name__ == "__main__":
    main()
