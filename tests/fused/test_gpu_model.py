"""What benchmarks/gpu_model.py counts for a GPU, held against its bounds."""
import pytest
import torch

from benchmarks import gpu_model, gpu_waits


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
def compiled():
    return gpu_model.compiled(gpu_model.Case())


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
