"""The checkers of notebook 01 accept right answers and reject near misses."""
import pytest
import torch

from fgdlab.lab.course.exercises import see as check

# ---- right answers, and near misses, each written its own way ------------------------------------------------------------------------


def padded_grid(height, width, stride):
    return tuple((side + 31) // 32 * (32 // stride) for side in (height, width))


def strength(features):
    return features.abs().sum(1) / features.shape[1]


def correlation(teacher, student, flat=lambda f: f.transpose(0, 1).flatten(1), centre=True, absolute=False):
    pairs = []
    for t, s in zip(flat(teacher), flat(student), strict=True):
        if centre:
            t, s = t - t.mean(), s - s.mean()
        r = torch.dot(t, s) / (t.norm() * s.norm())
        pairs.append(r.abs() if absolute else r)
    return torch.stack(pairs)


def image_by_image(teacher, student):
    return torch.stack([correlation(t[None], s[None]) for t, s in zip(teacher, student, strict=True)]).mean(0)


def covariance(teacher, student):
    t, s = (f.transpose(0, 1).flatten(1) for f in (teacher, student))
    return ((t - t.mean(1, keepdim=True)) * (s - s.mean(1, keepdim=True))).mean(1)


RIGHT = {"grid_size": padded_grid, "strength": strength, "same_channel_correlation": correlation}
NEAR_MISSES = {
    "grid_size": [
        lambda h, w, stride: (h // stride, w // stride),                                     # no padding, rounded down
        lambda h, w, stride: (-(-h // stride), -(-w // stride)),                             # no padding, rounded up
        lambda h, w, stride: padded_grid(w, h, stride),
        lambda h, w, stride: (h // 32 * 32 // stride, w // 32 * 32 // stride),               # padded downwards
        lambda h, w, stride: ((h // 32 + 1) * 32 // stride, (w // 32 + 1) * 32 // stride),   # pads what needs no padding
        lambda h, w, stride: padded_grid(h, w, stride)[0] * padded_grid(h, w, stride)[1],
    ],
    "strength": [
        lambda f: f.mean(1), lambda f: f.mean(1).abs(), lambda f: f.abs().sum(1), lambda f: f.square().mean(1).sqrt(), lambda f: f.abs().mean((2, 3)),
        lambda f: f.abs().mean(1, keepdim=True), lambda f: f.abs().amax(1), lambda f: f.abs().mean(0),
    ],
    "same_channel_correlation": [
        image_by_image, covariance, lambda t, s: correlation(t, s, centre=False), lambda t, s: correlation(t, s, absolute=True),
        lambda t, s: correlation(t, s, flat=lambda f: f.reshape(f.shape[1], -1)),            # images and channels mixed up
        lambda t, s: correlation(t, s).mean(), lambda t, s: correlation(t[:1], s[:1]), lambda t, s: correlation(t, s).square(),
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
