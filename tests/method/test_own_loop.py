"""In a training loop of one's own: other pyramids, other detectors, other precisions, and the usual mistakes."""
import copy
import importlib
import inspect
import io
import warnings
from dataclasses import replace
from functools import partial

import pytest
import torch
import torch.multiprocessing
from torch import nn

import fgdlab.fused.dispatch
from fgdlab import (
    Balance,
    Distiller,
    FBKDLoss,
    FGDConfig,
    FGDLoss,
    FusedFGDLoss,
    Recorder,
    Scene,
    calibrate,
    level_names,
    look,
    match_levels,
    method_class,
    total,
)

LEVELS = ("P3", "P4", "P5")
WIDE = {"P3": 8, "P4": 16, "P5": 32}
BOX = torch.tensor([[8.0, 8, 60, 50]])


class Pyramid(nn.Module):
    """A detector of one's own: no transform, no backbone, other channels on each level."""

    def __init__(self, width: int = 8, stride: int = 8):
        super().__init__()
        layers = [(3, width, stride), (width, 2 * width, 2), (2 * width, 4 * width, 2)]
        self.layers = nn.ModuleList(nn.Conv2d(i, o, s, s) for i, o, s in layers)

    def forward(self, pixels):
        maps = []
        for layer in self.layers:
            maps.append(pixels := layer(pixels).tanh())
        return maps


def adapter(model, pixels, boxes):
    """The protocol: one pass of the model, its losses and its scene."""
    maps = model(pixels)
    scene = Scene(pixels, boxes, [tuple(pixels.shape[-2:])] * len(pixels), dict(zip(LEVELS, maps, strict=True)))
    return {"task": maps[0].square().mean()} if model.training else {}, scene


def scene_of(channels=8, boxes=BOX, dtype=torch.float32):
    torch.manual_seed(0)
    maps = {level: torch.randn(1, channels, 16 >> i, 20 >> i).to(dtype) for i, level in enumerate(LEVELS)}
    return Scene(torch.zeros(1, 3, 128, 160), [boxes], [(128, 160)], maps)


def teacher_of(scene, channels=None):
    torch.manual_seed(1)
    return {level: torch.randn(1, channels or maps.shape[1], *maps.shape[-2:]).to(maps.dtype)
            for level, maps in scene.features.items()}


# ---- channels by level ----

@pytest.mark.parametrize("build", [FGDLoss, FusedFGDLoss, FBKDLoss, *(
    method_class(name) for name in ("hint", "attention", "cwd", "mgd", "pkd", "tadf", "defeat"))])
def test_every_loss_on_maps_takes_channels_by_level(build):
    student, twice = dict(zip(LEVELS, Pyramid()(torch.rand(1, 3, 128, 160)), strict=True)), Pyramid(16)
    scene = replace(scene_of(), features=student)
    maps = dict(zip(LEVELS, twice(torch.rand(1, 3, 128, 160)), strict=True))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the fused loss says that it does not apply here
        terms = build(LEVELS, WIDE, {level: 2 * count for level, count in WIDE.items()})(scene, maps)
    total(terms).backward()
    assert {term.level for term in terms} == set(LEVELS) and all(term.raw.isfinite() for term in terms)


def test_f_exists_on_the_levels_whose_channels_differ():
    assert set(FGDLoss(LEVELS, WIDE, 16).align) == {"P3", "P5"}


def test_one_number_and_the_same_number_on_every_level_build_the_same_loss():
    states = []
    for channels in ((8, 12), (dict.fromkeys(LEVELS, 8), dict.fromkeys(LEVELS, 12))):
        torch.manual_seed(3)
        states.append(FGDLoss(LEVELS, *channels).state_dict())
    assert all(torch.equal(each, states[1][name]) for name, each in states[0].items())


