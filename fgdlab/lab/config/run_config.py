"""The settings of one run: YAML key = papermill parameter = field = flag of ``fgdlab run`` = CSV column."""
from dataclasses import asdict, dataclass, field, fields, replace

from fgdlab.config import FGDConfig
from fgdlab.methods import METHOD_CLASSES

from ..errors import UserError, check_name

LARGEST = 1e30  # torch refuses larger numbers where it uses them, far from here
METHODS = ("none", "fgd", "fbkd", *METHOD_CLASSES)
GROUPS = ("data", "detector", "teacher", "method", "fgd", "training", "machine")


def setting(
    group: str, default, help: str, choices: tuple[str, ...] = (), minimum: float = 0,
    maximum: float = 2**31 - 1, *,
    or_with: str = "", later: bool = False, decides_teacher: bool = False, decides_numbers: bool = True,
):
    """A field; its metadata holds all arguments.

    group: one of ``GROUPS``. A run without distillation does not use "method" and "fgd".
    help: the words of ``fgdlab run --help``.
    choices: the allowed words; a word that contains ``or_with`` is allowed, too.
    minimum, maximum: of numbers; ``maximum`` is for whole numbers, others end at ``LARGEST``.
    later: added after results were published, so its default is not part of an id and must never change.
    decides_teacher: the weights of a trained teacher depend on it, so the name of the teacher's file does.
    decides_numbers: it can change a number of the run, so the run's id depends on it.
    """
    return field(default=default, metadata=locals())


def fgd_setting(name: str):
    of_loss = next(each for each in fields(FGDConfig) if each.name == name)
    return setting("fgd", of_loss.default, of_loss.metadata["help"], of_loss.metadata["choices"])


