"""The cheap look before the first step of every run: a second at most, nothing is changed by it.

    distiller, a few images --preflight--> [Line]            who is trained, weights as loaded, hook points, every term finite, shares by level
"""
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from fgdlab.distill import Distiller
from fgdlab.terms import Term, rows

from ..checkpoints import broken
from .check_result import CheckResult, listed
from .precision import Precision

IMAGES = 4                                                           # at most so many are looked at
QUIET, LOUD = 0.01, 100.0                                            # shares of the detector's own loss beyond which a distillation is worth a look


def preflight(distiller: Distiller, scenes, precision: str = "fp32", device: str = "cpu", batch_size: int = IMAGES) -> list[CheckResult]:
    """Look at a distiller before it is trained.

    Args:
        distiller: its teacher's ``sealed`` (see seal.py) and its student's ``inherited`` are checked where they are there.
        scenes: the images it will learn from; the first few serve.
        precision: of the run; "fp32", "bf16" or "fp16".
    Raises:
        whatever the detectors raise on images that they cannot take.
    """
    lines = [in_the_optimiser(distiller)]
    if distiller.teacher is not None:
        lines += [teacher_at_rest(distiller), as_loaded(distiller)]
    if getattr(distiller.student, "inherited", ()):
        lines.append(still_inherited(distiller))
    few = min(IMAGES, max(batch_size, 2), len(scenes))
    if few and all(line.good is not False for line in lines):
        images, targets = zip(*(scenes[i] for i in range(few)), strict=True)
        images = [image.to(device) for image in images]
        targets = [{name: value.to(device) for name, value in target.items()} for target in targets]
        lines += [in_pixels(images, targets), *first_batch(distiller, images, targets, Precision(precision, device))]
    return lines


# --- parameters and weights ---------------------------------------------------------------------------------------------------------

def in_the_optimiser(distiller: Distiller) -> CheckResult:
    """train.py gives the optimiser every parameter of the distiller that wants a gradient: the loss's own must be among them, the teacher's not."""
    trained = {each.data_ptr() for each in distiller.parameters() if each.requires_grad}
    of_loss = dict(distiller.loss.named_parameters()) if distiller.loss is not None else {}
    idle = [name for name, each in of_loss.items() if each.data_ptr() not in trained]
    if idle:
        return CheckResult("the distillation's own layers must be trained", False, f"{listed(idle)} want no gradient", "give them requires_grad")
    of_teacher = dict(distiller.teacher.named_parameters()) if distiller.teacher is not None else {}
    taught = [name for name, each in of_teacher.items() if each.data_ptr() in trained]
    if taught:
        return CheckResult(
            "the teacher must stay out of the optimiser", False, f"{listed(taught)} of it are trained",
            "do not share modules between student and teacher",
        )
    count = sum(each.numel() for each in distiller.student.parameters() if each.requires_grad)
    others = f", {sum(each.numel() for each in of_loss.values()):,} of the distillation's layers" if of_loss else ""
    return CheckResult("parameters in the optimiser", True, f"{count:,} of the student{others}" + (", none of the teacher's" if of_teacher else ""))


def teacher_at_rest(distiller: Distiller) -> CheckResult:
    teacher = distiller.teacher
    awake = [name or type(teacher).__name__ for name, each in teacher.named_modules() if each.training]
    wanting = [name for name, each in teacher.named_parameters() if each.requires_grad]
    if awake or wanting:
        found = f"{listed(awake)} in train mode" if awake else f"{listed(wanting)} want a gradient"
        return CheckResult("the teacher must be frozen and in eval mode", False, found, "leave it as Distiller made it")
    return CheckResult("the teacher", True, "frozen, in eval mode")


def as_loaded(distiller: Distiller) -> CheckResult:
    teacher = distiller.teacher
    bad = [name for name, each in teacher.state_dict().items() if each.is_floating_point() and not each.isfinite().all()]
    if bad:
        return CheckResult(
            "the teacher's weights must be finite", False, f"NaN or infinity in {listed(bad)}", "take a checkpoint from before its training broke",
        )
    checksum = getattr(teacher, "sealed", None)
    if checksum is None:
        return CheckResult(
            "the teacher's weights", None, "finite; nobody noted them when they were loaded", "set teacher.sealed = seal(teacher) after loading",
        )
    changed = broken(checksum, teacher)
    if changed:
        return CheckResult(
            "the teacher's weights must be those that were loaded", False,
            f"{len(changed)} tensors have changed since ({listed(sorted(changed))})", "look for what initialises or trains it",
        )
    return CheckResult("the teacher's weights", True, f"{len(checksum)} tensors as they were loaded")


def still_inherited(distiller: Distiller) -> CheckResult:
    ours, names = distiller.student.state_dict(), distiller.student.inherited
    theirs = distiller.teacher.state_dict() if distiller.teacher is not None else ours
    changed = [name for name in names if not torch.equal(ours[name], theirs[name])]
    if changed:
        return CheckResult(
            "what the student inherited must be the teacher's", False,
            f"{len(changed)} of {len(names)} tensors differ ({listed(changed)})", "inherit after initialising",
        )
    return CheckResult("inherited", True, f"{len(names)} tensors of the teacher's neck and head")


