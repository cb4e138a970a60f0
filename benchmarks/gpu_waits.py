"""How often the host waits for the GPU, found on a machine without one: the code runs forward on fake CUDA tensors.

A fake tensor has a shape and a device but no data. The host waits where it needs a number from the GPU (``item``,
``bool``, ``tolist``), where a shape depends on data (``nonzero``, a mask as an index, ``nms``), and where a copy
between host and GPU blocks or is not from pinned memory. Each wait is recorded with the line of this project or of
torchvision that asked for it. Numbers and shapes that depend on data are made up: 0, False, and three elements.

    python -m benchmarks.gpu_waits retinanet fcos reppoints      a whole step of each with FGD, by line
"""
import argparse
import sys
import traceback
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from unittest import mock

import torch
import torchvision
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode

from fgdlab import Distiller, FGDLoss, Scene, Term, total
from fgdlab.fused.cuda import algebra
from fgdlab.lab.config import RunConfig, scale_settings
from fgdlab.lab.detectors import build
from fgdlab.lab.training import make_loss

ROOT, VISION = Path(__file__).parents[1], Path(torchvision.__file__).parent
FOUND = 3  # elements of what depends on data
aten = torch.ops.aten


class Waits(TorchDispatchMode):
    """Counts of waits by the line that asks: ``sites``."""

    def __init__(self):
        super().__init__()
        self.sites: Counter[str] = Counter()
        self.pinned: set[int] = set()

    def note(self, what: str) -> None:
        frames = [each for each in traceback.extract_stack() if each.filename != __file__]
        ours = [each for each in frames if str(ROOT / "fgdlab") in each.filename or str(VISION) in each.filename]
        last = (ours or frames)[-1]
        name = Path(last.filename)
        self.sites[f"{what} at {name.parent.name}/{name.name}:{last.lineno}"] += 1

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        packet = func.overloadpacket
        if packet in (aten._local_scalar_dense, aten.item, aten.is_nonzero, aten.equal):
            if args[0].device.type != "cpu":
                self.note(packet.__name__.strip("_"))
            return False if args[0].dtype == torch.bool or packet in (aten.is_nonzero, aten.equal) else 0
        if packet in (aten.nonzero, aten.masked_select, aten._unique2) and args[0].device.type != "cpu":
            self.note(packet.__name__)
            assert packet is aten.nonzero, f"no stand-in for {packet}"
            return args[0].new_empty(FOUND, args[0].ndim, dtype=torch.long)
        if packet in (aten.index, aten.index_put_, aten.index_put, aten._index_put_impl_):
            args = self.without_masks(packet, args)
        if packet in (aten._to_copy, aten.copy_):
            self.copied(packet, args, kwargs)
        return func(*args, **kwargs)

    def without_masks(self, packet, args):
        """A mask as an index: its places are searched, and the host waits for their number."""
        data, indices, *rest = args
        if not any(each is not None and each.dtype == torch.bool for each in indices):
            return args
        if packet is aten.index or rest[0].ndim:  # a mask that is filled with one value needs no places
            self.note("a mask as an index")
        places = []
        for each in indices:
            is_mask = each is not None and each.dtype == torch.bool
            count = each.ndim if is_mask else 1
            places += [each.new_empty(FOUND, dtype=torch.long)] * count if is_mask else [each]
        return (data, places, *rest)

    def copied(self, packet, args, kwargs) -> None:
        if packet is aten.copy_:
            target, source = args[0].device, args[1]
            waits_not = args[2] if len(args) > 2 else kwargs.get("non_blocking", False)
        else:
            source, target = args[0], kwargs.get("device") or args[0].device
            waits_not = kwargs.get("non_blocking", False)
        devices = torch.device(target).type, source.device.type
        if devices == ("cpu", "cuda") and not waits_not:
            self.note("copy to the host")
        if devices == ("cuda", "cpu") and not (waits_not and source.untyped_storage()._cdata in self.pinned):
            self.note("copy from the host")