@pytest.mark.parametrize("channels", [(8, 16, 32), {"P3": 8, "P4": 16}, "8", {"P3": 8.0, "P4": 16, "P5": 32}])
def test_other_channels_are_refused_by_the_arguments_name(channels):
    with pytest.raises(ValueError, match="student_channels must be a whole number, or {level: number} for P3, P4, P5"):
        FGDLoss(LEVELS, channels, 16)


@pytest.mark.parametrize("levels", ["P3", (), [], ("P3", "P3"), ("P3", "P4", "P3")])
def test_one_word_no_level_or_a_level_twice_is_refused(levels):
    with pytest.raises(ValueError, match="levels must be different names in a tuple, got "):
        FGDLoss(levels, 8, 8)


@pytest.mark.parametrize("who", ["student", "teacher"])
@pytest.mark.parametrize("build", [FGDLoss, FusedFGDLoss, FBKDLoss, method_class("cwd")])
def test_maps_of_other_channels_name_the_argument_and_the_level(who, build):
    channels = {"student": (9, 8), "teacher": (8, 9)}[who]
    with pytest.raises(ValueError, match=rf"{who}_channels must be C of the maps .* 9 and \(1, 8, 16, 20\) on P3"):
        build(LEVELS, *channels)(scene_of(), teacher_of(scene_of()))


def test_maps_with_channels_last_and_tokens_are_refused_with_the_way_to_turn_them():
    scene = scene_of()
    for turned in (lambda maps: maps.permute(0, 2, 3, 1), lambda maps: maps.flatten(2).transpose(1, 2)):
        features = {level: turned(maps) for level, maps in scene.features.items()}
        with pytest.raises(ValueError, match=r"student_channels .*maps.permute\(0, 3, 1, 2\).*tokens"):
            FGDLoss(LEVELS, 8, 8)(replace(scene, features=features), features)


# ---- public names ----

def test_a_name_is_the_function_also_after_its_module_of_the_same_name_was_imported():
    importlib.import_module("fgdlab.attention")
    assert inspect.isfunction(fgdlab.attention) and fgdlab.attention.__module__ == "fgdlab.attention"
    assert set(fgdlab.__all__) <= set(dir(fgdlab))


def test_what_a_training_loop_needs_is_public():
    assert {
        "Balance", "Distiller", "FGDLoss", "METHOD_CLASSES", "PRESETS", "PyramidLoss", "Recorder", "Scene", "Tap",
        "calibrate", "check_finite", "level_names", "look", "match_levels", "method_class", "rows", "total",
    } <= set(fgdlab.__all__)


# ---- names of levels, level maps ----

def names(*sides, height=128):
    return list(level_names({str(i): torch.zeros(1, 1, side, side) for i, side in enumerate(sides)}, height))


def test_levels_are_named_by_stride():
    assert names(4, 4, 2) == ["P5", "P5b", "P6"]  # torchvision's MobileNetV3
    assert names(4, 4, 4) == ["P5", "P5b", "P5c"]
    assert names(16, 4) == ["P3", "P5"]
    assert names(16, 8, 4, 2, 1) == ["P3", "P4", "P5", "P6", "P7"]
    assert names(8, 4, 2, 1, 1, height=64) == ["P3", "P4", "P5", "P6", "P7"]
    assert names(13, 7, 4, 2, 1, height=100) == ["P3", "P4", "P5", "P6", "P7"]


def test_a_level_map_gives_the_teachers_maps_the_students_names():
    scene, teacher = scene_of(), teacher_of(scene_of())
    matched = match_levels(scene, {"P4": teacher["P3"], "P5": teacher["P4"]}, {"P3": "P4", "P4": "P5"})
    assert matched["P3"] is teacher["P3"] and matched["P4"] is teacher["P4"] and len(matched) == 2


def test_without_a_level_map_levels_of_the_same_size_match():
    scene, teacher = scene_of(), teacher_of(scene_of())
    matched = match_levels(scene, {"a": teacher["P4"], "b": teacher["P5"], "c": torch.zeros(1, 8, 1, 1)})
    assert matched == {"P4": teacher["P4"], "P5": teacher["P5"]}


