"""Activation bytes and memory traffic against counts by hand."""
import torch
from torch import nn

from fgdlab.lab.course.scale import MemoryTraffic, activation_bytes


class Chain(nn.Module):
    """A detector with a given backbone and head."""

    def __init__(self, backbone, head):
        super().__init__()
        self.features, self.tower = backbone, head

    def backbone(self, pixels):
        return {"0": self.features(pixels)}

    def head(self, maps):
        return {"out": self.tower(maps[0])}


def test_convolution_keeps_its_input_and_relu_its_output():
    chain = Chain(nn.Conv2d(3, 4, 1), nn.ReLU())
    assert activation_bytes(chain, 10, 20) == 4 * (3 * 200 + 4 * 200)


def test_a_map_shared_by_two_layers_is_counted_once():
    chain = Chain(nn.Sequential(nn.Conv2d(3, 4, 1), nn.ReLU()), nn.Conv2d(4, 2, 1))  # ReLU's output is conv's input
    assert activation_bytes(chain, 10, 20) == 4 * (3 * 200 + 4 * 200)


def test_meta_tensors_count_like_real_ones():
    chain = Chain(nn.Conv2d(3, 8, 3, padding=1), nn.Sequential(nn.ReLU(), nn.Conv2d(8, 2, 1)))
    real = activation_bytes(chain, 16, 24)
    assert activation_bytes(chain.to("meta"), 16, 24) == real > 0


def test_addition_reads_two_maps_and_writes_one():
    a, b = torch.ones(10, 10), torch.ones(10, 10)
    with MemoryTraffic() as traffic:
        a + b
    assert traffic.bytes_moved == 3 * 400


def test_views_move_nothing():
    a = torch.ones(10, 10)
    with MemoryTraffic() as traffic:
        a.view(100).reshape(4, 25).t()[1:]
    assert traffic.bytes_moved == 0


def test_operation_in_place_reads_and_writes():
    a, b = torch.ones(10, 10), torch.ones(10, 10)
    with MemoryTraffic() as traffic:
        a.add_(b)
    assert traffic.bytes_moved == 3 * 400


def test_broadcast_vector_is_read_at_its_own_size():
    a, row = torch.ones(10, 10), torch.ones(10)
    with MemoryTraffic() as traffic:
        a * row.expand(10, 10)
    assert traffic.bytes_moved == 2 * 400 + 40
