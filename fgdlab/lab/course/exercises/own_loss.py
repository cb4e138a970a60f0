"""Checkers of notebook 09: a slope by central differences, a loss on lengths, and a row of a sweep's YAML."""
import torch
import yaml

from ...errors import UserError
from ...sweeps import parse_sweep
from .judge import Case, Verdict, judge


def slope(answer) -> Verdict:
    """answer(function, values, index, step): (f(x + step e_i) - f(x - step e_i)) / (2 step).

    values is a tensor (n,), which must be left as it was; function takes one like it and gives a scalar.
    """
    values = torch.tensor([0.5, -1.0, 2.0], dtype=torch.float64)

    def cube(x):
        return (x ** 3).sum() + x[0] * x[2]

    def of(index: int, step: float) -> float:
        unit = torch.zeros(3, dtype=torch.float64)
        unit[index] = step
        return float((cube(values + unit) - cube(values - unit)) / (2 * step))

    def kept(index: int, step: float):
        mine = values.clone()
        found = answer(cube, mine, index, step)
        return found if torch.equal(mine, values) else {"values were changed": found}

    return judge(kept, [
        Case(f"x^3 and a product, entry {index}, step {step}", (index, step), of(index, step), rtol=1e-6,
             hint="move one entry up, then the same entry down, by step each; divide by 2 step; work on a clone.")
        for index, step in ((0, 0.1), (2, 0.1), (1, 0.25))
    ])


def maps(*shape: int, seed: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)) + 0.3


def length_loss(answer) -> Verdict:
    """answer(student, teacher): mean over images of sum_ij w_ij |log(|F^S_ij| / |F^T_ij|)|, w_ij = |F^T_ij| / sum_ij |F^T_ij|.

    Both are (N, C, H, W), the answer is a scalar.
    """
    def of(student, teacher):
        s, t = student.norm(dim=1), teacher.norm(dim=1)
        return ((t * (s / t).log().abs()).sum(dim=(1, 2)) / t.sum(dim=(1, 2))).mean()

    one = (maps(1, 3, 2, 4, seed=1), maps(1, 3, 2, 4, seed=2))
    two = (maps(2, 4, 3, 3, seed=3), maps(2, 4, 3, 3, seed=4) * torch.tensor([1.0, 5.0])[:, None, None, None])
    turned = maps(1, 2, 3, 4, seed=5)
    return judge(answer, [
        Case("one image", one, of(*one), rtol=1e-4, hint="|F_ij| is the L2 norm over the channels of cell ij; the weight is the teacher's."),
        Case("two images, one five times as loud", two, of(*two), rtol=1e-4, hint="the weights of each image sum to 1; then the mean over images."),
        Case("every vector turned, none made longer", (turned.flip(1), turned), torch.tensor(0.0), atol=1e-5, hint="only lengths count."),
    ])


def yaml_row(answer) -> Verdict:
    """answer(name, file, cls, loss_ratio): one row as it stands under ``rows:``, for class ``cls`` of ``file`` at ``loss_ratio`` of the detector's own loss."""
    def settings(name: str, file: str, cls: str, loss_ratio: float):
        text = answer(name, file, cls, loss_ratio)
        if not isinstance(text, str):
            return None if text is None else {"a text": type(text).__name__}
        content = yaml.safe_load(text)
        if not isinstance(content, dict):
            raise UserError(f"the text must be a mapping 'name: {{label: ..., set: {{...}}}}', got {content!r}")
        rows = {"none": {"set": {"method": "none"}}, **content}
        sweep = parse_sweep("exercise", {"title": "t", "question": "q", "baseline": "none", "seeds": [0], "rows": rows})
        mine = next((row for row in sweep.rows if row != "none"), "none")
        config = sweep.settings(mine, 0)
        return {"rows": len(content), "row": mine, "method": config.method, "loss_ratio": config.loss_ratio}

    cases = [("mine", "direction.py", "Direction", 2.0), ("length", "losses/length.py", "Length", 0.5)]
    hint = "a row is name: {label: ..., set: {method: FILE.py:CLASS, loss_ratio: ...}}; settings stand under set."
    return judge(settings, [
        Case(f"{cls} of {file}", (name, file, cls, loss_ratio), {"rows": 1, "row": name, "method": f"{file}:{cls}", "loss_ratio": loss_ratio}, hint=hint)
        for name, file, cls, loss_ratio in cases
    ])