def test_maps_are_resized_only_where_asked():
    scene = scene_of()
    coarse = {"P4": torch.rand(1, 8, 8, 10, dtype=torch.bfloat16)}
    pairs = {"P3": "P4"}
    assert match_levels(scene, coarse, pairs)["P3"].shape[-2:] == (8, 10)
    assert match_levels(scene, coarse, pairs, resize=True)["P3"].shape[-2:] == (16, 20)
    with pytest.raises(ValueError, match="must have the same shape"):
        FGDLoss(("P3",), 8, 8)(scene, match_levels(scene, coarse, pairs))


@pytest.mark.parametrize("pairs", [{"P9": "P3"}, {"P3": "P9"}])
def test_a_level_map_of_unknown_levels_is_refused(pairs):
    with pytest.raises(ValueError, match="levels must be {one of P3, P4, P5: one of P3, P4, P5}, got 'P9'"):
        match_levels(scene_of(), teacher_of(scene_of()), pairs)


def test_a_distiller_matches_levels(retinanet, batch):
    match = partial(match_levels, levels={"P3": "P4", "P4": "P5"}, resize=True)
    distiller = Distiller(retinanet(8), retinanet(8), FGDLoss(("P3", "P4"), 8, 8), match=match).train()
    assert {term.level for term in distiller(*batch)} == {"all", "P3", "P4"}


# ---- any detector ----

def test_an_adapter_runs_each_model_once():
    student, teacher = Pyramid(8), Pyramid(16)
    runs = []
    for model in (student, teacher):
        model.register_forward_hook(lambda module, args, output: runs.append(module))
    loss = FGDLoss(LEVELS, WIDE, {level: 2 * count for level, count in WIDE.items()})
    distiller = Distiller(student, teacher, loss, adapter=adapter).train()
    terms = distiller(torch.rand(2, 3, 128, 160), [BOX, BOX[:0]])
    total(terms).backward()
    assert runs == [student, teacher] and [term.name for term in terms[:2]] == ["task", "fg"]
    named = distiller(pixels=torch.rand(2, 3, 128, 160), boxes=[BOX, BOX[:0]])
    assert len(named) == len(terms)
    assert all(each.grad is not None for each in distiller.parameters())
    assert not any(each.requires_grad for each in teacher.parameters())


def test_a_recorder_keeps_the_outputs_of_inner_modules_and_leaves_no_hook():
    model = Pyramid()
    with Recorder(model, "layers.0", "layers.2") as seen:
        with pytest.raises(RuntimeError, match="layers.0 must run inside the `with`"):
            _ = seen["layers.0"]
        model(torch.rand(1, 3, 64, 64))
    assert seen["layers.0"].shape == (1, 8, 8, 8) and seen["layers.2"].shape == (1, 32, 2, 2)
    assert not any(module._forward_hooks for module in model.modules())


def test_a_model_without_transform_and_backbone_is_asked_for_an_adapter(retinanet):
    for pair in ((Pyramid(), retinanet()), (retinanet(), Pyramid())):
        with pytest.raises(ValueError, match="got Pyramid without; .* adapter="):
            Distiller(*pair, FGDLoss(LEVELS, 8, 8))


def test_a_wrapped_student_is_refused_because_the_losss_layers_would_be_left_out(retinanet):
    with pytest.raises(ValueError, match="got DataParallel without; wrap the distiller instead of its student"):
        Distiller(nn.DataParallel(retinanet()), retinanet(), FGDLoss(LEVELS, 8, 8))


# ---- guards ----

def test_a_shared_module_is_refused_and_nothing_is_frozen(retinanet):
    student, teacher = retinanet(), retinanet()
    teacher.backbone = student.backbone
    for other in (teacher, student):
        with pytest.raises(ValueError, match=r"share parameters .* 'backbone.*; give it a copy: copy.deepcopy"):
            Distiller(student, other, FGDLoss(LEVELS, 8, 8))
    assert all(each.requires_grad for each in student.parameters()) and student.training
    Distiller(student, copy.deepcopy(student), FGDLoss(LEVELS, 8, 8))


