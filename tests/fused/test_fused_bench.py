"""The implementations in the loss benchmark compute the same loss."""
from torch.testing import assert_close

from benchmarks import fgd_loss


def test_the_plain_transcription_and_both_implementations_give_one_gradient():
    case, found = fgd_loss.Case(2, 8, (96, 128)), {}
    for name, step in case.timed_steps().items():
        case.clear_gradients()
        step()
        found[name] = [each.grad for each in (*case.student.values(), *case.loss.parameters())]
    assert {each is None for each in found.pop("copy")} == {True}
    readable = found.pop("readable implementation")
    assert len(found) == 2 and all(each.any() for each in readable[:5])
    for gradients in found.values():
        for ours, expected in zip(gradients[:5], readable[:5], strict=True):
            assert_close(ours, expected, rtol=1e-3, atol=1e-5 * expected.abs().max().item())


def test_a_trial_prints_every_figure_and_writes_nothing(capsys, monkeypatch):
    monkeypatch.setattr(fgd_loss, "write_json", None)
    monkeypatch.setattr(fgd_loss, "TURNS", 1)
    fgd_loss.main("cpu", True)
    printed = capsys.readouterr().out
    assert printed.count("\n") == 2 and '"fused_over_floor"' in printed and '"1000"' in printed
