"""The checkers of notebook 03 accept right answers and reject near misses."""
import pytest
import torch

from fgdlab.lab.course.exercises import how_much as check

# ---- right answers, and near misses, each written its own way ------------------------------------------------------------------------


def over_image(g):
    return torch.softmax(g.flatten(1), 1).view_as(g)


def spatial(strength=lambda f: f.abs().mean(1), scaled=lambda g, t: g / t, soft=over_image, times=lambda g: g[0].numel()):
    def answer(features, temperature):
        g = strength(features)
        return times(g) * soft(scaled(g, temperature))
    return answer


def share(of=lambda a: 1 / a.square().mean() * a.mean() ** 2):
    return lambda a: of(a)


def gap(difference=lambda t, s: (t - s).abs(), mean=lambda d, m: (d * m).sum() / m.sum()):
    def answer(teacher, student, binary):
        d = difference(teacher, student)
        return mean(d, binary), mean(d, 1 - binary)
    return answer


def mean_of_means(d, m):
    return ((d * m).sum((1, 2)) / m.sum((1, 2))).mean()


RIGHT = {"spatial_attention": spatial(), "effective_share": share(), "gap": gap()}
NEAR_MISSES = {
    "spatial_attention": [
        spatial(strength=lambda f: f.mean(1)),                                               # no absolute value
        spatial(strength=lambda f: f.abs().sum(1)),                                          # sum for mean
        spatial(strength=lambda f: f.square().mean(1)),
        spatial(scaled=lambda g, t: g * t),
        spatial(scaled=lambda g, t: g),
        spatial(soft=lambda g: torch.softmax(g, 2)),                                         # over rows alone
        spatial(soft=lambda g: torch.softmax(g.flatten(), 0).view_as(g)),                    # over the batch
        spatial(times=lambda g: 1),                                                          # no H W
        spatial(times=lambda g: g.shape[1]),                                                 # H only
        lambda features, temperature: spatial()(features, temperature)[0],                   # the first image only
    ],
    "effective_share": [
        share(lambda a: a.mean() ** 2 / a.square().mean() * a.numel()),                      # a count, not a share
        share(lambda a: 1 / a.square().mean()),                                              # takes for granted that the mean is 1
        share(lambda a: (a > a.mean()).float().mean()),
        share(lambda a: a.square().mean() / a.mean() ** 2),
        share(lambda a: a.sum() ** 2 / a.square().sum() / len(a)),                           # H for H W
        share(lambda a: a.abs().mean() / a.square().mean().sqrt()),                          # the square forgotten
    ],
    "gap": [
        gap(difference=lambda t, s: t - s), gap(difference=lambda t, s: (t - s).square()), gap(mean=lambda d, m: (d * m).mean()),
        gap(mean=lambda d, m: (d * m).sum()), gap(mean=mean_of_means), lambda t, s, m: gap()(t, s, m)[::-1],
        lambda t, s, m: gap()(t[:1], s[:1], m[:1]), lambda t, s, m: (t - s).abs().mean(),
    ],
}


@pytest.mark.parametrize("name", RIGHT)
def test_a_right_answer_is_right(name):
    verdict = getattr(check, name)(RIGHT[name])
    assert verdict.right, verdict.message


@pytest.mark.parametrize(("name", "answer"), [(name, answer) for name, answers in NEAR_MISSES.items() for answer in answers])
def test_a_near_miss_is_not_right(name, answer):
    verdict = getattr(check, name)(answer)
    assert not verdict.right and verdict.written