class Returns(nn.Module):
    """A detector with something more, or something else, in its losses."""

    def __init__(self, detector, change):
        super().__init__()
        self.detector, self.change = detector, change
        self.transform, self.backbone = detector.transform, detector.backbone

    def forward(self, images, targets):
        return self.change(self.detector(images, targets))


@pytest.mark.parametrize(("change", "entry"), [
    (lambda losses: losses | {"num_pos": torch.tensor(7)}, "num_pos"),
    (lambda losses: losses | {"accuracy": torch.tensor(55.0)}, "accuracy"),
    (lambda losses: losses | {"lr": 0.1}, "lr"),
    (lambda losses: {"per_level": [losses["classification"]] * 3}, "per_level"),
    (lambda losses: {"map": losses["classification"].expand(3)}, "map"),
    (lambda losses: sum(losses.values()), "all together"),
])
def test_what_is_no_loss_is_refused_by_name(change, entry, retinanet, batch):
    distiller = Distiller(Returns(retinanet(), change)).train()
    with pytest.raises(ValueError, match=rf"must return {{name: scalar loss}}, got '{entry}': .* leave out metrics"):
        distiller(*batch)


def frozen(distiller):
    distiller.student.requires_grad_(False)


def detached(distiller):
    distiller.student.backbone.register_forward_hook(
        lambda module, args, maps: {name: each.detach() for name, each in maps.items()})


@pytest.mark.parametrize("mistake", [frozen, detached])
@pytest.mark.parametrize("name", ["hint", "mgd"])
def test_a_student_whose_maps_are_constants_is_refused(mistake, name, retinanet, batch):
    """Only the loss's own layers would learn."""
    distiller = Distiller(retinanet(), retinanet(), method_class(name)(LEVELS, 8, 8)).train()
    distiller(*batch)
    mistake(distiller)
    with pytest.raises(ValueError, match="must have a gradient to the student, got a constant; take its maps without"):
        distiller(*batch)
    with torch.no_grad():
        distiller(*batch)


def test_a_student_in_eval_mode_is_refused(retinanet, batch):
    student = retinanet().eval()
    with pytest.raises(RuntimeError, match=r"must be in train mode to give losses; call .train\(\)"):
        Distiller(student, retinanet(), FGDLoss(LEVELS, 8, 8))(*batch)


def test_an_unknown_method_is_told_which_there_are():
    with pytest.raises(ValueError, match="method must be one of hint, chen, .*, got 'FGFI'"):
        method_class("FGFI")


def test_losses_without_any_gradient_pass(retinanet, batch):
    distiller = Distiller(retinanet()).train().requires_grad_(False)
    assert [term.name for term in distiller(*batch)] == ["classification", "bbox_regression"]


@pytest.mark.parametrize(("boxes", "hint"), [
    (torch.tensor([[0.25, 0.3, 0.2, 0.1]]), "convert them from cxcywh"),
    (torch.tensor([[0.25, 0.3, 0.9, 0.5]]), "multiply them by width and height"),
    (torch.tensor([[60.0, 50, 8, 8]]), "convert them from cxcywh or xywh"),
    (torch.tensor([[60.0, 50, float("nan"), 80]]), "look at the data"),
    (torch.tensor([[8.0, 8, 60, float("inf")]]), "look at the data"),
    (torch.tensor([8.0, 8, 60, 50]), r"must have shape \(K, 4\)"),
    (torch.zeros(2, 5), r"must have shape \(K, 4\)"),
    (None, r"must have shape \(K, 4\), got None"),
    (BOX.numpy(), r"must have shape \(K, 4\), got ndarray"),
    (torch.cat([BOX, torch.zeros(2, 4)]), "leave out rows of padding"),
    (torch.cat([BOX, torch.full((1, 4), -1.0)]), "leave out rows of padding"),
])
@pytest.mark.parametrize("build", [FGDLoss, FusedFGDLoss, method_class("pkd")])
def test_boxes_that_are_not_xyxy_in_pixels_are_refused(boxes, hint, build):
    with pytest.raises(ValueError, match=hint):
        build(LEVELS, 8, 8)(scene_of(boxes=boxes), teacher_of(scene_of()))


