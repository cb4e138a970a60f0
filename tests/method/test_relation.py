"""Eqs. 12-13: the relation block and the global term."""
import pytest
import torch
from torch.func import functional_call
from torch.testing import assert_close

from fgdlab.relation import GcBlock, NonLocalBlock, RelationTerm
from tests.helpers import naive


def maps(n=2, c=4, h=3, w=5):
    return torch.randn(n, c, h, w, dtype=torch.float64)


def plain_lists(block):
    """{name: nested lists} of a block's parameters; 1x1 kernels become matrices."""
    return {name: (p.flatten(1) if p.ndim == 4 else p.flatten()).tolist() for name, p in block.named_parameters()}


# ---- the blocks ----

def test_gcblock_equals_the_loops(shake, agree):
    for seed in range(50):
        torch.manual_seed(seed)
        block, features = shake(GcBlock(4).double()), maps()
        agree(block(features), [naive.relation(F, plain_lists(block)) for F in features.tolist()], seed)


@pytest.mark.parametrize("block", [GcBlock, NonLocalBlock])
def test_a_block_starts_as_the_identity(block):
    features = maps()
    assert torch.equal(block(4).double()(features), features)


@pytest.mark.parametrize("block", [GcBlock, NonLocalBlock])
def test_a_block_with_moved_parameters_is_not_the_identity(block, shake):
    features = maps()
    assert (shake(block(4).double())(features) - features).abs().amax() > 1e-3


def test_gcblock_adds_one_vector_to_every_pixel(shake):
    features = maps()
    added = shake(GcBlock(4).double())(features) - features
    assert_close(added, added[:, :, :1, :1].expand_as(added))


def test_nonlocal_adds_another_vector_to_every_pixel(shake):
    features = maps()
    added = shake(NonLocalBlock(4).double())(features) - features
    assert added.std(dim=(2, 3)).amax() > 1e-3


@pytest.mark.parametrize("block", [GcBlock, NonLocalBlock])
def test_blocks_are_permutation_equivariant(block, shake):
    """Pixels in another order come out in that order."""
    block, features, order = shake(block(4).double()), maps(h=3, w=5), torch.randperm(15)

    def shuffle(x):
        return x.flatten(2)[:, :, order].view_as(x)

    assert_close(block(shuffle(features)), shuffle(block(features)))


def test_context_weights_sum_to_one(shake):
    weights = shake(GcBlock(4).double()).context_weights(maps())
    assert weights.shape == (2, 1, 15)
    assert_close(weights.sum(dim=-1), torch.ones(2, 1, dtype=torch.float64))


def test_nonlocal_gathers_by_the_row_softmax(shake):
    """R(F)_i = F_i + W_z sum_j softmax_j(theta_i . phi_j) g_j, pixel by pixel."""
    block, features = shake(NonLocalBlock(4).double()), maps(n=1, h=2, w=2)
    weight = {name: (layer.weight.flatten(1), layer.bias) for name, layer in block.named_children()}
    pixels = list(features[0].flatten(1).T)
    query, key, value = (
        [weight[name][0] @ pixel + weight[name][1] for pixel in pixels] for name in ("query", "key", "value")
    )
    for i, pixel in enumerate(pixels):
        share = torch.softmax(torch.stack([query[i] @ each for each in key]), dim=0)
        gathered = sum(s * each for s, each in zip(share, value, strict=True))
        assert_close(block(features)[0].flatten(1)[:, i], pixel + weight["output"][0] @ gathered + weight["output"][1])


# ---- the term ----

def test_gc_and_nonlocal_start_as_mse():
    student, teacher = maps(), maps()
    mse = RelationTerm(4, "mse")(student, teacher)
    assert_close(mse, (student - teacher).square().sum() / 2)
    assert all(RelationTerm(4, kind).double()(student, teacher) == mse for kind in ("gc", "nonlocal"))


def test_mse_and_centred_have_no_parameters():
    assert [len(list(RelationTerm(4, kind).parameters())) for kind in ("mse", "centred")] == [0, 0]


def test_student_and_teacher_have_a_block_each(shake):
    term = shake(RelationTerm(4).double())
    student, teacher = maps(), maps()
    term(student, teacher).backward()
    idle = {name for name, p in term.named_parameters() if p.grad.abs().amax() < 1e-12}
    assert idle == {"student.key.bias", "teacher.key.bias"}  # a bias before a softmax moves nothing


def test_centred_is_never_above_mse():
    for seed in range(50):
        torch.manual_seed(seed)
        student, teacher = maps(), maps() + torch.randn(1, 4, 1, 1)
        assert RelationTerm(4, "centred")(student, teacher) < RelationTerm(4, "mse")(student, teacher)


def test_centred_does_not_see_a_shift_of_a_channel():
    student, teacher = maps(), maps()
    term = RelationTerm(4, "centred")
    assert_close(term(student + torch.randn(2, 4, 1, 1), teacher), term(student, teacher))


def test_gc_is_never_below_centred(shake):
    student, teacher = maps(), maps()
    least = RelationTerm(4, "centred")(student, teacher)
    for seed in range(50):
        torch.manual_seed(seed)
        assert shake(RelationTerm(4).double(), size=1.0)(student, teacher) > least


def test_one_bias_takes_gc_down_to_centred():
    """R_s adds -mean(S - T), the best constant: the centred distance remains. For one image a bias is enough."""
    student, teacher = maps(n=1), maps(n=1)
    term = RelationTerm(4).double()
    with torch.no_grad():
        term.student.transform[3].bias.copy_(-(student - teacher).mean(dim=(0, 2, 3)))
    assert_close(term(student, teacher), RelationTerm(4, "centred")(student, teacher), rtol=1e-12, atol=0)


def test_training_takes_gc_down_to_centred_for_several_images():
    student, teacher = maps(n=2) + torch.randn(2, 4, 1, 1), maps(n=2)
    term, least = RelationTerm(4).double(), RelationTerm(4, "centred")(student, teacher)
    assert term(student, teacher) > 1.5 * least
    optimiser = torch.optim.LBFGS(term.parameters(), max_iter=200, line_search_fn="strong_wolfe")

    def closure():
        optimiser.zero_grad()
        loss = term(student, teacher)
        loss.backward()
        return loss

    optimiser.step(closure)
    assert least <= term(student, teacher) * (1 + 1e-9) and term(student, teacher) < 1.001 * least


@pytest.mark.parametrize("kind", ["gc", "mse", "centred", "nonlocal"])
def test_gradcheck(kind, shake):
    term, student, teacher = shake(RelationTerm(2, kind).double()), maps(1, 2, 2, 2).requires_grad_(), maps(1, 2, 2, 2)
    names, values = zip(*term.named_parameters(), strict=True) if kind in ("gc", "nonlocal") else ((), ())

    def call(s, *parameters):
        return functional_call(term, dict(zip(names, parameters, strict=True)), (s, teacher))

    assert torch.autograd.gradcheck(call, (student, *values))


def test_errors_name_the_choices_and_the_channels():
    with pytest.raises(ValueError, match="gc, mse, centred, nonlocal, got 'cosine'"):
        RelationTerm(4, "cosine")
    with pytest.raises(ValueError, match="ratio 2, got 1"):
        GcBlock(1)