@dataclass(frozen=True)
class RunConfig:
    """All settings of a run. Defaults: a compact student, two epochs of digit scenes, no distillation."""

    # data
    data: str = setting("data", "digits", "'digits' for the built-in scenes, or the folder of a COCO-format data set")
    lookalikes: bool = setting(
        "data", True, "digit scenes: draw letters, mirrored and rotated digits, which are not objects",
        decides_teacher=True)
    image_size: int = setting(
        "data", 128, "digit scenes: side in pixels; a folder: longest side to shrink to, 0 = as it is", maximum=65535,
        decides_teacher=True)
    train_images: int = setting(
        "data", 3600, "training images: digit scenes to make, or the most to take of a folder; 0 = all of the folder",
        decides_teacher=True)
    eval_images: int = setting("data", 400, "evaluation images per split (tune, val), as for train_images")
    train_split: str = setting("data", "train", "the training split", decides_teacher=True)
    eval_split: str = setting(
        "data", "val", "the evaluation split; choose hyper-parameters on 'tune', never on the split that a table "
        "reports")
    exif_turned: bool = setting(
        "data", False, "boxes were drawn on images as their EXIF orientation turns them; off = only where the stated "
        "sizes show it", later=True, decides_teacher=True)
    flip: float = setting(
        "data", 0.0, "probability of a horizontal flip of a training image (not for digits); above 0 the teacher's "
        "cache needs views", decides_teacher=True)
    zoom: float = setting(
        "data", 0.0, "training images: draw a scale from 1 / (1 + zoom) to 1 + zoom, and a place on a canvas of one "
        "size", later=True, decides_teacher=True)
    colour: float = setting(
        "data", 0.0, "training images: vary brightness, contrast and saturation by up to this part, 0..1", later=True,
        decides_teacher=True)
    views: int = setting(
        "data", 0, "number of fixed views of each image by flip, zoom and colour; their teacher maps can be cached; "
        "0 = a new view at each pass", later=True)
    # detectors
    detector: str = setting("detector", "retinanet", "detector of student and teacher", decides_teacher=True)
    student: str = setting("detector", "compact_s", "the student's backbone")
    teacher: str = setting("teacher", "compact_t", "the teacher's backbone", decides_teacher=True)
    flavour: str = setting(
        "detector", "torchvision", "whose design of P6, anchors, heads and norms; checkpoints of MMDetection need "
        "mmdet", ("torchvision", "mmdet"), later=True, decides_teacher=True)
    min_size: int = setting(
        "detector", 0, "short side in pixels to which detectors resize images; 0 = no resizing", maximum=65535,
        later=True, decides_teacher=True)
    max_size: int = setting(
        "detector", 0, "longest side in pixels, with min_size; 0 = in proportion, 1333 for 800", maximum=65535,
        later=True, decides_teacher=True)
    init: str = setting(
        "detector", "random", "initial weights of the student's backbone; pretrained: on glyphs for compact and small "
        "backbones, shipped with the package; on ImageNet for others, downloaded by torchvision",
        ("random", "pretrained"))
    teacher_init: str = setting(
        "teacher", "random", "as init, for the backbone of a teacher that is trained", ("random", "pretrained"),
        decides_teacher=True)
    anchors: str = setting(
        "detector", "", "anchors of RetinaNet and the two-stage detectors, as 11x14,16x20/30x28,41x40: width x height "
        "in pixels, / between levels; empty = the detector's own; --scale photos fits them to the training boxes",
        later=True, decides_teacher=True)
    teacher_checkpoint: str = setting(
        "teacher", "", "the teacher's weights: a file, an https address, or torchvision:NAME of its weights; empty = "
        "shipped, cached, or trained on first use")
    teacher_parts: str = setting(
        "teacher", "all", "parts of the checkpoint to load; backbone+neck where its head is of another kind",
        ("all", "backbone+neck"), later=True)
    teacher_epochs: int = setting("teacher", 8, "epochs when a teacher is trained", minimum=1, decides_teacher=True)
    teacher_steps: int = setting(
        "teacher", 0, "steps when a teacher is trained; 0 = teacher_epochs", later=True, decides_teacher=True)
    teacher_lr: float = setting(
        "teacher", 2e-3, "peak learning rate when a teacher is trained (AdamW, cosine)", decides_teacher=True)
    teacher_batch_size: int = setting(
        "teacher", 16, "images per step when a teacher is trained", minimum=1, maximum=65536, decides_teacher=True)
    teacher_seed: int = setting("teacher", 0, "seed when a teacher is trained", decides_teacher=True)
    teacher_floor: float = setting("teacher", 0.0, "AP on the eval split below which a teacher is refused")
    teacher_cache: str = setting(
        "method", "auto", "store the teacher's feature maps instead of running the teacher in each step",
        ("auto", "on", "off"))
    teacher_cache_gb: float = setting("method", 4.0, "largest teacher cache in GB of disk")
    inherit: bool = setting(
        "detector", False, "start the student's neck and head from the teacher's weights where names and shapes agree")
    # distillation
    method: str = setting(
        "method", "none", "distillation method; none = a plain student; FILE.py:CLASS = a custom loss", METHODS,
        or_with=".py:")
    strength: float = setting("method", 1.0, "factor on every weight of the method's terms")
    loss_ratio: float = setting(
        "method", 0.0, "above 0: scale the distillation loss to this multiple of the task loss, measured over the "
        "first 50 steps")
    equal_terms: bool = setting(
        "method", False, "with loss_ratio: every term gets an equal part of it; else the coefficients decide the parts")
    levels: str = setting(
        "method", "", "pyramid levels to imitate, comma-separated (P3,P4,P5); empty = all that student and teacher "
        "share", later=True)
    method_parts: str = setting(
        "method", "", "parts of the method to use, comma-separated (fbkd: feature,channel,spatial,relation); empty = "
        "all")
    alpha: float = fgd_setting("alpha")
    beta: float = fgd_setting("beta")
    gamma: float = fgd_setting("gamma")
    lambda_: float = fgd_setting("lambda_")
    temperature: float = fgd_setting("temperature")
    area: str = fgd_setting("area")
    spatial_attention: bool = fgd_setting("spatial_attention")
    channel_attention: bool = fgd_setting("channel_attention")
    relation: str = fgd_setting("relation")
    rounding: str = fgd_setting("rounding")
    frame: str = fgd_setting("frame")
    axes: str = fgd_setting("axes")
    attention_of: str = fgd_setting("attention_of")
    fused: str = setting(
        "fgd", "auto", "fused implementation of FGD, equal up to rounding: auto = where it applies, on a GPU if it "
        "is faster; on = required; off", ("auto", "on", "off"), later=True)
    # training
    epochs: int = setting("training", 2, "passes over the training images", minimum=1)
    train_steps: int = setting("training", 0, "optimiser steps in place of epochs; 0 = epochs decide", later=True)
    batch_size: int = setting("training", 8, "images per step", minimum=1, maximum=65536)
    optimizer: str = setting("training", "adamw", "the optimiser", ("adamw", "sgd"))
    lr: float = setting("training", 5e-3, "peak learning rate")
    weight_decay: float = setting("training", 1e-2, "weight decay")
    momentum: float = setting("training", 0.9, "momentum of sgd")
    schedule: str = setting(
        "training", "cosine", "cosine to 0; step: x 0.1 after 2/3 and 11/12 of all steps (epochs 16 and 22 of 24); "
        "plateau: x 0.1 the first two times that patience ends", ("cosine", "step", "plateau"))
    warmup: float = setting("training", 0.1, "part of all steps, 0..1, during which the learning rate rises linearly")
    clip: float = setting(
        "training", 10.0, "largest L2 norm of the gradient; 0 = no limit (35 in the authors' configs)")
    ema: float = setting(
        "training", 0.0, "decay of an average of the weights, such as 0.999, which is evaluated and kept; 0 = none",
        later=True, decides_teacher=True)
    patience: int = setting(
        "training", 0, "early stopping: end after so many evaluations on tune_split without a better AP, with the best "
        "weights; 0 = never. Rows of a table then train for different numbers of steps", later=True,
        decides_teacher=True)
    tune_split: str = setting(
        "training", "tune", "the split that patience evaluates on; no image of training or evaluation", later=True,
        decides_teacher=True)
    tune_every: int = setting(
        "training", 0, "steps between two evaluations on tune_split; 0 = one per epoch", later=True,
        decides_teacher=True)
    accumulate: int = setting(
        "training", 1, "gradient accumulation: parts per batch and process, for less memory; learned norms see one "
        "part at a time", minimum=1, maximum=65536, later=True)
    min_sizes: str = setting(
        "training", "", "training: short sides to draw from, one per step, comma-separated (640,800); empty = min_size",
        later=True)
    aspect_groups: bool = setting(
        "training", False, "batches hold either wide or tall images, for less padding", later=True)
    precision: str = setting(
        "training", "fp32", "bf16 or fp16 = autocast of the networks; distillation sums stay float32",
        ("fp32", "bf16", "fp16"), decides_teacher=True)
    channels_last: bool = setting(
        "training", True, "channels-last memory format: faster, equal up to rounding", later=True)
    compile: bool = setting(
        "training", False, "torch.compile of backbone and neck, student's and teacher's; needs a compiler on this "
        "machine", later=True)
    device: str = setting("machine", "auto", "auto = CUDA if there is one", ("auto", "cpu", "cuda"))
    threads: int = setting(
        "machine", 1, "CPU threads of a run; they change the last digits of its numbers", minimum=1, maximum=1024)
    workers: int = setting(
        "machine", 0, "processes that load images; 0 = the run's own process", maximum=1024, decides_numbers=False)
    tensorboard: bool = setting(
        "machine", False, "also write every logged row and AP to tensorboard/ in the run's folder; needs the package "
        "tensorboard", later=True, decides_numbers=False)
    wandb: bool = setting(
        "machine", False, "also send every logged row and AP to Weights & Biases; where WANDB_MODE is offline, to "
        "wandb/ in the run's folder; needs the package wandb", later=True, decides_numbers=False)
    mlflow: bool = setting(
        "machine", False, "also send every logged row and AP to MLflow, where MLFLOW_TRACKING_URI says; needs the "
        "package mlflow", later=True, decides_numbers=False)
    log_every: int = setting("machine", 25, "steps between two rows in metrics.jsonl", minimum=1, decides_numbers=False)
    snapshot_every: int = setting(
        "machine", 0, "steps between two snapshots of the student for the explorer, in snapshots/; 0 = none",
        decides_numbers=False)
    checkpoint_every: int = setting(
        "machine", 0, "steps between two checkpoints; 0 = one per epoch", decides_numbers=False)
    seed: int = setting("training", 0, "seed of the student's weights and of the order of images")
    scale: str = setting(
        "machine", "laptop", "the settings before flags change single ones: smoke, laptop, photos, gpu or paper; "
        "only a label with --preset and in notebooks", decides_numbers=False)

    def __post_init__(self):
        for each in fields(self):
            object.__setattr__(self, each.name, checked(each, getattr(self, each.name)))
        if not self.temperature > 0:
            raise UserError(f"temperature must be above 0, got {self.temperature}; 0.5 is the paper's")
        for name in ("flip", "warmup", "colour", "ema"):
            if getattr(self, name) > 1:
                raise UserError(f"{name} must lie in 0..1, got {getattr(self, name)}; give a number such as 0.5")

    @classmethod
    def of(cls, settings: dict) -> "RunConfig":
        check_names(settings)
        return cls(**settings)

    def but(self, **changes) -> "RunConfig":
        check_names(changes)
        return replace(self, **changes)

    def dict(self) -> dict:
        return asdict(self)

    def identity(self) -> dict:
        """What a run's id hashes: what decides numbers, without ``later`` settings at their defaults."""
        return {
            name: value
            for name, value in self.deciding().items() if value != DEFAULTS[name] or not METADATA[name]["later"]
        }

    def deciding(self) -> dict:
        return {name: value for name, value in self.dict().items() if METADATA[name]["decides_numbers"]}

    def fgd(self) -> FGDConfig:
        return FGDConfig(**{each.name: getattr(self, each.name) for each in fields(FGDConfig)})