def test_one_tensor_with_the_boxes_of_all_images_is_refused():
    with pytest.raises(ValueError, match=r"each image must have shape \(K, 4\), got \(1, 1, 4\)"):
        FGDLoss(LEVELS, 8, 8)(replace(scene_of(), boxes=BOX[None]), teacher_of(scene_of()))


@pytest.mark.parametrize("name", [None, "tadf", "defeat"])
@pytest.mark.parametrize("dtype", [torch.float16, torch.int16, torch.int64, torch.float64])
def test_boxes_of_any_precision_give_the_terms_of_float32(name, dtype):
    scene = replace(scene_of(), pixels=torch.zeros(1, 3, 512, 512), boxes=[torch.tensor([[8.0, 8, 400, 350]])])
    loss = (method_class(name) if name else FGDLoss)(LEVELS, 8, 8)
    found = loss(replace(scene, boxes=[scene.boxes[0].to(dtype)]), teacher_of(scene))
    for term, other in zip(found, loss(scene, teacher_of(scene)), strict=True):
        assert term.raw.item() == pytest.approx(other.raw.item()) and other.level in LEVELS


def test_boxes_in_bfloat16_are_warned_of_because_they_move_and_in_float16_and_integers_they_pass():
    """Lightning's bf16-true, FSDP and DeepSpeed cast every float tensor of a batch."""
    teacher = teacher_of(scene_of())
    with pytest.warns(UserWarning, match="boxes must be float32 or integers, got bfloat16, which rounds pixel 999 to"):
        FGDLoss(LEVELS, 8, 8)(scene_of(boxes=BOX.bfloat16()), teacher)
    assert torch.tensor(999.0).bfloat16() == 1000
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for boxes in (BOX, BOX.half(), BOX.long(), BOX.double()):
            FGDLoss(LEVELS, 8, 8)(scene_of(boxes=boxes), teacher)


@pytest.mark.parametrize("boxes", [
    BOX, BOX.long(), BOX[:0], torch.tensor([[0.0, 0, 0, 0]]) - 5, torch.tensor([[-9.0, -9, 999, 999]]),
    torch.tensor([[0.2, 0.3, 0.9, 1], [0, 0, 9, 9]]), torch.tensor([[8.0, 8, 8, 8]]),
])
def test_unusual_boxes_in_pixels_pass(boxes):
    terms = FGDLoss(LEVELS, 8, 8)(scene_of(boxes=boxes), teacher_of(scene_of()))
    assert all(term.raw.isfinite() for term in terms)


def test_another_normalisation_of_the_teacher_is_warned_of_or_done(retinanet, batch):
    student, teacher = retinanet(), retinanet()
    teacher.transform.image_mean = [0.5, 0.5, 0.5]
    with pytest.warns(UserWarning, match="must have the same image_mean.* give Distiller teacher_pixels="):
        Distiller(student, teacher, FGDLoss(LEVELS, 8, 8))
    seen = []
    teacher.backbone.register_forward_pre_hook(lambda module, args: seen.append(args[0]))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        distiller = Distiller(student, teacher, FGDLoss(LEVELS, 8, 8), teacher_pixels=lambda pixels: pixels + 3).train()
    student.backbone.register_forward_pre_hook(lambda module, args: seen.append(args[0]))
    distiller(*batch)
    assert torch.equal(seen[1], seen[0] + 3)


