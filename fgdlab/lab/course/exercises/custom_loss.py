"""Exercises of notebook 09: a slope by central differences, a loss on vector lengths, and a row of a sweep's YAML."""
import torch
import yaml

from ...errors import UserError
from ...sweeps import parse_sweep
from .answers import Case, Verdict, check_answer, random_maps


def slope(answer) -> Verdict:
    """answer(function, values, index, step): (f(x + step e_i) - f(x - step e_i)) / (2 step).

    values: (n,), must be left unchanged. function: maps such a tensor to a scalar.
    """
    values = torch.tensor([0.5, -1.0, 2.0], dtype=torch.float64)

    def cube(x):
        return (x ** 3).sum() + x[0] * x[2]

    def expected(index: int, step: float) -> float:
        unit = torch.zeros(3, dtype=torch.float64)
        unit[index] = step
        return float((cube(values + unit) - cube(values - unit)) / (2 * step))

    def checked(index: int, step: float):
        copy = values.clone()
        result = answer(cube, copy, index, step)
        return result if torch.equal(copy, values) else {"values were changed": result}

    return check_answer(checked, [
        Case(f"x^3 and a product, entry {index}, step {step}", (index, step), expected(index, step), rtol=1e-6,
             hint="move one entry up, then the same entry down, by step each; divide by 2 step; work on a clone.")
        for index, step in ((0, 0.1), (2, 0.1), (1, 0.25))
    ])


def length_loss(answer) -> Verdict:
    """answer(student, teacher): mean over images of sum_ij w_ij |log(|F^S_ij| / |F^T_ij|)|, w = |F^T| / sum |F^T|."""
    def expected(student, teacher):
        s, t = student.norm(dim=1), teacher.norm(dim=1)
        return ((t * (s / t).log().abs()).sum(dim=(1, 2)) / t.sum(dim=(1, 2))).mean()

    one = (random_maps(1, 1, 3, 2, 4), random_maps(2, 1, 3, 2, 4))
    scaled = random_maps(4, 2, 4, 3, 3) * torch.tensor([1.0, 5.0])[:, None, None, None]
    two = (random_maps(3, 2, 4, 3, 3), scaled)
    rotated = random_maps(5, 1, 2, 3, 4)
    return check_answer(answer, [
        Case("one image", one, expected(*one), rtol=1e-4,
             hint="|F_ij| is the L2 norm over the channels of cell ij; the weight is the teacher's."),
        Case("two images, one with features five times as large", two, expected(*two), rtol=1e-4,
             hint="the weights of each image sum to 1; then the mean over images."),
        Case("every vector turned, none made longer", (rotated.flip(1), rotated), torch.tensor(0.0), atol=1e-5,
             hint="only lengths count."),
    ])


def yaml_row(answer) -> Verdict:
    """answer(name, file, cls, loss_ratio): the text of one row under ``rows:``, for class ``cls`` of ``file``."""
    def parsed(name: str, file: str, cls: str, loss_ratio: float):
        text = answer(name, file, cls, loss_ratio)
        if not isinstance(text, str):
            return None if text is None else {"a text": type(text).__name__}
        content = yaml.safe_load(text)
        if not isinstance(content, dict):
            raise UserError(f"the text must be a mapping 'name: {{label: ..., set: {{...}}}}', got {content!r}")
        rows = {"none": {"set": {"method": "none"}}, **content}
        document = {"title": "t", "question": "q", "baseline": "none", "seeds": [0], "rows": rows}
        sweep = parse_sweep("exercise", document)
        row = next((row for row in sweep.rows if row != "none"), "none")
        config = sweep.settings(row, 0)
        return {"rows": len(content), "row": row, "method": config.method, "loss_ratio": config.loss_ratio}

    hint = "a row is name: {label: ..., set: {method: FILE.py:CLASS, loss_ratio: ...}}; settings belong under set."
    return check_answer(parsed, [
        Case(f"{cls} of {file}", (name, file, cls, loss_ratio),
             {"rows": 1, "row": name, "method": f"{file}:{cls}", "loss_ratio": loss_ratio}, hint=hint)
        for name, file, cls, loss_ratio in (
            ("mine", "direction.py", "Direction", 2.0), ("length", "losses/length.py", "Length", 0.5),
        )
    ])
