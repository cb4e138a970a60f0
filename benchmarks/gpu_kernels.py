"""Builds the compiled loss for GPUs on a machine without one: all kernels that Inductor generates, by Triton's ptxas.

    python -m benchmarks.gpu_kernels                 five levels of COCO, 16 images, bfloat16, for three architectures
    python -m benchmarks.gpu_kernels --layout NCHW --dtype float32 --every

By kernel and architecture: registers of a thread, bytes of its stack (spilled registers go there), and the bytes that
one thread reads at a time from a map, the fewest of all loads. Inductor tries several configurations of some kernels
on a GPU and keeps the fastest. Without ``--every`` the first one is built.
"""
import argparse
import re
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple
from unittest import mock

import torch

from benchmarks import gpu_model

ARCHITECTURES = (80, 90, 100)  # A100, H100 and H200, B200
BOUNDS = {
    "registers": 128,  # of 255: 512 threads at least are resident on a multiprocessor
    "stack": 16,       # above, Inductor drops a configuration
    "stack_where_maps_are_read": 0, "load": 8,
}


class Kernel(NamedTuple):
    name: str
    architecture: int
    registers: int
    stack: int
    load: int | None  # None: it reads no map


def kernels(code: str) -> Iterator[tuple[str, str, set[int]]]:
    """(name, source, places of arguments that are maps) of each kernel in what Inductor generated."""
    maps = {f"primals_{place}" for place in range(1, 2 * len(gpu_model.LEVELS) + 1)}  # the first inputs of the sums
    for name, source in re.findall(r"(?ms)^(\w+) = async_compile\.triton\('\w+', '''(.*?)'''", code):
        given = re.search(rf" {name}\.run\((.*?), stream", code)[1].split(", ")
        yield name, source, {place for place, argument in enumerate(given) if argument in maps}


def built(code: str, architectures: tuple[int, ...] = ARCHITECTURES, every: bool = False) -> Iterator[Kernel]:
    """Each kernel, built for each architecture.

    Raises:
        RuntimeError or another error of the compiler: a kernel does not build.
    """
    import triton
    from torch._inductor.codecache import PyCodeCache
    from torch._inductor.runtime import triton_helpers
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    no_driver = mock.patch.object(triton_helpers, "set_driver_to_gpu", lambda: None)
    with gpu_model.a_gpu_is_said_to_be_there(), no_driver:
        for name, source, maps in kernels(code):
            tuner = getattr(PyCodeCache.load(source), name)
            for config in tuner.configs if every else tuner.configs[:1]:
                meta = tuner._create_compile_meta(config)
                options = tuner._create_compile_options(config, meta)
                for architecture in architectures:
                    made = triton.compile(
                        ASTSource(tuner.fn, meta["signature"], meta["constants"], meta["configs"][0]),
                        target=GPUTarget("cuda", architecture, 32), options=options)
                    load = min(map_loads(made.asm["ptx"], maps), default=None)
                    yield Kernel(name, architecture, *resources(made.asm["cubin"]), load)


def resources(cubin: bytes) -> tuple[int, int]:
    """(registers, bytes of stack) of a thread."""
    import triton

    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(cubin)
        file.flush()
        tool = Path(triton.__file__).parent / "backends/nvidia/bin/cuobjdump"
        text = subprocess.run([tool, "-res-usage", file.name], capture_output=True, text=True, check=True).stdout
    registers, stack, local = re.search(r"REG:(\d+) STACK:(\d+) .*LOCAL:(\d+)", text).groups()
    return int(registers), int(stack) + int(local)


def map_loads(ptx: str, maps: set[int]) -> list[int]:
    """Bytes that a thread reads by each instruction that reads maps, found by the arguments its address comes from."""
    origins: dict[str, set[int]] = {}
    for register, place in re.findall(r"ld\.param\.\w64\s+(%rd\d+), \[\w+_param_(\d+)\]", ptx):
        origins.setdefault(register, set()).add(int(place))
    steps = re.findall(r"(?m)^\s+(?:add|mad|mov|sub|selp|cvta)[\w.]*\s+(%rd\d+), (.*);", ptx)
    before = None
    while before != (before := sum(map(len, origins.values()))):  # until no register has more origins
        for register, given in steps:
            for each in re.findall(r"%rd\d+", given):
                if each in origins and each != register:
                    origins.setdefault(register, set()).update(origins[each])
    loads = re.findall(r"ld\.global[\w.:]*?(?:\.v(\d))?\.[bfsu](\d+) .*?\[ ?(%rd\d+)", ptx)
    return [int(many or 1) * int(bits) // 8 for many, bits, register in loads if origins.get(register, {-1}) <= maps]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--layout", choices=gpu_model.LAYOUTS, default="channels_last")
    parser.add_argument("--dtype", choices=("bfloat16", "float16", "float32"), default="bfloat16")
    parser.add_argument("--every", action="store_true", help="build every configuration of every kernel")
    args = parser.parse_args()
    case = gpu_model.Case(dtype=getattr(torch, args.dtype), layout=gpu_model.LAYOUTS[args.layout])
    for when, (_, _, code) in zip(("forward", "backward"), gpu_model.compiled_sums(case), strict=True):
        for kernel in built(code, every=args.every):
            print("{:8} {:24.24} sm_{:<3} {:3} registers, {} bytes of stack".format(when, *kernel), end="")
            print("" if kernel.load is None else f", maps read by {kernel.load} bytes", flush=True)


if __name__ == "__main__":
    main()