DEFAULTS = {each.name: each.default for each in fields(RunConfig)}
METADATA = {each.name: each.metadata for each in fields(RunConfig)}


def settings_about(*groups: str) -> tuple[str, ...]:
    return tuple(name for name, about in METADATA.items() if about["group"] in groups)


def check_names(settings: dict) -> None:
    for name in settings:
        check_name("parameter", name, DEFAULTS)


def checked(which, value):
    name, kind, about = which.name, type(which.default), which.metadata
    choices, or_with, minimum, help = about["choices"], about["or_with"], about["minimum"], about["help"]
    wanted = "one of " + ", ".join(choices) if choices else "a " + NAMES[kind]
    wrong = UserError(f"{name} must be {wanted}, got {value!r}; {help}")
    if isinstance(value, bool) and choices and "off" in choices:  # YAML reads on and off as yes and no
        value = "on" if value else "off"
    if kind is float and isinstance(value, (int, str)) and not isinstance(value, bool):  # YAML reads 1e-3 as a word
        try:
            value = float(value) + 0.0  # -0.0 and 0.0 are one setting
        except (ValueError, OverflowError):
            raise wrong from None
    if type(value) is not kind or (choices and value not in choices and not (or_with and or_with in value)):
        raise wrong
    if kind in (int, float) and not minimum <= value < float("inf"):
        raise UserError(f"{name} must be a finite number of at least {minimum:g}, got {value!r}; {help}")
    most = {int: about["maximum"], float: LARGEST}.get(kind)
    if most is not None and value > most:
        raise UserError(f"{name} must be at most {most}, got {value}; {help}")
    return value


NAMES = {int: "whole number", float: "number", bool: "true or false", str: "word"}
