"""One run, described by plain numbers and words: YAML key = papermill parameter = field = flag of ``fgdlab run`` = CSV column."""
import json
from dataclasses import asdict, dataclass, field, fields, replace

from fgdlab.methods import METHOD_CLASSES as RIVALS

from ..errors import UserError, unknown_name

LARGEST = 1e30                                                       # above some 1e38 torch refuses a number where it is used, far from here
METHODS = ("none", "fgd", "fbkd", *RIVALS)


def knob(default, help: str, among: tuple[str, ...] = (), least: float | None = None, also: str = "", most: float = 2**31 - 1, later: bool = False):
    """A field with the words that ``fgdlab run --help`` prints, the values it may take, and the least and the greatest number allowed.

    ``also``: a word that holds this is taken besides those of ``among``. ``most`` holds for whole numbers; whatever a number allocates is bounded by
    it. Other numbers end at ``LARGEST``. ``later``: the knob came after results were published; see :meth:`RunConfig.identity`.
    """
    return field(default=default, metadata={"help": help, "among": among, "least": least, "also": also, "most": most, "later": later})


@dataclass(frozen=True)
class RunConfig:
    """Everything that decides a run's numbers. Defaults are the laptop scale: a compact student without distillation on digit scenes."""

    # data
    data: str = knob("digits", "'digits' for the built-in scenes, or the folder of a COCO-format data set")
    lookalikes: bool = knob(True, "digit scenes: draw letters, mirrored and turned digits that are no objects")
    image_size: int = knob(128, "digit scenes: side in pixels; a folder: longest side to shrink to, 0 = as it is", least=0, most=65535)
    train_images: int = knob(3600, "digit scenes: how many to make; a folder: at most so many, 0 = all", least=0)
    eval_images: int = knob(400, "digit scenes: how many for tune and for val; a folder: at most so many, 0 = all", least=0)
    train_split: str = knob("train", "the split to learn from")
    eval_split: str = knob("val", "the split to report; choose hyper-parameters on 'tune', never on what a table reports")
    flip: float = knob(0.0, "chance of mirroring a training image (not for digits); above 0 the teacher cannot be cached", least=0)
    # detectors
    detector: str = knob("retinanet", "detector of student and teacher")
    student: str = knob("compact_s", "the student's backbone")
    teacher: str = knob("compact_t", "the teacher's backbone")
    flavour: str = knob("torchvision", "whose P6, anchors, heads and norms; checkpoints of MMDetection need mmdet", among=("torchvision", "mmdet"), later=True)
    min_size: int = knob(0, "detectors resize images to this short side in pixels; 0 = they keep the size they come in", least=0, most=65535, later=True)
    max_size: int = knob(0, "with min_size: longest side in pixels; 0 = in proportion, 1333 for 800", least=0, most=65535, later=True)
    pretrained: bool = knob(False, "start backbones from ImageNet weights; torchvision downloads them")
    teacher_checkpoint: str = knob("", "the teacher's weights: a file, an https address, or torchvision:NAME of its weights; empty = shipped, cached, or trained on first use")
    teacher_parts: str = knob("all", "what of the checkpoint is loaded; backbone+neck leaves a head of another kind", among=("all", "backbone+neck"), later=True)
    teacher_epochs: int = knob(8, "passes over the data when a teacher is trained", least=1)
    teacher_lr: float = knob(2e-3, "peak learning rate when a teacher is trained (AdamW, cosine)", least=0)
    teacher_batch_size: int = knob(16, "images a step when a teacher is trained", least=1, most=65536)
    teacher_seed: int = knob(0, "seed when a teacher is trained", least=0)
    teacher_floor: float = knob(0.0, "AP on the eval split below which a teacher is refused", least=0)
    teacher_cache: str = knob("auto", "keep the teacher's maps instead of running it each step", among=("auto", "on", "off"))
    teacher_cache_gb: float = knob(4.0, "largest teacher cache, in GB of disk", least=0)
    inherit: bool = knob(False, "start the student's neck and head from the teacher's, where names and shapes agree")
    # distillation
    method: str = knob("none", "none trains a plain student; a loss of your own is FILE.py:CLASS", among=METHODS, also=".py:")
    strength: float = knob(1.0, "factor on every weight of the method's terms", least=0)
    loss_ratio: float = knob(0.0, "above 0: bring the distillation to this share of the detector's own loss, measured over the first 50 steps", least=0)
    equal_terms: bool = knob(False, "with a share: every term gets an equal part of it, instead of the parts that the coefficients give")
    levels: str = knob("", "pyramid levels to imitate, with commas (P3,P4,P5); empty for all that student and teacher share", later=True)
    method_parts: str = knob("", "of a method with several parts, those to use, with commas (fbkd: feature,channel,spatial,relation); empty for all")
    alpha: float = knob(1e-3, "weight of the foreground sum, eq. 9 (of the one sum with area=both)", least=0)
    beta: float = knob(5e-4, "weight of the background sum, eq. 9", least=0)
    gamma: float = knob(5e-4, "weight of the attention term, eq. 10", least=0)
    lambda_: float = knob(5e-6, "weight of the global term, eq. 12", least=0)
    temperature: float = knob(0.5, "T of the attentions, eqs. 7-8; above 0", least=0)
    area: str = knob("split", "cells that eq. 9 sums over", among=("split", "fg", "bg", "both", "none"))
    spatial_attention: bool = knob(True, "weigh by A^S, eq. 7")
    channel_attention: bool = knob(True, "weigh by A^C, eq. 8")
    relation: str = knob("gc", "R of the global term, eq. 13", among=("gc", "mse", "centred", "nonlocal", "none"))
    rounding: str = knob("authors", "boxes to cells: the authors' extra cell, or exact", among=("authors", "exact"))
    frame: str = knob("canvas", "boxes are divided by the padded canvas, or by the image as the authors do", among=("canvas", "image"))
    axes: str = knob("xy", "yx transposes the masks, as the authors' code did until January 2022", among=("xy", "yx"))
    attention_of: str = knob("teacher", "whose attention weighs eq. 9", among=("teacher", "student", "mean"))
    fused: str = knob(
        "auto", "FGD's sums from one or two reads of the maps, the same numbers to rounding: auto = on the CPU where numba is installed; on, or refused; off",
        among=("auto", "on", "off"), later=True,
    )
    # training
    epochs: int = knob(2, "passes over the training images", least=1)
    batch_size: int = knob(8, "images a step", least=1, most=65536)
    optimizer: str = knob("adamw", "the optimiser", among=("adamw", "sgd"))
    lr: float = knob(5e-3, "peak learning rate", least=0)
    weight_decay: float = knob(1e-2, "weight decay", least=0)
    momentum: float = knob(0.9, "momentum of sgd", least=0)
    schedule: str = knob("cosine", "cosine to 0, or two steps of 0.1 after 2/3 and 11/12 (16 and 22 of 24 epochs)", among=("cosine", "step"))
    warmup: float = knob(0.1, "share of all steps over which the learning rate rises linearly", least=0)
    clip: float = knob(10.0, "largest L2 norm of the gradient, 0 = no bound (35 in the authors' configs)", least=0)
    accumulate: int = knob(1, "parts that a process cuts its share of a step's images into, for less memory; norms that learn see a part at a time", least=1, most=65536, later=True)
    min_sizes: str = knob("", "training: short sides to draw from, one a step, with commas (640,800); empty for min_size alone", later=True)
    aspect_groups: bool = knob(False, "batches of wide images alone and of others alone, so that less is padding", later=True)
    precision: str = knob("fp32", "bf16 or fp16 = autocast of the networks; distillation sums stay float32", among=("fp32", "bf16", "fp16"))
    channels_last: bool = knob(True, "channels innermost in memory, which is faster; the same numbers to rounding", later=True)
    compile: bool = knob(False, "torch.compile of backbone and neck, student's and teacher's; needs a compiler on this machine", later=True)
    device: str = knob("auto", "auto = CUDA if there is one", among=("auto", "cpu", "cuda"))
    threads: int = knob(1, "CPU threads of a run; part of its numbers' last digits", least=1, most=1024)
    workers: int = knob(0, "processes that load images; 0 = in the run itself", least=0, most=1024)
    tensorboard: bool = knob(False, "write every logged row to tensorboard/ of the run's folder as well; needs the package tensorboard", later=True)
    log_every: int = knob(25, "steps between two rows in metrics.jsonl", least=1)
    snapshot_every: int = knob(0, "steps between two students kept in snapshots/, for the explorer; 0 for none", least=0)
    checkpoint_every: int = knob(0, "steps between two checkpoints; 0 = one an epoch", least=0)
    seed: int = knob(0, "seed of the student's weights and of the order of images", least=0)
    scale: str = knob("laptop", "the scale that settings are taken from (smoke, laptop, gpu), before flags change single ones; a label with --preset and in a notebook")

    def __post_init__(self):
        for each in fields(self):
            object.__setattr__(self, each.name, checked(each, getattr(self, each.name)))
        if not self.temperature > 0:
            raise UserError(f"temperature must be above 0, got {self.temperature}; 0.5 is the paper's")
        if self.flip > 1 or self.warmup > 1:
            raise UserError(f"flip and warmup must lie in 0..1, got {self.flip} and {self.warmup}; give shares such as 0.5")

    @classmethod
    def of(cls, settings: dict) -> "RunConfig":
        """From a dict of any origin (YAML, JSON, papermill); an unknown key is an error that names the nearest known one."""
        check_names(settings)
        return cls(**settings)

    def but(self, **changes) -> "RunConfig":
        """The same with some fields changed."""
        check_names(changes)
        return replace(self, **changes)

    def dict(self) -> dict:
        """Plain JSON types, one entry a field."""
        return asdict(self)

    def identity(self) -> dict:
        """What the ids of runs and the names of teachers hash: :meth:`dict` without later knobs at their defaults, so that a new knob leaves what was
        run before it its name."""
        return {each.name: value for each in fields(self) if (value := getattr(self, each.name)) != each.default or not each.metadata["later"]}

    def json(self) -> str:
        """Canonical JSON: equal configurations give equal text."""
        return json.dumps(self.dict(), sort_keys=True)

    def fgd(self):
        """The loss's own configuration, :class:`fgdlab.FGDConfig`."""
        from fgdlab import FGDConfig

        return FGDConfig(**{each.name: getattr(self, each.name) for each in fields(FGDConfig)})


