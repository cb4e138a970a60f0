"""Answers to the exercises of notebook 05."""
import torch

from fgdlab.relation import RelationTerm


def centred(student, teacher, dims=(0, 2, 3)):
    difference = student - teacher
    return (difference - difference.mean(dim=dims, keepdim=True)).square().sum() / len(student)


def plain(student, teacher):
    return RelationTerm(student.shape[1], "mse")(student, teacher)


def left(relation, student, teacher, steps, rate, layers=True, optimizer=torch.optim.Adam, final=None):
    copy = student.clone().requires_grad_()
    optimizer = optimizer([copy, *list(relation.parameters()) * layers], lr=rate)
    before = final(relation, copy, teacher) if final else (copy.detach() - teacher).square().sum()
    for _ in range(steps):
        optimizer.zero_grad()
        relation(copy, teacher).backward()
        optimizer.step()
    return (final(relation, copy, teacher) if final else (copy.detach() - teacher).square().sum()) / before


RIGHT = {"one_vector_for_all": centred, "distance_left": left}
NEAR_MISSES = {
    "one_vector_for_all": {
        "plain squared distance": plain,
        "one vector per image": lambda s, t: centred(s, t, dims=(2, 3)),
        "one number for all channels": lambda s, t: centred(s, t, dims=(0, 1, 2, 3)),
        "mean over the images only": lambda s, t: centred(s, t, dims=(0,)),
        "not averaged over the batch": lambda s, t: centred(s, t) * len(s),
        "what the vector removes": lambda s, t: plain(s, t) - centred(s, t),
    },
    "distance_left": {
        "layers fixed": lambda *a: left(*a, layers=False),
        "SGD": lambda *a: left(*a, optimizer=torch.optim.SGD),
        "AdamW": lambda *a: left(*a, optimizer=torch.optim.AdamW),
        "distance gone": lambda *a: 1 - left(*a),
        "the term instead of the distance": lambda *a: left(*a, final=lambda r, s, t: r(s, t).detach()),
        "one step less": lambda r, s, t, steps, rate: left(r, s, t, steps - 1, rate),
    },
}