# --- the first images ---------------------------------------------------------------------------------------------------------------

def in_pixels(images: list[Tensor], targets: list[dict]) -> CheckResult:
    """Boxes normalised to 0..1 are the usual mistake of data that did not come through data.py."""
    boxes = [(image, target["boxes"]) for image, target in zip(images, targets, strict=True) if len(target["boxes"])]
    if boxes and all(float(each.max()) <= 1 for _, each in boxes):
        return CheckResult("boxes must be in pixels", False, f"all of {len(boxes)} images lie within 0..1", "multiply them by width and height")
    past = [each for image, each in boxes if (each[:, 2:].amax(dim=0) > each.new_tensor([image.shape[-1], image.shape[-2]]) + 1).any()]
    if past:
        return CheckResult(
            "boxes must lie within their images", False,
            f"those of {len(past)} of the first {len(images)} images do not", "give pixels of the loaded image",
        )
    return CheckResult("boxes", True, f"{sum(len(each) for _, each in boxes)} in the first {len(images)} images, in pixels")


def first_batch(distiller: Distiller, images: list[Tensor], targets: list[dict], precision: Precision) -> list[CheckResult]:
    """Hook points with shapes, every term finite, and the share of each term of the detector's own loss by level."""
    seen = {}

    def keep(module, arguments) -> None:
        seen["scene"], seen["maps"] = arguments[:2]

    handle = distiller.loss.register_forward_pre_hook(keep) if distiller.loss is not None else None
    try:
        with untouched(distiller), precision.autocast(), torch.no_grad():
            terms = distiller.train()(images, targets)
    except ValueError as error:
        if "more than 1 value per channel" in str(error):            # one small image; train.py says so in words
            return []
        unequal = [line for line in hook_points(distiller, seen) if line.good is False]
        if not unequal:
            raise
        return unequal
    finally:
        if handle is not None:
            handle.remove()
    return [*hook_points(distiller, seen), finite(terms), *(shares(terms) if distiller.loss is not None else [])]


def hook_points(distiller: Distiller, seen: dict) -> list[CheckResult]:
    """A line a level: what the student's and the teacher's pyramid give there."""
    if not seen:
        return []
    lines = []
    for level in getattr(distiller.loss, "levels", tuple(seen["scene"].features)):
        pyramids = {"student": seen["scene"].features, "teacher": seen["maps"]}
        shapes = {who: tuple(maps[level].shape) if level in maps else None for who, maps in pyramids.items()}
        there = all(shapes.values())
        same = there and (shapes["student"][0], *shapes["student"][2:]) == (shapes["teacher"][0], *shapes["teacher"][2:])
        found = ", ".join(f"{who} {shape or 'has none'}" for who, shape in shapes.items())
        if same:
            lines.append(CheckResult(level, True, found))
        else:
            lines.append(CheckResult(f"{level} must have one size in both", False, found, "name the levels they share, or choose detectors of one family"))
    return lines


def finite(terms: list[Term]) -> CheckResult:
    bad = [row for row in rows(0, terms) if not abs(row["raw"]) < float("inf")]
    if bad:
        first = bad[0]
        return CheckResult(
            "every loss term must be finite", False, f"{first['name']!r} on {first['level']} is {first['raw']}",
            "lower its weight, or check the teacher's weights",
        )
    return CheckResult("loss terms", True, f"{len(terms)}, all finite")


def shares(terms: list[Term]) -> list[CheckResult]:
    """How loud each term is beside the detector's own loss, level by level."""
    logged = rows(0, terms)
    own = sum(row["weighted"] for row in logged if row["level"] == "all")
    by_name: dict[str, dict[str, float]] = {}
    for row in logged:
        if row["level"] != "all":
            by_name.setdefault(row["name"], {})[row["level"]] = row["weighted"] / own if own else float("inf")
    lines = [CheckResult(f"share of {name!r}", True, ", ".join(f"{level} {share:.3g}" for level, share in each.items())) for name, each in by_name.items()]
    total = sum(sum(each.values()) for each in by_name.values())
    if not by_name:
        return lines
    usual = QUIET <= total <= LOUD
    do = "" if usual else "strength or share bring it to another"
    return [*lines, CheckResult("share of the distillation", True if usual else None, f"{total:.3g} of the detector's own loss", do)]


@contextmanager
def untouched(distiller: nn.Module) -> Iterator[None]:
    """Running statistics, the balance's measurements, random numbers and the mode are afterwards what they were."""
    buffers = {name: each.clone() for name, each in distiller.named_buffers()}
    extra = {module: module.get_extra_state() for module in distiller.modules() if type(module).get_extra_state is not nn.Module.get_extra_state}
    modes = {module: module.training for module in distiller.modules()}
    cards = [torch.cuda.current_device()] if any(each.is_cuda for each in distiller.parameters()) else []
    try:
        with torch.random.fork_rng(devices=cards):
            yield
    finally:
        with torch.no_grad():
            for name, each in distiller.named_buffers():
                each.copy_(buffers[name])
        for module, state in extra.items():
            module.set_extra_state(state)
        for module, mode in modes.items():
            module.training = mode
