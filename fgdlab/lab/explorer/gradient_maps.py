"""Where each method looks: how hard its loss pulls at every cell of the student's maps, on one image.

    student, teacher, one image --look_at--> {method: Glance}: gradient and pull of every cell, level by level
                                                 --glances_figure--> both, method beside method, with boxes
"""
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

import torch
from matplotlib.colors import LogNorm
from torch import Tensor, nn

from fgdlab.scene import Scene
from fgdlab.terms import rows, total

from ..config import RunConfig
from ..errors import UserError
from ..plots import BOTTOM_MARGIN, DPI, NotebookFigure, colour_bar, draw_image, draw_map, padded_image, panel_grid, scene_and_teacher_maps
from ..training import make_loss

DARKEST, BRIGHTEST = 0.1, 10.0                                       # where colours end, in average cells
COLUMNS = 6                                                          # methods in a row of the figure


@dataclass(frozen=True)
class GradientMaps:
    """What one method does to the student's maps of one image. Both are {level: (H, W)}, never negative.

    gradient: |dL/dF^S| of a cell, the L2 norm over channels; L is the weighted sum of the method's terms on all levels. A step of gradient
        descent moves a cell's features by so much.
    pull: gradient / (2 |F^T - F^S|), the gradient for each unit of distance that is left; 0 where no distance is left.
    terms: rows(0, ...) of the loss: name, level, raw, weighted.

    What the pull means depends on the loss:
        a weighted squared error sum w |F^T - F^S|^2 (hint, FGFI, TADF, DeFeat, FGD's feature terms): w, the weight map itself. Where
            channels have weights too (A^C), w times their root mean square, which changes from cell to cell with the distances.
        a norm, the root of such a sum (FBKD's feature term): w up to one factor for the whole level.
        normalised maps (CWD, PKD, attention transfer): no weight, for the error is not F^T - F^S. It says where the method pulls harder, or
            less hard, than a plain squared error would.
        heads and proposals (Chen's class and box, GID, CrossKD), layers of the method's own (MGD, FBKD's other terms): the same reading. Such a
            loss can pull where F^S equals F^T, which no pull shows, but the gradient does.
    """

    gradient: dict[str, Tensor]
    effective_weight: dict[str, Tensor]
    terms: list[dict]

    def fraction_inside(self, masks: dict[str, Tensor]) -> float:
        """Share of the gradient, summed over the cells of all levels, that lies where ``masks`` {level: (H, W)} are above 0; in 0..1."""
        whole = sum(each.sum() for each in self.gradient.values())
        return float(sum(each[masks[level] > 0].sum() for level, each in self.gradient.items()) / whole) if whole else 0.0

    def fraction_by_level(self) -> dict[str, float]:
        """{level: its share of the gradient}, summed over cells; all 0 where there is none."""
        sums = {level: float(each.sum()) for level, each in self.gradient.items()}
        return {level: each / (sum(sums.values()) or 1.0) for level, each in sums.items()}


def gradient_maps(
    student: nn.Module, teacher: nn.Module, scenes, index: int, methods: Iterable[str] | dict[str, RunConfig], *, seed: int = 0,
) -> dict[str, GradientMaps]:
    """Gradient and pull of each method at every cell, on the levels that both detectors have.

    Networks are in eval mode meanwhile, and nothing in them is changed. A method's layers are as they start under ``seed``, but f, which
    brings the student's map to the teacher's channels, lets the map through where the channels agree: otherwise its random start would be all
    that is seen. Where they differ the gradient passes the random f; the pull is then taken at f(F^S), of what reaches the loss through f.

    Args:
        student, teacher: detectors (see fgdlab/scene.py) on one device.
        scenes: a data set of data.py.
        index: which of its images.
        methods: words for ``method``, FILE.py:CLASS too, each with the settings of RunConfig's defaults; or {name: settings}.
        seed: of layers that start at random, and of what a loss draws (MGD).
    Raises:
        UserError: a method that is not there, is "none", or cannot work on these detectors.
    """
    chosen = methods if isinstance(methods, dict) else {name: RunConfig(method=name) for name in methods}
    scene, maps = scene_and_teacher_maps(student, teacher, *scenes[index])
    levels = tuple(level for level in scene.features if level in maps)
    modes = [(each, each.training) for detector in (student, teacher) for each in detector.modules()]
    try:
        student.eval(), teacher.eval()
        with torch.random.fork_rng(devices=[scene.pixels.device] if scene.pixels.is_cuda else []):
            return {name: glance(config, levels, student, teacher, scene, maps, seed) for name, config in chosen.items()}
    finally:
        for module, training in modes:
            module.training = training