def test_images_that_the_detector_enlarges_give_one_warning_and_boxes_that_follow(retinanet, batch):
    """torchvision's min_size is 800, so a step on two small images of a user took minutes."""
    student = retinanet()
    student.transform.min_size, student.transform.max_size = (800,), 1333
    distiller = Distiller(student, retinanet(), FGDLoss(LEVELS, 8, 8)).train()
    with pytest.warns(UserWarning, match="got one of 64 rows resized to 800, .*give the detector a smaller min_size="):
        terms = distiller(*batch)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        distiller(*batch)
        Distiller(retinanet(), retinanet(), FGDLoss(LEVELS, 8, 8)).train()(*batch)
    scene = look(student, *batch)
    assert scene.padded_size == (800, 1152) and scene.features["P3"].shape[-2:] == (100, 144)
    assert torch.equal(scene.boxes[0], 12.5 * batch[1][0]["boxes"])
    assert {term.level for term in terms} == {"all", *LEVELS} and all(term.raw.isfinite() for term in terms)


def test_a_teacher_in_train_mode_goes_back_to_eval_mode(retinanet, batch):
    distiller = Distiller(retinanet(), retinanet(), FGDLoss(LEVELS, 8, 8)).train()
    distiller.teacher.train()
    before = copy.deepcopy(distiller.teacher.state_dict())
    distiller(*batch)
    assert not any(module.training for module in distiller.teacher.modules())
    assert all(torch.equal(each, before[name]) for name, each in distiller.teacher.state_dict().items())
    distiller.teacher.backbone.train()
    distiller.train()
    assert not any(module.training for module in distiller.teacher.modules())


def test_a_copy_shares_the_teacher_and_nothing_else(retinanet, batch):
    distiller = Distiller(retinanet(), retinanet(), FGDLoss(LEVELS, 8, 8)).train()
    average = torch.optim.swa_utils.AveragedModel(distiller)
    assert average.module.teacher is distiller.teacher and average.module.student is not distiller.student
    ours = {each.data_ptr() for each in distiller.parameters()}
    assert not ours & {each.data_ptr() for each in average.parameters()}
    average.update_parameters(distiller)
    assert len(average.module.train()(*batch)) == len(distiller(*batch))


def test_a_pickled_distiller_still_has_its_teacher(retinanet, batch):
    distiller = Distiller(retinanet(), retinanet(), FGDLoss(LEVELS, 8, 8)).train()
    torch.save(distiller, file := io.BytesIO())
    file.seek(0)
    terms = torch.load(file, weights_only=False)(*batch)
    assert [term.raw.item() for term in terms] == [term.raw.item() for term in distiller(*batch)]


def test_the_fused_loss_warns_once_where_it_is_not_fused(monkeypatch):
    scene = scene_of()
    monkeypatch.setattr(fgdlab.fused.dispatch, "numba_missing", lambda: "numba is missing")
    loss = FusedFGDLoss(LEVELS, 8, 8)
    with pytest.warns(UserWarning, match="runs the readable implementation: numba is missing"):
        loss(scene, teacher_of(scene))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        loss(scene, teacher_of(scene))


def test_the_fused_loss_warns_where_channels_differ_between_levels():
    student = dict(zip(LEVELS, Pyramid()(torch.rand(1, 3, 128, 160)), strict=True))
    with pytest.warns(UserWarning, match="needs the same teacher_channels on all levels"):
        FusedFGDLoss(LEVELS, WIDE, WIDE)(replace(scene_of(), features=student), student)


# ---- precision ----

