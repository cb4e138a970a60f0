"""What benchmarks/gpu_model.py counts for a GPU and gpu_kernels.py builds for it, held against their bounds."""
import json
import re
from pathlib import Path

import pytest
import torch

from benchmarks import gpu_kernels, gpu_model, gpu_waits


def test_a_launch_is_an_operation_that_is_no_view_and_bytes_are_what_it_reads_and_writes():
    a = torch.empty(4, 8, device="meta")
    with gpu_model.Counted() as counted:
        (a.t() + a.new_empty(1).expand(8, 4)).sum()
    assert counted.launches == 2
    assert counted.bytes == 4 * (32 + 1 + 32) + 4 * (32 + 1)


def test_around_the_compiled_sums_is_little_whatever_the_batch():
    few = gpu_model.around_the_compiled_sums(gpu_model.Case(batch=2))
    assert few == gpu_model.around_the_compiled_sums(gpu_model.Case(batch=16)) <= 10


@pytest.mark.parametrize("gpus", [1, 8, 64])
def test_a_table_on_more_gpus_takes_less_time_and_names_its_bound(gpus):
    loss, flops, none = gpu_model.Counts(40, 9.0, 9.6), (2 * 10**11, 10**8), 0.001
    one, more = (gpu_model.table_cost(loss, count, flops, flops, none) for count in (1, gpus))
    assert more["hours_per_table"] <= one["hours_per_table"] and more["bound"] == "GPU"
    assert gpu_model.table_cost(loss, gpus, flops, flops, 10_000.0)["bound"] == "loader"


# ---- waits of the host ----

def test_every_kind_of_wait_is_found():
    with gpu_waits.audited() as waits:
        x = torch.empty(6, device="cuda")
        for number, ask in enumerate([
            lambda: x.sum().item(), lambda: bool((x > 0).any()), lambda: x.nonzero(), lambda: x[x > 0], lambda: x.cpu(),
            lambda: x.tolist(), lambda: torch.tensor([1.0], device="cuda"), lambda: x[[0, 2]],
            lambda: torch.tensor([1.0]).to("cuda", non_blocking=True),
        ], start=1):
            ask()
            assert sum(waits.sites.values()) >= number, waits.sites


def test_what_makes_no_host_wait_is_not_counted():
    with gpu_waits.audited() as waits:
        x = torch.empty(6, device="cuda")
        torch.where(x > 0, x, 0).masked_fill(x > 1, 0.5)
        x[x > 0] = 1.0
        torch.tensor([1.0], pin_memory=True).to("cuda", non_blocking=True)
        assert not waits.sites


def test_the_loss_never_makes_the_host_wait():
    assert sum(gpu_waits.of_loss(fused=True).values()) <= gpu_model.BOUNDS["waits"]


@pytest.mark.slow
@pytest.mark.parametrize("detector", ["retinanet", "fcos", "reppoints"])
def test_a_step_makes_the_host_wait_a_few_times_whatever_its_batch(detector):
    few = sum(gpu_waits.of_step(detector, batch=2).values())
    assert few == sum(gpu_waits.of_step(detector, batch=5).values()) <= gpu_model.BOUNDS["step_waits"]


# ---- launches and passes ----

@pytest.fixture(scope="module")
def sums():
    return gpu_model.compiled_sums(gpu_model.Case())


@pytest.fixture(scope="module")
def compiled(sums):
    return gpu_model.compiled(gpu_model.Case(), sums)


@pytest.mark.slow
def test_the_compiled_loss_keeps_its_bounds_of_launches_and_passes_over_the_maps(compiled):
    assert compiled.launches <= gpu_model.BOUNDS["launches"]
    assert compiled.map_passes <= gpu_model.BOUNDS["map_passes"]
    assert compiled.map_passes < compiled.passes < compiled.map_passes + 1


@pytest.mark.slow
def test_the_readable_loss_takes_many_times_as_many_launches_and_passes(compiled):
    readable = gpu_model.readable(gpu_model.Case())
    assert readable.launches > 15 * compiled.launches and readable.passes > 15 * compiled.passes


@pytest.mark.slow
def test_a_step_of_the_gpu_scale_keeps_its_bound_of_launches(compiled):
    found, loss = gpu_model.step_launches(), gpu_model.readable(gpu_model.Case())
    assert found["fgd"] - loss.launches + compiled.launches <= gpu_model.BOUNDS["step_launches"]
    assert found["plain"] < found["fgd"]


def test_counts_in_the_file_keep_their_bounds_in_both_layouts():
    """With the torch of the lock file; older ones, which join fewer kernels, are counted beside it."""
    root = Path(gpu_model.__file__).parents[1]
    found = json.loads((root / gpu_model.PATH).read_text())
    locked = re.search(r"(?m)^torch==(\S+)", (root / "requirements.lock").read_text())[1]
    here = found["compiled_by_torch"][locked]
    assert found["losses"]["compiled"] == here["channels_last"] and here.keys() == gpu_model.LAYOUTS.keys()
    for each in here.values():
        assert each["launches"] <= gpu_model.BOUNDS["launches"]
        assert each["map_passes"] <= gpu_model.BOUNDS["map_passes"]


# ---- kernels, built by Triton's own assembler ----

PTX = """
	ld.param.b64 	%rd1, [some_kernel_param_0];
	ld.param.b64 	%rd2, [some_kernel_param_2];
	mad.wide.u32 	%rd3, %r7, 2, %rd1;
	add.s64 	%rd4, %rd2, %rd9;
	selp.b64 	%rd5, %rd3, %rd4, %p1;
	@%p9 ld.global.L1::evict_first.L2::cache_hint.v2.b32 { %r1, %r2 }, [ %rd3 + 0 ], %rd8;
	@%p9 ld.global.v4.b32 { %r3, %r4, %r5, %r6 }, [ %rd4 + 16 ];
	ld.global.b16 	%rs1, [%rd5];
"""


def test_a_load_belongs_to_the_arguments_that_its_address_comes_from():
    assert gpu_kernels.map_loads(PTX, {0}) == [8]
    assert gpu_kernels.map_loads(PTX, {2}) == [16]
    assert gpu_kernels.map_loads(PTX, {0, 2}) == [8, 16, 2]
    assert gpu_kernels.map_loads(PTX, {1}) == []


def test_the_first_inputs_of_the_sums_are_the_maps():
    code = "triton_a = async_compile.triton('triton_a', '''\nbody\n''', device_str='cuda')\n" \
           "    triton_a.run(buf1, primals_10, primals_11, primals_1, 7, stream=stream0)\n"
    assert list(gpu_kernels.kernels(code)) == [("triton_a", "\nbody\n", {1, 3})]


@pytest.mark.slow
def test_every_kernel_builds_for_each_architecture_with_few_registers_and_wide_loads(sums):
    """Maps in bfloat16 and channels_last, and of each kernel the first configuration; the command builds all others."""
    bounds, made = gpu_kernels.BOUNDS, [each for _, _, code in sums for each in gpu_kernels.built(code)]
    count = sum(len(list(gpu_kernels.kernels(code))) for _, _, code in sums)
    assert count > 20 and len(made) == count * len(gpu_kernels.ARCHITECTURES)
    assert all(each.registers <= bounds["registers"] and each.stack <= bounds["stack"] for each in made)
    reading = [each for each in made if each.load is not None]
    assert len({each.name for each in reading}) >= 4
    assert all(each.stack <= bounds["stack_where_maps_are_read"] and each.load >= bounds["load"] for each in reading)