@contextmanager
def audited(device: str = "cuda") -> Iterator[Waits]:
    """Within, tensors are fake ones on a GPU that does not exist. Meta tensors stand for them in backward passes."""
    waits, made, nms = Waits(), torch.tensor, torchvision.ops.boxes.batched_nms

    def tensor(data, *args, pin_memory: bool = False, **settings):
        found = made(data, *args, **settings)
        if pin_memory:
            waits.pinned.add(found.untyped_storage()._cdata)
            kept.append(found)  # else its place is used again
        return found

    def kept_boxes(boxes: Tensor, *rest) -> Tensor:
        waits.note("nms")
        return torch.arange(min(FOUND, len(boxes)), device=boxes.device)

    kept: list[Tensor] = []
    with ExitStack() as stack:
        stack.enter_context(mock.patch.object(torch, "tensor", tensor))
        for module in list(sys.modules.values()):
            if getattr(module, "batched_nms", None) is nms:
                stack.enter_context(mock.patch.object(module, "batched_nms", kept_boxes))
        if device == "cuda":
            stack.enter_context(FakeTensorMode(allow_non_fake_inputs=True))
        stack.enter_context(waits)
        yield waits


def of_loss(fused: bool, batch: int = 4) -> Counter[str]:
    """Waits of the loss on five levels of COCO, forward, after its first call, which checks the boxes."""
    levels = {f"P{level}": (-(-800 // 2**level), -(-1344 // 2**level)) for level in range(3, 8)}
    with audited() as waits:
        with torch.device("cuda"):
            loss = FGDLoss(tuple(levels), 256, 256)
            student, teacher = ({name: torch.empty(batch, 256, *grid) for name, grid in levels.items()} for _ in "st")
            boxes = [torch.empty(number, 4) for number in range(batch)]
            scene = Scene(torch.empty(batch, 3, 800, 1344), boxes, [(800, 1344)] * batch, student)
        loss._boxes_checked = True
        waits.sites.clear()
        if fused:
            maps = [*student.values()], [*teacher.values()]
            with mock.patch.object(algebra, "compiled", lambda: algebra.pyramid_sums):
                sums = algebra.sums_of_levels(*maps, scene, [*loss.relation.values()], loss.config)
            total([Term(name, "", raw) for of_level in sums for name, raw in of_level.items()])
        else:
            total(loss(scene, teacher))
        return waits.sites


def of_step(detector: str, batch: int = 4, size: int = 256) -> Counter[str]:
    """Waits of the forward pass of a whole step of the gpu scale: teacher, student, task losses and readable FGD."""
    config = RunConfig.of({**scale_settings("gpu"), "detector": detector, "method": "fgd", "fused": "off"})
    student, teacher = (build(detector, backbone, 10) for backbone in ("resnet18", "resnet50"))
    with audited() as waits:
        with torch.device("cuda"):
            loss = make_loss(config, student.levels, student, teacher, "cuda")
            images = [torch.empty(3, size, size) for _ in range(batch)]
            targets = [{"boxes": torch.empty(5, 4), "labels": torch.ones(5, dtype=torch.long)} for _ in range(batch)]
        loss._boxes_checked = True
        distiller = Distiller(student, teacher, loss).train()
        for module in (student, teacher):
            on_gpu(module)
        distiller(images, targets)  # keeps its anchors
        waits.sites.clear()
        distiller(images, targets)
        return waits.sites


def on_gpu(module: torch.nn.Module) -> None:
    for each in module.modules():
        for name, tensor in [*each._parameters.items(), *each._buffers.items()]:
            if tensor is not None:
                held = each._parameters if name in each._parameters else each._buffers
                fake = torch.empty_like(tensor, device="cuda")
                held[name] = torch.nn.Parameter(fake, tensor.requires_grad) if held is each._parameters else fake


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("detectors", nargs="*", default=["retinanet"])
    for detector in parser.parse_args().detectors:
        sites = of_step(detector)
        print(f"{detector}: the host waits {sum(sites.values())} times per step")
        for site, count in sites.most_common():
            print(f"    {count:4} {site}")


if __name__ == "__main__":
    main()
