"""Python code that draws a view without widgets, and computes the same arrays with the method itself."""
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path

from fgdlab.config import FGDConfig

from .state import LOSS_SETTINGS, State

OBJECTS = ("loss", "like")  # options that are no literals


def arguments(values: dict) -> str:
    """``name=value, ...`` as Python code. Objects stay names: ``loss=loss``."""
    return ", ".join(f"{name}={name if name in OBJECTS else repr(value)}" for name, value in values.items())


def export_code(
    state: State, config: FGDConfig, inputs: dict, options: dict, levels: tuple[str, ...], checkpoints: int,
    run: str = "",
) -> str:
    """Python code for one view.

    Args:
        inputs: {"student": ..., "teacher": ..., "data": ...} of explore(). Paths become literals; objects stay names.
        options: arguments of explore(), None where it has none.
        checkpoints: number of checkpoints of the chosen student.
        run: folder of the run that all arguments come from.
    """
    options = {name: value for name, value in options.items() if value is not None}
    paths = {} if run else {name: str(value) for name, value in inputs.items() if isinstance(value, (str, Path))}
    objects = [name for name in (*inputs, *options) if name in OBJECTS or name in inputs and name not in paths]
    config = {each.name: getattr(state if each.name in LOSS_SETTINGS else config, each.name) for each in fields(config)}
    config = {name: value for name, value in config.items() if value != getattr(FGDConfig(), name)}
    view = {each.name: getattr(state, each.name) for each in fields(state) if each.name not in LOSS_SETTINGS}
    view = {
        name: value for name, value in view.items()
        if name in ("image", "level", "student_name") or value != getattr(State(), name)
    }
    dataset = "data"
    if "data" in paths:
        folder_options = {name: options[name] for name in ("split", "long_side", "boxes") if name in options}
        dataset = f"open_dataset(data, {arguments(folder_options)})"
    name, level = state.student_name, state.level
    student = f"student[{name!r}]" if isinstance(inputs["student"], Mapping) else "student"
    like = ", like=like" if "like" in options else ""
    checkpoint = state.checkpoint if checkpoints > 1 else ""
    if run:
        given = f"given = of_run({run!r})\n{', '.join(objects)} = (given[name] for name in {objects!r})\n"
    else:
        given = f"# As given to explore(): {', '.join(objects)}.\n" if objects else ""
        given += "".join(f"{key} = {value!r}\n" for key, value in paths.items())
    trained = ""
    if "loss" in options:
        loss = f"loss[{name!r}]" if isinstance(options["loss"], Mapping) else "loss"
        trained = f"""for part in ('align', 'relation'):
    if getattr({loss}, part) and getattr(fgd, part):
        setattr(fgd, part, getattr({loss}, part))
"""
    return f"""import torch

from fgdlab import FGDConfig, FGDLoss, attention, masks_of
from fgdlab.lab.explorer import named_detectors, {'of_run, ' if run else ''}open_dataset, static_figure
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