@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("build", [FGDLoss, FusedFGDLoss, FBKDLoss, method_class("mgd"), method_class("hint")])
@pytest.mark.parametrize("teacher_channels", [8, 12])
def test_layers_of_a_loss_stay_float32_and_terms_close_in_half_precision(dtype, build, teacher_channels):
    def terms_of(dtype):
        torch.manual_seed(2)
        loss = build(LEVELS, 8, teacher_channels).to(dtype)
        scene = scene_of(dtype=dtype)
        for maps in scene.features.values():
            maps.requires_grad_()
        torch.manual_seed(4)
        terms = loss(scene, teacher_of(scene, teacher_channels))
        total(terms).backward()
        assert {each.dtype for each in loss.parameters()} <= {torch.float32}
        assert all(maps.grad.isfinite().all() and maps.grad.dtype == dtype for maps in scene.features.values())
        assert all(each.grad is not None and each.grad.isfinite().all() for each in loss.parameters())
        return terms

    for full, half in zip(terms_of(torch.float32), terms_of(dtype), strict=True):
        assert half.raw.dtype == torch.float32 and half.raw.item() == pytest.approx(full.raw.item(), rel=1e-2)


def test_a_distiller_in_bfloat16_has_terms_close_to_float32():
    def terms_of(dtype):
        torch.manual_seed(0)
        loss = FGDLoss(LEVELS, WIDE, {level: 2 * count for level, count in WIDE.items()})
        distiller = Distiller(Pyramid(8), Pyramid(16), loss, adapter=adapter).train().to(dtype)
        terms = distiller(torch.rand(2, 3, 128, 160).to(dtype), [BOX, BOX[:0]])
        total(terms).backward()
        assert {each.dtype for each in distiller.loss.parameters()} == {torch.float32}
        assert {each.dtype for each in distiller.student.parameters()} == {dtype}
        return terms

    for full, half in zip(terms_of(torch.float32), terms_of(torch.bfloat16), strict=True):
        assert half.raw.item() == pytest.approx(full.raw.item(), rel=1e-2)


def test_a_loss_moves_to_double_and_back():
    assert {each.dtype for each in FGDLoss(LEVELS, 8, 12).double().parameters()} == {torch.float64}
    assert {each.dtype for each in FGDLoss(LEVELS, 8, 12).double().half().parameters()} == {torch.float32}


def test_weights_are_not_rounded_on_the_way_through_half_precision():
    loss = FGDLoss(LEVELS, 8, 12)
    before = loss.align["P3"].weight.clone()
    assert torch.equal(loss.half().align["P3"].weight, before)


# ---- weights ----

@pytest.fixture
def unbalanced():
    torch.manual_seed(0)
    loss = FGDLoss(LEVELS, WIDE, 16, FGDConfig(1.0, 1.0, 1.0, 1.0))
    return Distiller(Pyramid(8), Sixteen(), loss, adapter=adapter).train()


