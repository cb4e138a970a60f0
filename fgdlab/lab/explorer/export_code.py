"""The code that reproduces a view without widgets.

    State, how the explorer was opened --recipe--> Python that draws the same figure, and the same arrays by the method itself
"""
from dataclasses import fields
from pathlib import Path

from fgdlab.config import FGDConfig

from .state import State


class PlainText(str):
    """Code that stands for itself."""

    def __repr__(self) -> str:
        return str(self)


def literal(value) -> str:
    return repr(str(value)) if isinstance(value, Path) else repr(value)


def changed(given, default) -> dict:
    """Fields of a dataclass that differ from their defaults."""
    return {each.name: getattr(given, each.name) for each in fields(default) if getattr(given, each.name) != getattr(default, each.name)}


def call(name: str, arguments: dict) -> str:
    return f"{name}({', '.join(f'{key}={literal(value)}' for key, value in arguments.items())})"


def recipe(state: State, config: FGDConfig, *, given: dict, options: dict, levels: tuple[str, ...], named: bool, stages: int) -> str:
    """Args:
        given: {"student": ..., "teacher": ..., "data": ...} as explore() got them; paths become literals, anything else stays a name that must exist.
        options: further arguments of explore() that were not left at their defaults; the same rule.
        named: student is a dict. stages: how many checkpoints the chosen student has.
    """
    plain = (str, Path, int, float, bool, tuple)
    options = {name: PlainText(literal(dict(value))) if name in ("ap", "boxes") else value for name, value in options.items()}
    paths = {name: value for name, value in given.items() if isinstance(value, (str, Path))}
    objects = [name for name in given if name not in paths] + [name for name, value in options.items() if not isinstance(value, plain)]
    passed = "".join(f"{name}={literal(value) if isinstance(value, plain) else name}, " for name, value in options.items())
    loss_config = FGDConfig(**{each.name: getattr(state, each.name) if hasattr(state, each.name) else getattr(config, each.name) for each in fields(FGDConfig)})
    scenes = "data" if "data" not in paths else "open_dataset(data" + "".join(
        f", {name}={literal(options[name]) if isinstance(options[name], plain) else name}" for name in ("split", "long_side", "boxes") if name in options) + ")"
    chosen = f"student[{state.who!r}]" if named else "student"
    teacher = "getattr(teacher, 'detector', teacher)"
    lines = [
        "import torch",
        "",
        "from fgdlab import FGDConfig, FGDLoss, attention, masks_of",
        "from fgdlab.lab.explorer import named_detectors, open_dataset, static_figure",
        "from fgdlab.lab.plots import scene_and_teacher_maps",
        "",
        f"# As they were given to explore(): {', '.join(objects)}." if objects else "",
        *(f"{name} = {literal(value)}" for name, value in paths.items()),
        f"config = {call('FGDConfig', changed(loss_config, FGDConfig()))}",
        "",
        "# The figure.",
        f"figure = static_figure(student, teacher, data, config, {passed}{', '.join(f'{key}={literal(value)}' for key, value in shown(state).items())})",
        "",
        f"# The same arrays by the method itself: {state.who} on {state.level}.",
        f"scenes = {scenes}",
        f"detector = named_detectors({chosen}, len(scenes.classes){', like=like' if 'like' in options else ''})['student'].detector({state.stage})" if stages > 1 else
        f"detector = named_detectors({chosen}, len(scenes.classes){', like=like' if 'like' in options else ''})['student'].detector()",
        f"scene, teacher_maps = scene_and_teacher_maps(detector, {teacher}, *scenes[{state.image}])",
        f"levels = {levels!r}",
        "torch.manual_seed(0)                         # where f or R were not given they are fresh layers of this seed",
        "fgd = FGDLoss(levels, scene.features[levels[0]].shape[1], teacher_maps[levels[0]].shape[1], config).to(scene.pixels.device)",
    ]
    if "loss" in options:
        trained = f"loss[{state.who!r}]" if isinstance(options["loss"], dict) else "loss"
        lines += ["for part in ('align', 'relation'):", f"    if getattr({trained}, part) and getattr(fgd, part):", f"        setattr(fgd, part, getattr({trained}, part))"]
    lines += [
        "with torch.no_grad():",
        f"    student_map, teacher_map = fgd.aligned(scene, {state.level!r}), teacher_maps[{state.level!r}]",
        "    a_student, a_teacher = (attention(each, config.temperature) for each in (student_map, teacher_map))",
        "    difference = a_teacher.spatial[0] - a_student.spatial[0]",
        f"    masks = masks_of(config, scene, teacher_maps[{state.level!r}])",
        "    terms = fgd(scene, teacher_maps)",
    ]
    return "\n".join(line for i, line in enumerate(lines) if line or (i and lines[i - 1])) + "\n"


def shown(state: State) -> dict:
    """What static_figure() must be told beside the configuration: the fields of a State that are no part of FGDConfig."""
    loss = {each.name for each in fields(FGDConfig)}
    values = {name: value for name, value in ((each.name, getattr(state, each.name)) for each in fields(State)) if name not in loss}
    return {name: value for name, value in values.items() if name in ("image", "level", "who") or value != getattr(State(), name)}
