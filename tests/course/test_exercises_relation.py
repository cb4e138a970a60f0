"""Checkers of notebook 05: the solution is right, near misses are not."""
import pytest
import torch

from fgdlab.lab.course.exercises import relation as check
from fgdlab.relation import GcBlock, RelationTerm


def context(features, key, axis=1):
    pixels = features.flatten(2)                                       # (N, C, HW)
    weights = torch.softmax((key[:, None] * pixels).sum(dim=1), dim=axis)
    return (pixels * weights[:, None]).sum(dim=2)


def unweighted(features, key):
    return features.mean(dim=(2, 3))


def whole_batch(features, key):
    """One softmax over the pixels of all images together."""
    pixels = features.flatten(2)
    scores = (key[:, None] * pixels).sum(dim=1)
    return (pixels * torch.softmax(scores.flatten(), dim=0).view_as(scores)[:, None]).sum(dim=2)


def floor(student, teacher, over=(2, 3)):
    difference = student - teacher
    return (difference - difference.mean(dim=over, keepdim=True)).square().sum() / len(student)


def plain(student, teacher):
    return RelationTerm(student.shape[1], "mse")(student, teacher)


def mirrored(student, teacher):
    return 2 * teacher - student


def sorted_errors(student, teacher):
    """Errors in another order of pixels."""
    return teacher + (student - teacher).flip(-1)


RIGHT = {"context": context, "floor": floor, "disguise": mirrored}
WRONG = {
    "mean in place of weights": ("context", unweighted),
    "softmax over the images": ("context", lambda f, k: context(f, k, axis=0)),
    "one softmax for the batch": ("context", whole_batch),
    "sum of exponentials left out": ("context", lambda f, k: torch.einsum("nchw,nhw->nc", f, torch.einsum("nchw,c->nhw", f, k).exp())),
    "weights without exponential": ("context", lambda f, k: torch.einsum("nchw,nhw->nc", f, torch.einsum("nchw,c->nhw", f, k))),
    "only the loudest pixel": ("context", lambda f, k: f.flatten(2)[torch.arange(len(f)), :, torch.einsum("nchw,c->nhw", f, k).flatten(1).argmax(1)]),
    "divided by the pixels": ("context", lambda f, k: context(f, k) / f[0, 0].numel()),
    "shape of the block's context": ("context", lambda f, k: context(f, k)[..., None]),
    "plain squared distance": ("floor", plain),
    "mean over the batch too": ("floor", lambda s, t: floor(s, t, over=(0, 2, 3))),
    "mean over the channels": ("floor", lambda s, t: floor(s, t, over=(1,))),
    "mean over all": ("floor", lambda s, t: floor(s, t, over=(1, 2, 3))),
    "mean over rows only": ("floor", lambda s, t: floor(s, t, over=(2,))),
    "not averaged over the batch": ("floor", lambda s, t: floor(s, t) * len(s)),
    "mean in place of sum": ("floor", lambda s, t: floor(s, t) / s[0].numel()),
    "only the part that blocks can take away": ("floor", lambda s, t: plain(s, t) - floor(s, t)),
    "the student itself": ("disguise", lambda s, t: s),
    "the teacher": ("disguise", lambda s, t: t),
    "a constant added": ("disguise", lambda s, t: s + 0.5),
    "pixels of the student shuffled": ("disguise", lambda s, t: s.flip(-1)),
    "student and teacher mirrored at 0": ("disguise", lambda s, t: -s),
    "mirrored at the student": ("disguise", lambda s, t: 2 * s - t + 0.1),
    "a vector too little": ("disguise", lambda s, t: mirrored(s, t)[:1, :, :1]),
}


@pytest.mark.parametrize("name", RIGHT)
def test_solution_is_right(name):
    assert getattr(check, name)(RIGHT[name]).right


def test_a_disguise_by_moved_errors_is_right_too():
    assert check.disguise(sorted_errors).right


@pytest.mark.parametrize("mistake", WRONG)
def test_near_miss_is_not_right(mistake):
    name, answer = WRONG[mistake]
    verdict = getattr(check, name)(answer)
    assert not verdict.right and verdict.written and "Error" not in verdict.message


@pytest.mark.parametrize("name", RIGHT)
def test_an_answer_without_return_is_told_so(name):
    assert "None" in getattr(check, name)(lambda *args: None).message


def test_a_disguise_may_not_change_what_it_is_compared_with():
    """The answer gets copies: a student that it writes into is no reason to call the old one another map."""
    def overwrite(student, teacher):
        before = student.clone()
        student.add_(1)
        return before

    assert not check.disguise(overwrite).right


def test_a_disguise_of_another_shape_is_told_its_shape():
    assert "(24,)" in check.disguise(lambda student, teacher: student.flatten()).message


def test_the_expected_context_is_that_of_a_gcblock():
    features, key = torch.randn(2, 4, 3, 5), torch.randn(4)
    block = GcBlock(4)
    with torch.no_grad():
        block.key.weight.copy_(key.view(1, 4, 1, 1))
    expected = features.flatten(2) @ block.context_weights(features).transpose(1, 2)
    assert torch.allclose(check.expected_context(features, key), expected[..., 0], atol=1e-5)
