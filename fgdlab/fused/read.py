"""The sums of a few images, from one read of both maps, block after block.

Some sums over cells are weighed by a softmax over all cells, which is known only at the end, but a cell's own logit as soon as its channels are
read. So a block's sums are taken with the powers of its logits below the block's largest, which cannot overflow, and are put to scale when the
largest of all is known:

    softmax_j = e^(l_j - block's peak) * e^(block's peak - peak) / sum_k e^(l_k - peak)

Calls cost as much as small blocks, so rows of numbers by cell lie in one tensor and go through each step together.
"""
import torch
from torch import Tensor

from .blocks import Workspace
from .sums import Plan

NETWORKS = ("student", "teacher")


def read_images(student, teacher, masks, key_s, key_t, plan: Plan, work: Workspace, cells: int) -> dict[str, Tensor | None]:
    """Maps (n, C, HW), masks (n, m, HW) or None, ``cells`` of a block. Fields of :class:`Sums` and factors of the gradient, by name."""
    keys = {"student": key_s, "teacher": key_t}
    keys = {who: key.reshape(1, 1, -1).expand(len(student), 1, -1) for who, key in keys.items() if key is not None}
    rows = Rows(student, [who for who in NETWORKS if plan.spatial and plan.looks_at(who)], list(keys), plan, work)
    by_channel = {who: [] for who in NETWORKS if plan.channel and plan.looks_at(who)}
    contexts, focal = {who: [] for who in keys}, {who: [] for who in plan.weighed_by}
    shift, squares = [], []
    maps = zip(student.split(cells, 2), teacher.split(cells, 2), [None] * -(-student.shape[2] // cells) if masks is None else masks.split(cells, 2), strict=True)
    for (s, t, mask), places in zip(maps, rows.blocks(cells), strict=True):
        t, s, scratch = work.load(0, t), work.load(1, s), work(2, tuple(s.shape))
        for who, block in (("student", s), ("teacher", t)):
            if plan.looks_at(who):
                torch.abs(block, out=scratch)
            if ("look", who) in places:
                torch.sum(scratch, dim=1, keepdim=True, out=places["look", who])     # C G^S of eq. 5
            if who in by_channel:
                by_channel[who].append(scratch.sum(dim=2))                           # HW G^C of eq. 6
            if who in keys:
                torch.bmm(keys[who], block, out=places["key", who])                  # W_k F of eq. 13
        powers = rows.powers()
        for who in keys:
            contexts[who].append(torch.bmm(t if who == "teacher" else s, powers["key", who]))
        difference = torch.sub(t, s, out=scratch)
        if plan.shift:
            shift.append(difference.sum(dim=2))
        square = difference.mul_(difference)
        if plan.squares:
            squares.append(square.sum(dim=(1, 2)))
        for who, found in focal.items():
            weights = mask if ("look", who) not in powers else mask * powers["look", who].transpose(1, 2)        # (n, m, B)
            found.append(torch.cat([torch.bmm(square, each) for each in weights.unsqueeze(3).unbind(1)], dim=2))    # (n, C, m)
    return closed(student.shape, rows, by_channel, contexts, focal, plan) | {
        "squares": torch.stack(squares).sum(dim=0) if plan.squares else None, "shift": torch.stack(shift).sum(dim=0) if plan.shift else None,
    }


class Rows:
    """Numbers by cell, (n, k, HW): logits W_k F of eq. 13 and sums |F| over channels, first those whose softmax is needed.

    Args:
        looks, keys: the networks whose |F|, whose logits there are.
    """

    def __init__(self, like: Tensor, looks: list[str], keys: list[str], plan: Plan, work: Workspace):
        n, c, hw = like.shape
        weighing = [("key", who) for who in keys] + [("look", who) for who in looks if who in plan.weighed_by]
        self.names = weighing + [("look", who) for who in looks if who not in plan.weighed_by]
        self.weighing, self.peaks = weighing, []
        self.rows = work.memory.new_empty(n, len(self.names), hw)
        self.scale = self.rows.new_tensor([1 if kind == "key" else 1 / (c * plan.temperature) for kind, _ in weighing])[:, None]

    def blocks(self, cells: int):
        """{row: its place in a block (n, 1, B), to be written}, block after block."""
        for block in self.rows.split(cells, 2):
            self.block = block
            yield dict(zip(self.names, block.split(1, dim=1), strict=True)) if self.names else {}

    def powers(self) -> dict[tuple[str, str], Tensor]:
        """{row: e^(l - the block's peak) (n, B, 1)} of the rows whose softmax is needed, when the block's rows are written."""
        if not self.weighing:
            return {}
        logits = self.block[:, :len(self.weighing)]
        peak = logits.amax(dim=2, keepdim=True)
        self.peaks.append(peak)
        return dict(zip(self.weighing, torch.sub(logits, peak).mul_(self.scale).exp_().unsqueeze(3).unbind(1), strict=True))

    def close(self) -> tuple[dict, dict]:
        """{row: softmax over all cells (n, HW)} and {row: what puts each block's sums to its scale (n, blocks, 1)}."""
        if not self.weighing:
            return {}, {}
        logits = self.rows[:, :len(self.weighing)]
        peak = logits.amax(dim=2, keepdim=True)
        powers = torch.sub(logits, peak).mul_(self.scale).exp_()
        whole = powers.sum(dim=2, keepdim=True)
        to_scale = (torch.cat(self.peaks, dim=2) - peak).mul_(self.scale).exp_() / whole
        return dict(zip(self.weighing, (powers / whole).unbind(1), strict=True)), dict(zip(self.weighing, to_scale.unsqueeze(3).unbind(1), strict=True))

    def __getitem__(self, name: tuple[str, str]) -> Tensor | None:
        return self.rows[:, self.names.index(name)] if name in self.names else None


def closed(shape, rows: Rows, by_channel: dict, contexts: dict, focal: dict, plan: Plan) -> dict[str, Tensor | None]:
    """What the blocks' parts come to, over all cells."""
    (_, c, hw), found = shape, {}
    softmax, to_scale = rows.close()
    for who in NETWORKS:
        found[f"g_spatial_{who[0]}"] = None if rows["look", who] is None else rows["look", who] / c
        found[f"g_channel_{who[0]}"] = torch.stack(by_channel[who]).sum(dim=0) / hw if who in by_channel else None
        found[f"softmax_{who[0]}"] = softmax.get(("key", who))
        found[f"context_{who[0]}"] = torch.bmm(torch.cat(contexts[who], dim=2), to_scale["key", who])[:, :, 0] if who in contexts else None
    a_spatial = [hw * softmax["look", who] for who in focal if plan.spatial]                          # eq. 7
    a_channel = [c * torch.softmax(found[f"g_channel_{who[0]}"] / plan.temperature, dim=1) for who in focal if plan.channel]      # eq. 8
    found["a_spatial"], found["a_channel"] = (sum(each) / len(each) if each else None for each in (a_spatial, a_channel))
    of_focal = None
    for who, parts in focal.items():
        parts = torch.stack(parts, dim=3)                            # (n, C, m, blocks)
        parts = hw * (parts @ to_scale["look", who][:, None])[..., 0] if plan.spatial else parts.sum(dim=3)
        of_focal = parts / len(focal) if of_focal is None else of_focal + parts / len(focal)
    if of_focal is not None:                                         # (n, C, m)
        of_focal = (of_focal if found["a_channel"] is None else of_focal * found["a_channel"][:, :, None]).sum(dim=1)
    return {**found, "focal": of_focal}                              # eq. 9, (n, m)