class Sixteen(Pyramid):
    def forward(self, pixels):
        return [maps[:, :16].repeat(1, 16 // min(maps.shape[1], 16), 1, 1) for maps in super().forward(pixels)]


def test_calibrate_prints_shares_and_proposes_weights_that_reach_the_ratio(unbalanced, capsys):
    batches = [(torch.rand(2, 3, 128, 160), [BOX, BOX[:0]]) for _ in range(3)]
    proposed = calibrate(unbalanced, batches, batches=2, loss_ratio=0.5)
    printed = capsys.readouterr().out.splitlines()
    assert list(proposed) == ["alpha", "beta", "gamma", "lambda_"]
    assert [line.split(":")[0] for line in printed] == ["fg", "bg", "attention", "global"]
    assert all(" of the task loss with weight 1; propose weight " in line for line in printed)
    config = replace(unbalanced.loss.config, **proposed)
    sums = dict.fromkeys(("task", "fg", "bg", "attention", "global"), 0.0)
    tuned = FGDLoss(LEVELS, WIDE, 16, config)
    tuned.load_state_dict(unbalanced.loss.state_dict())
    unbalanced.loss = tuned
    for batch in batches[:2]:
        for term in unbalanced(*batch):
            sums[term.name] += term.weight * term.raw.item()
    for name in ("fg", "bg", "attention", "global"):
        assert sums[name] / sums["task"] == pytest.approx(0.5 / 4, rel=1e-4)


def test_calibrate_changes_nothing(retinanet, batch, capsys):
    loss = FGDLoss(LEVELS, 8, 8)
    distiller = Distiller(retinanet(), retinanet(), loss, balance=Balance(strength=2.0)).eval()
    before, random = copy.deepcopy(distiller.state_dict()), torch.get_rng_state()
    calibrate(distiller, [batch])
    assert not distiller.training and distiller.balance.strength == 2.0 and distiller.balance.seen == 0
    assert torch.equal(torch.get_rng_state(), random)
    after = distiller.state_dict()
    assert all(torch.equal(each, after[name]) for name, each in before.items() if isinstance(each, torch.Tensor))


def test_calibrate_needs_a_loss_and_batches(retinanet, batch):
    for distiller, loader in (
        (Distiller(retinanet()), [batch]), (Distiller(retinanet(), retinanet(), FGDLoss(LEVELS, 8, 8)), []),
    ):
        with pytest.raises(ValueError, match="calibrate must measure terms .*; give it a loss and batches"):
            calibrate(distiller, loader)


def test_calibrate_keeps_the_name_of_another_losss_term(retinanet, batch, capsys):
    distiller = Distiller(retinanet(), retinanet(), method_class("hint")(LEVELS, 8, 8))
    assert list(calibrate(distiller, [batch])) == ["hint"]


# ---- several processes ----

def rank_with_another_teacher(rank, meeting, spoilt, out):
    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo", init_method=f"file://{meeting}", rank=rank, world_size=2)
    torch.manual_seed(0)
    loss = FGDLoss(LEVELS, WIDE, {level: 2 * count for level, count in WIDE.items()})
    distiller = Distiller(Pyramid(8), Pyramid(16), loss, adapter=adapter).train()
    if spoilt and rank == 1:
        nn.init.normal_(distiller.teacher.layers[0].bias)
    wrapped = nn.parallel.DistributedDataParallel(distiller)
    try:
        terms = wrapped(torch.rand(2, 3, 128, 160), [BOX, BOX[:0]])
        total(terms).backward()
        out[rank] = float(distiller.loss.align["P3"].weight.grad.sum())
    except ValueError as error:
        out[rank] = str(error)
    torch.distributed.destroy_process_group()


@pytest.mark.slow
@pytest.mark.parametrize("spoilt", [False, True])
def test_a_teacher_that_differs_between_ranks_is_refused_on_all_of_them(spoilt, tmp_path):
    with torch.multiprocessing.Manager() as manager:
        out = manager.dict()
        torch.multiprocessing.spawn(rank_with_another_teacher, (tmp_path / "meeting", spoilt, out), nprocs=2)
        results = dict(out)
    if spoilt:
        assert all("the teacher must be the same on all ranks" in text for text in results.values())
    else:
        assert results[0] == results[1]


@pytest.mark.slow
def test_the_loss_and_the_distiller_compile_to_equal_terms():
    scene = scene_of()
    loss = FGDLoss(LEVELS, 8, 8)
    compiled = torch.compile(loss, fullgraph=True, backend="aot_eager")(scene, teacher_of(scene))
    for ours, theirs in zip(loss(scene, teacher_of(scene)), compiled, strict=True):
        assert theirs.raw.item() == pytest.approx(ours.raw.item(), rel=1e-6)
    teacher_channels = {level: 2 * count for level, count in WIDE.items()}
    distiller = Distiller(Pyramid(8), Pyramid(16), FGDLoss(LEVELS, WIDE, teacher_channels), adapter=adapter).train()
    batch = torch.rand(2, 3, 128, 160), [BOX, BOX[:0]]
    compiled = torch.compile(distiller, backend="aot_eager")(*batch)
    for ours, theirs in zip(distiller(*batch), compiled, strict=True):
        assert theirs.raw.item() == pytest.approx(ours.raw.item(), rel=1e-6)