def glance(
    config: RunConfig, levels: tuple[str, ...], student: nn.Module, teacher: nn.Module, scene: Scene, maps: dict[str, Tensor], seed: int,
) -> GradientMaps:
    """One method on a scene of one image; ``maps`` are the teacher's."""
    if config.method == "none":
        raise UserError("methods must name losses, got 'none', which has none; leave it out")
    torch.manual_seed(seed)
    loss = make_loss(config, levels, student, teacher).to(scene.pixels.device).eval()
    let_through(loss)
    features = {level: each.detach().clone().requires_grad_() for level, each in scene.features.items()}
    compared = dict(features)                                        # {level: f(F^S)}
    with torch.enable_grad(), watched(loss, compared):
        terms = loss(replace(scene, features=features), maps)
    gradient = lengths_of_gradient(total(terms), {level: features[level] for level in levels})
    at_f = lengths_of_gradient(total(terms), {level: compared[level] for level in levels})
    return GradientMaps(gradient, {level: ratio(at_f[level], 2 * length(maps[level] - compared[level])) for level in levels}, rows(0, terms))


@contextmanager
def watched(loss: nn.Module, compared: dict[str, Tensor]) -> Iterator[None]:
    """While it lasts, what every f gives that changes the number of channels is put into ``compared``."""
    def keep(level: str):
        def hook(layer, args, output):
            compared[level] = output
        return hook

    changing = [(level, layer) for level, layer in layers_f(loss) if layer.in_channels != layer.out_channels]
    handles = [layer.register_forward_hook(keep(level)) for level, layer in changing]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def layers_f(loss: nn.Module) -> list[tuple[str, nn.Module]]:
    """(level, f) of every level that has one."""
    return list(getattr(loss, "align", {}).items())


def lengths_of_gradient(objective: Tensor, maps: dict[str, Tensor]) -> dict[str, Tensor]:
    """|dL/dF| of every map: {level: (H, W)}; 0 where a map does not matter, as for a loss without terms."""
    if not objective.requires_grad:
        return {level: length(torch.zeros_like(each)) for level, each in maps.items()}
    found = torch.autograd.grad(objective, list(maps.values()), retain_graph=True, allow_unused=True)
    return {level: length(torch.zeros_like(each) if grad is None else grad) for (level, each), grad in zip(maps.items(), found, strict=True)}


@torch.no_grad()
def let_through(loss: nn.Module) -> None:
    """Make every f that keeps the number of channels the identity."""
    for _, layer in layers_f(loss):
        if layer.in_channels == layer.out_channels:
            nn.init.dirac_(layer.weight)
            nn.init.zeros_(layer.bias)


def length(each: Tensor) -> Tensor:
    """L2 norm over channels of the only image. (1, C, H, W) -> (H, W)."""
    return each.detach()[0].norm(dim=0)


def ratio(above: Tensor, below: Tensor) -> Tensor:
    """above / below, 0 where below is 0."""
    return torch.where(below > 0, above / below.clamp(min=torch.finfo(below.dtype).tiny), 0.0)


def relative(each: Tensor) -> Tensor:
    """A map over its mean, so that 1 is the average cell, whatever the method's coefficients; zeros stay zeros. (H, W) -> (H, W)."""
    return ratio(each, each.mean().expand_as(each))


# --- the figure ---------------------------------------------------------------------------------------------------------------------

def gradient_maps_figure(glances: dict[str, GradientMaps], student: nn.Module, scenes, index: int, level: str, *, columns: int = COLUMNS) -> NotebookFigure:
    """Pull and gradient of every method on one level, one above the other, on one colour scale for all panels.

    Each map is over its own mean, so that methods of any coefficient can be compared: 1 is the average cell of its map. Colours are logarithmic
    and end at a tenth and at ten times the average cell; grey is 0, no pull at all. A panel's title has its least and largest value.

    Args:
        glances: of :func:`look_at`, with the same student, scenes and index.
        level: e.g. "P3".
        columns: methods side by side.
    Raises:
        ValueError: a level that the glances do not have.
    """
    levels = next(iter(glances.values())).gradient
    if level not in levels:
        raise ValueError(f"level must be one of {', '.join(levels)}, got {level!r}")
    scene, _ = scene_and_teacher_maps(student, None, *scenes[index])
    image, boxes, frame = padded_image(student, scene), scene.boxes[0], scene.padded_size
    columns, names = min(columns, len(glances)), list(glances)
    norm = LogNorm(DARKEST, BRIGHTEST)
    blocks = [names[start:start + columns] for start in range(0, len(names), columns)]
    figure, axes = panel_grid(2 * len(blocks), 1 + columns, frame[0] / frame[1], [columns], left=BOTTOM_MARGIN)
    for block, lines in zip(blocks, axes.reshape(len(blocks), 2, -1), strict=True):
        draw_image(lines[0, 0], image, boxes, f"image {scenes.image_ids[index]}\n{frame[0]} x {frame[1]} pixels")
        lines[1, 0].set_axis_off()
        for word, line in zip(("effective_weight", "gradient"), lines, strict=True):
            for ax, name in zip(line[1:], block, strict=False):
                drawn = draw_map(ax, relative(getattr(glances[name], word)[level]), frame, boxes, norm, "cividis", f"{name}: {word.replace('_', ' ')} {level}")
            for ax in line[1 + len(block):]:
                ax.set_axis_off()
            colour_bar(line[len(block)], drawn, "1 = average cell (log)")
    figure.set_dpi(DPI)
    return figure