def check_names(settings: dict) -> None:
    known = [each.name for each in fields(RunConfig)]
    for name in settings:
        if name not in known:
            raise unknown_name("parameter", name, known)


def checked(which, value):
    """A field's value in the field's type, or a UserError that names the field, what it takes and what came."""
    name, kind, among, least = which.name, type(which.default), which.metadata["among"], which.metadata["least"]
    wanted = "one of " + ", ".join(among) if among else "a " + NAMES[kind]
    wrong = UserError(f"{name} must be {wanted}, got {value!r}; {which.metadata['help']}")
    if isinstance(value, bool) and among and "off" in among:         # YAML reads on and off as yes and no
        value = "on" if value else "off"
    if kind is float and isinstance(value, (int, str)) and not isinstance(value, bool):          # YAML reads 1e-3 as a word
        try:
            value = float(value) + 0.0                               # -0.0 and 0.0 are one setting
        except (ValueError, OverflowError):
            raise wrong from None
    if type(value) is not kind or (among and value not in among and not (which.metadata["also"] and which.metadata["also"] in value)):
        raise wrong
    if least is not None and not least <= value < float("inf"):
        raise UserError(f"{name} must be a finite number of at least {least:g}, got {value!r}; {which.metadata['help']}")
    most = {int: which.metadata["most"], float: LARGEST}.get(kind)
    if most is not None and value > most:
        raise UserError(f"{name} must be at most {most}, got {value}; {which.metadata['help']}")
    return value


NAMES = {int: "whole number", float: "number", bool: "true or false", str: "word"}
