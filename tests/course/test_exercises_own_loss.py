"""The checkers of notebook 09 accept right answers and reject near misses."""
import pytest

from fgdlab.lab.course.exercises import own_loss as check


def moved(values, index, step):
    values = values.clone()
    values[index] += step
    return values


def slope_right(function, values, index, step):
    return (function(moved(values, index, step)) - function(moved(values, index, -step))) / (2 * step)


def length_right(student, teacher):
    s, t = student.square().sum(dim=1).sqrt(), teacher.square().sum(dim=1).sqrt()
    weight = t / t.sum(dim=(1, 2), keepdim=True)
    return (weight * (s.log() - t.log()).abs()).sum() / len(s)


def row_right(name, file, cls, loss_ratio):
    return f"{name}:\n  label: {cls}\n  set: {{method: '{file}:{cls}', loss_ratio: {loss_ratio}}}\n"


RIGHT = {"slope": slope_right, "length_loss": length_right, "yaml_row": row_right}


def in_place(function, values, index, step):
    values[index] += step
    up = function(values)
    values[index] -= 2 * step
    return (up - function(values)) / (2 * step)


def lengths(weigh, compare, merge):
    return lambda s, t: merge(weigh(s.norm(dim=1), t.norm(dim=1)) * compare(s.norm(dim=1), t.norm(dim=1)))


def over_sum(s, t):
    return t / t.sum(dim=(1, 2), keepdim=True)


def log_ratio(s, t):
    return (s / t).log().abs()


def mean_of_sums(each):
    return each.sum(dim=(1, 2)).mean()


NEAR_MISSES = {
    "slope": [
        lambda f, x, i, h: (f(moved(x, i, h)) - f(x)) / h,
        lambda f, x, i, h: (f(moved(x, i, h)) - f(moved(x, i, -h))) / h,
        lambda f, x, i, h: (f(moved(x, i, -h)) - f(moved(x, i, h))) / (2 * h),
        lambda f, x, i, h: (f(x + h) - f(x - h)) / (2 * h),
        lambda f, x, i, h: slope_right(f, x, 0, h),
        in_place,
    ],
    "length_loss": [
        lengths(over_sum, lambda s, t: (s / t).log(), mean_of_sums),
        lengths(over_sum, lambda s, t: (s - t).abs(), mean_of_sums),
        lengths(lambda s, t: over_sum(t, s), log_ratio, mean_of_sums),
        lengths(lambda s, t: t / t.sum(), log_ratio, mean_of_sums),
        lengths(over_sum, log_ratio, lambda each: each.mean()),
        lengths(over_sum, log_ratio, lambda each: each.sum()),
        lambda s, t: length_right(s.transpose(1, 2), t.transpose(1, 2)),
    ],
    "yaml_row": [
        lambda name, file, cls, loss_ratio: f"{name}: {{label: x, set: {{method: '{file}', loss_ratio: {loss_ratio}}}}}",
        lambda name, file, cls, loss_ratio: f"{name}: {{label: x, set: {{method: '{file}:{cls}'}}}}",
        lambda name, file, cls, loss_ratio: f"{name}: {{label: x, method: '{file}:{cls}', loss_ratio: {loss_ratio}}}",
        lambda name, file, cls, loss_ratio: f"rows: {{{name}: {{label: x, set: {{method: '{file}:{cls}', loss_ratio: {loss_ratio}}}}}}}",
        lambda name, file, cls, loss_ratio: f"{name}: {{label: x, set: {{method: '{file}:{cls}', strength: {loss_ratio}}}}}",
        lambda name, file, cls, loss_ratio: f"mine: {{label: x, set: {{method: '{file}:{cls}', loss_ratio: {loss_ratio}}}}}",
        lambda name, file, cls, loss_ratio: f"{name} {file}",
        lambda name, file, cls, loss_ratio: {name: {"set": {"method": f"{file}:{cls}", "loss_ratio": loss_ratio}}},
    ],
}


@pytest.mark.parametrize("name", RIGHT)
def test_a_right_answer_is_right(name):
    verdict = getattr(check, name)(RIGHT[name])
    assert verdict.right, verdict.message


@pytest.mark.parametrize(("name", "number"), [(name, number) for name, answers in NEAR_MISSES.items() for number in range(len(answers))])
def test_a_near_miss_is_not_right(name, number):
    verdict = getattr(check, name)(NEAR_MISSES[name][number])
    assert not verdict.right and verdict.written
    assert name == "yaml_row" or "Error" not in verdict.message


@pytest.mark.parametrize("name", RIGHT)
def test_an_answer_without_return_is_told_so(name):
    verdict = getattr(check, name)(lambda *args: None)
    assert not verdict.right and verdict.written


def test_a_wrong_key_of_a_row_is_told_by_its_name():
    assert "did you mean 'method'" in check.yaml_row(lambda name, file, cls, loss_ratio: f"{name}: {{set: {{methode: '{file}:{cls}'}}}}").message
