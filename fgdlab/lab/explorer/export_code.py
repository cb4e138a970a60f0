"""Python code that draws a view without widgets, and computes the same arrays with the method itself."""
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path

from fgdlab.config import FGDConfig

from .state import State

LITERALS = (str, Path, int, float, bool, tuple)


def literal(value) -> str:
    return repr(str(value)) if isinstance(value, Path) else repr(value)


def arguments(values: dict) -> str:
    """``name=value, ...`` as Python code. Objects that are no literals stay names: ``loss=loss``."""
    return ", ".join(
        f"{name}={literal(value) if isinstance(value, LITERALS) else name}" for name, value in values.items()
    )


class Code(str):
    """A string whose repr is itself."""

    def __repr__(self) -> str:
        return str(self)


def export_code(
    state: State, config: FGDConfig, inputs: dict, options: dict, levels: tuple[str, ...], checkpoints: int,
) -> str:
    """Python code for one view.

    Args:
        inputs: {"student": ..., "teacher": ..., "data": ...} of explore(). Paths become literals; objects stay names.
        options: arguments of explore() that differ from their defaults; the same rule.
        checkpoints: number of checkpoints of the chosen student.
    """
    options = {name: Code(dict(value)) if name in ("ap", "boxes") else value for name, value in options.items()}
    paths = {name: value for name, value in inputs.items() if isinstance(value, (str, Path))}
    objects = [name for name in inputs if name not in paths]
    objects += [name for name, value in options.items() if not isinstance(value, LITERALS)]

    config_fields = [each.name for each in fields(FGDConfig)]
    config = {name: getattr(state, name, getattr(config, name)) for name in config_fields}
    config = {name: value for name, value in config.items() if value != getattr(FGDConfig(), name)}
    view = {each.name: getattr(state, each.name) for each in fields(State) if each.name not in config_fields}
    view = {
        name: value for name, value in view.items()
        if name in ("image", "level", "student_name") or value != getattr(State(), name)
    }
    dataset = "data"
    if "data" in paths:
        folder_options = {name: options[name] for name in ("split", "long_side", "boxes") if name in options}
        dataset = f"open_dataset({', '.join(filter(None, ('data', arguments(folder_options))))})"
    name, level, many = state.student_name, state.level, isinstance(inputs["student"], Mapping)
    student = f"student[{name!r}]" if many else "student"
    like = ", like=like" if "like" in options else ""
    checkpoint = state.checkpoint if checkpoints > 1 else ""
    given = f"# As given to explore(): {', '.join(objects)}.\n" if objects else ""
    given += "".join(f"{key} = {literal(value)}\n" for key, value in paths.items())
    trained = ""
    if "loss" in options:
        loss = f"loss[{name!r}]" if isinstance(options["loss"], Mapping) else "loss"
        trained = f"""for part in ('align', 'relation'):
    if getattr({loss}, part) and getattr(fgd, part):
        setattr(fgd, part, getattr({loss}, part))
"""
    return f"""import torch

from fgdlab import FGDConfig, FGDLoss, attention, masks_of
from fgdlab.lab.explorer import named_detectors, open_dataset, static_figure
from fgdlab.lab.plots import scene_and_teacher_maps

{given}config = FGDConfig({arguments(config)})

# The figure.
figure = static_figure(student, teacher, data, config, {arguments({**options, **view})})

# The same arrays with the method itself: {name} on {level}.
dataset = {dataset}
students = named_detectors({student}, len(dataset.classes){like})
detector = students['student'].detector({checkpoint})
teacher = getattr(teacher, 'detector', teacher)
scene, teacher_maps = scene_and_teacher_maps(detector, teacher, *dataset[{state.image}])
levels = {levels!r}
torch.manual_seed(0)  # of f and R if no trained loss is given
channels = scene.features[levels[0]].shape[1], teacher_maps[levels[0]].shape[1]
fgd = FGDLoss(levels, *channels, config).to(scene.pixels.device)
{trained}with torch.no_grad():
    student_map, teacher_map = fgd.aligned(scene, {level!r}), teacher_maps[{level!r}]
    a_student, a_teacher = (attention(each, config.temperature) for each in (student_map, teacher_map))
    difference = a_teacher.spatial[0] - a_student.spatial[0]
    masks = masks_of(config, scene, teacher_map)
    terms = fgd(scene, teacher_maps)
"""
