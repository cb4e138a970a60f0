"""The gradient of each method's loss at every cell of the student's maps, on one image."""
from collections.abc import Iterable
from dataclasses import dataclass, replace

import torch
from matplotlib.colors import LogNorm
from torch import Tensor, nn

from fgdlab.scene import Scene
from fgdlab.terms import rows, total

from .. import plots
from ..config import RunConfig
from ..errors import UserError
from ..training import make_loss

MIN_SHOWN, MAX_SHOWN = 0.1, 10.0  # ends of the colour scale, in average cells


@dataclass(frozen=True)
class GradientMaps:
    """One method's gradient maps on one image, both {level: (H, W)} and never negative.

    gradient: |dL/dF^S|, the L2 norm over channels; L is the weighted sum of the method's terms on all levels.
    effective_weight: gradient / (2 |F^T - F^S|); 0 where F^T equals F^S. Of a weighted squared error (hint, FGFI, TADF,
        DeFeat, FGD's feature terms) it is the weight w; with weights of channels (A^C), w times their root mean square;
        of FBKD's norm, w up to a factor per level. Of other losses it is no weight.
    terms: rows(0, ...) of the loss: name, level, raw, weighted.
    """

    gradient: dict[str, Tensor]
    effective_weight: dict[str, Tensor]
    terms: list[dict]

    def fraction_inside(self, masks: dict[str, Tensor]) -> float:
        """Fraction (0..1) of the summed gradient where ``masks`` {level: (H, W)} are above 0."""
        whole = sum(each.sum() for each in self.gradient.values())
        inside = sum(each[masks[level] > 0].sum() for level, each in self.gradient.items())
        return float(inside / whole) if whole else 0.0

    def fraction_by_level(self) -> dict[str, float]:
        """{level: its fraction of the summed gradient}; 0 without any gradient."""
        sums = {level: float(each.sum()) for level, each in self.gradient.items()}
        return {level: each / (sum(sums.values()) or 1.0) for level, each in sums.items()}


def gradient_maps(
    student: nn.Module, teacher: nn.Module, dataset, index: int, methods: Iterable[str] | dict[str, RunConfig], *,
    seed: int = 0,
) -> dict[str, GradientMaps]:
    """Gradient and effective weight of each method at every cell, on the levels that both detectors have.

    Detectors stay unchanged. A method's layers are fresh under ``seed``, but f is the identity where channels agree, so
    that maps show the method and not random weights. Elsewhere effective weights are taken at f(F^S).

    Args:
        methods: values of ``method``, also FILE.py:CLASS; or {name: RunConfig}. seed: also of a loss's random numbers.
    Raises:
        UserError: an unknown method, "none", or a method that cannot work on these detectors.
    """
    configs = methods if isinstance(methods, dict) else {name: RunConfig(method=name) for name in methods}
    inputs = student, teacher, *plots.scene_and_teacher_maps(student, teacher, *dataset[index]), seed
    devices = [inputs[2].pixels.device] if inputs[2].pixels.is_cuda else []
    with plots.eval_mode(student, teacher), torch.random.fork_rng(devices=devices):
        return {name: method_gradients(config, *inputs) for name, config in configs.items()}


def method_gradients(
    config: RunConfig, student: nn.Module, teacher: nn.Module, scene: Scene, teacher_maps: dict[str, Tensor], seed: int,
) -> GradientMaps:
    if config.method == "none":
        raise UserError("methods must name losses, got 'none', which has none; leave it out")
    levels = tuple(level for level in scene.features if level in teacher_maps)
    torch.manual_seed(seed)
    loss = make_loss(config, levels, student, teacher).to(scene.pixels.device).eval()
    features = {level: each.detach().clone().requires_grad_() for level, each in scene.features.items()}
    aligned = dict(features)  # {level: f(F^S)}
    for level, layer in getattr(loss, "align", {}).items():
        if layer.in_channels == layer.out_channels:  # f is the identity
            nn.init.dirac_(layer.weight)
            nn.init.zeros_(layer.bias)
        else:
            layer.register_forward_hook(lambda layer, args, output, level=level: aligned.update({level: output}))
    with torch.enable_grad():
        terms = loss(replace(scene, features=features), teacher_maps)
    gradient, at_f = ({at: gradient_norm(total(terms), maps[at]) for at in levels} for maps in (features, aligned))
    gaps = {level: channel_norm(teacher_maps[level] - aligned[level]) for level in levels}
    return GradientMaps(gradient, {at: safe_ratio(at_f[at], 2 * gaps[at]) for at in levels}, rows(0, terms))


def gradient_norm(objective: Tensor, features: Tensor) -> Tensor:
    """(H, W); 0 where L does not depend on the map."""
    gradient = torch.zeros_like(features)
    if objective.requires_grad:
        gradient, = torch.autograd.grad(objective, features, retain_graph=True, materialize_grads=True)
    return channel_norm(gradient)


def channel_norm(features: Tensor) -> Tensor:
    """(1, C, H, W) -> (H, W)."""
    return features.detach()[0].norm(dim=0)


def safe_ratio(above: Tensor, below: Tensor) -> Tensor:
    return torch.where(below > 0, above / below.clamp(min=torch.finfo(below.dtype).tiny), 0.0)


def relative_to_mean(values: Tensor) -> Tensor:
    return safe_ratio(values, values.mean())


def gradient_maps_figure(
    maps: dict[str, GradientMaps], student: nn.Module, dataset, index: int, level: str, *, columns: int = 6,
) -> plots.NotebookFigure:
    """Effective weight and, below it, gradient of every method on one level, on one logarithmic colour scale.

    Each map is divided by its mean, so that loss weights do not matter: 1 is the average cell; 0 is grey.

    Args:
        maps: from :func:`gradient_maps` with the same inputs. columns: methods side by side.
    """
    levels = next(iter(maps.values())).gradient
    if level not in levels:
        raise ValueError(f"level must be one of {', '.join(levels)}, got {level!r}")
    scene, _ = plots.scene_and_teacher_maps(student, None, *dataset[index])
    image, boxes, frame = plots.padded_image(student, scene), scene.boxes[0], scene.padded_size
    columns, names = min(columns, len(maps)), list(maps)
    norm = LogNorm(MIN_SHOWN, MAX_SHOWN)
    blocks = [names[start:start + columns] for start in range(0, len(names), columns)]
    ratio, title = frame[0] / frame[1], f"image {dataset.image_ids[index]}\n{frame[0]} x {frame[1]} pixels"
    figure, axes = plots.panel_grid(2 * len(blocks), 1 + columns, ratio, [columns], left=plots.BOTTOM_MARGIN)
    for block, block_axes in zip(blocks, axes.reshape(len(blocks), 2, -1), strict=True):
        plots.draw_image(block_axes[0, 0], image, boxes, title)
        block_axes[1, 0].set_axis_off()
        for kind, row in zip(("effective weight", "gradient"), block_axes, strict=True):
            for ax, name in zip(row[1:], block, strict=False):
                values = relative_to_mean(getattr(maps[name], kind.replace(" ", "_"))[level])
                drawn = plots.draw_map(ax, values, frame, boxes, norm, "cividis", f"{name}: {kind} {level}")
            for ax in row[1 + len(block):]:
                ax.set_axis_off()
            plots.colour_bar(row[len(block)], drawn, "1 = average cell (log)")
    return figure
