"""Bad settings: the command line, --set, the YAML of a sweep, a loss of one's own, and combinations that cannot be."""
import sys
from contextlib import contextmanager
from unittest import mock

import yaml

from .checkpoints import not_broken_into
from .world import PETS, RUN, SWEEP, TAUGHT, Row, holds, write

TABLE = ("sweep", "table1_areas", "--scale", "smoke")
MINE = ("sweep", "mine.yaml", "--scale", "smoke")
DIGITS = ("data", "digits", "--out", "digits")
ROWS_OF_MINE = {"none": {"set": {"area": "none"}}, "fg": {"set": {"area": "fg"}}}
GOOD = {"title": "t", "question": "q?", "baseline": "none", "seeds": [0], "rows": ROWS_OF_MINE}


def flags(name, says, *command) -> Row:
    return Row(name, None, ("run", *command), says)


def setting(name, says, *pairs) -> Row:
    return Row(name, None, (*TABLE, *(word for pair in pairs for word in ("--set", pair))), says)


def file(name, says, content, check=None) -> Row:
    """A sweep's YAML: a text as it is, or what to change in a good one."""
    return Row(
        name, holds("mine.yaml", content if isinstance(content, (str, bytes)) else yaml.safe_dump({**GOOD, **content})),
        MINE, says, check,
    )


def bomb() -> str:
    """Nine lines that are 10^9 words when written out."""
    lines = ["a: &a [x, x, x, x, x, x, x, x, x, x]"]
    for before, name in zip("abcdefgh", "bcdefghi", strict=True):
        lines.append(f"{name}: &{name} [{', '.join([f'*{before}'] * 10)}]")
    return "\n".join([*lines, "title: *i"])


def circle() -> None:
    write("mine.yaml", "extends: other\n")
    write("other.yaml", "extends: mine\n")


@contextmanager
def no_loggers():
    with mock.patch.dict(sys.modules, {"torch.utils.tensorboard": None, "wandb": None, "mlflow": None}):
        yield


def own(code: str) -> object:
    return holds("mine.py", code)


OWN = (*TAUGHT, "--method", "mine.py:Mine")

ROWS = [
    # commands and flags
    Row("an unknown command", None, ("swep",), "No such command 'swep'...; see `fgdlab --help`"),
    Row("a sweep without a name", None, ("sweep",), "Missing argument 'NAME'; see `fgdlab sweep --help`"),
    flags("an unknown flag", "No such option...'--epoch'...; see `fgdlab run --help`", "--epoch", "3"),
    flags(
        "a word for a number", "Invalid value for '--epochs': 'two' is not a valid integer; see `fgdlab run --help`",
        "--epochs", "two",
    ),
    flags("a word outside of the choice",
        "Invalid value for '--area': 'object' is not one of 'split', 'fg', 'bg', 'both', 'none'; see `fgdlab run "
        "--help`",
        "--area", "object"),
    flags(
        "a negative learning rate", "lr must be a finite number of at least 0, got -1.0; peak learning rate", "--lr",
        "-1",
    ),
    flags(
        "a learning rate of NaN", "lr must be a finite number of at least 0, got nan; peak learning rate", "--lr",
        "nan",
    ),
    flags("a learning rate of 1e300", "lr must be at most 1e+30, got 1e+300; peak learning rate", "--lr", "1e300"),
    flags("temperature 0", "temperature must be above 0, got 0.0; 0.5 is the paper's", "--temperature", "0"),
    flags(
        "a chance above 1", "flip must lie in 0..1, got 1.5; give a number such as 0.5", "--flip",
        "1.5",
    ),
    flags(
        "an unknown scale", "unknown scale 'labtop'; did you mean 'laptop'? known: smoke, laptop, photos, gpu, paper",
        "--scale", "labtop",
    ),
    flags("an unknown method",
        "method must be one of ..., got 'fgdd'; distillation method; none = a plain student; FILE.py:CLASS = a custom "
        "loss",
        "--method", "fgdd"),
    flags(
        "an unknown backbone", "unknown backbone 'compact_z'; did you mean 'compact_t'? known: ...", *PETS, "--student",
        "compact_z",
    ),
    flags("an unknown detector",
        "unknown detector 'retinanett'; did you mean 'retinanet'? known: retinanet, fcos, faster_rcnn, mask_rcnn, "
        "reppoints, gfl, yolox",
        *PETS, "--detector", "retinanett"),
    flags("a seed that torch cannot take",
        "seed must be at most 2147483647, got 1000000000000000000000000000000; seed of the student's weights and of "
        "the order of images",
        "--seed", str(10**30)),
    flags("a million threads",
        "threads must be at most 1024, got 1000000; CPU threads of a run; they change the last digits of its numbers",
        "--threads", "1000000"),
    flags("a million workers",
        "workers must be at most 1024, got 1000000; processes that load images; 0 = the run's own process", "--workers",
        "1000000"),
    flags("digit scenes of a gigapixel",
        "image_size must be at most 2048 pixels for digit scenes, got 32768; the photographs behind them have 640 x "
        "427",
        "--image-size", "32768"),
    flags("digit scenes smaller than a digit",
        "image_size must be at least 64 pixels for digit scenes, got 16; smaller ones have no room for a digit",
        "--image-size", "16"),
    flags("2,000,000,000 digit scenes",
        "digit scenes must number from 0 to 200000 a split, and not 0 in all, got train 2000000000, tune 400, val 400; "
        "give other numbers",
        "--train-images", "2000000000"),
    flags("no digit scene",
        "train_images and eval_images must be at least 1 for digit scenes, got 0 and 400; 0 means all, which a folder "
        "has and digit scenes have "
        "not", "--train-images", "0"),
    Row("data digits: a negative number", None, (*DIGITS, "--train", "-1"),
        "digit scenes must number from 0 to 200000 a split, and not 0 in all, got train -1, tune 400, val 400; give "
        "other numbers"),
    Row("data digits: nothing at all", None, (*DIGITS, "--train", "0", "--tune", "0", "--val", "0"),
        "digit scenes must number from 0 to 200000 a split, and not 0 in all, got train 0, tune 0, val 0; give other "
        "numbers"),
    Row(
        "data digits: a negative seed", None, (*DIGITS, "--seed", "-1"),
        "the seed of digit scenes must be at least 0, got -1; 0 is the usual one",
    ),
    Row("data digits: a folder that is there", None, ("data", "digits", "--out", "pets"),
        "--out must be a new folder, got 'pets'; delete it or choose another"),
    # combinations that cannot be
    Row("a cache of the teacher for mirrored images", None, (
        *TAUGHT, "--flip", "0.5", "--teacher-cache", "on", "--teacher-floor", "0",
    ),
        "teacher_cache=on must be possible, but images are augmented (flip=0.5, zoom=0, colour=0), so the "
        "pixels differ "
        "from epoch to epoch; views bounds their number; use teacher_cache=auto to run the teacher each step"),
    Row("pretrained weights for a backbone without any", None, (
        *RUN, "--init", "pretrained", "--detector", "yolox", "--student", "small_s",
    ),
        "init must be 'random' for yolox on 'small_s', got 'pretrained'; it starts from scratch"),
    Row("parts of a method without parts", None, (*TAUGHT, "--method-parts", "feature"),
        "method_parts must be empty for method fgd, which has no parts to choose from, got 'feature'; leave it out"),
    Row("an unknown part", None, (*TAUGHT, "--method", "fbkd", "--method-parts", "feture"),
        "unknown part of fbkd 'feture'; did you mean 'feature'? known: feature, channel, spatial, relation"),
    Row("a teacher below its floor", None, (*TAUGHT, "--teacher-floor", "99"),
        "the teacher's AP on 'val' must be at least 99, got 0.0 (retinanet-compact_s-....safetensors, trained now); "
        "train it longer "
        "(teacher_epochs) or give another (teacher_checkpoint)"),
    Row("sweep: a teacher below its floor", None, (*SWEEP, "--set", "teacher_floor=99"),
        "the teacher's AP on 'val' must be at least 99, got ... (retinanet-compact_s-....safetensors, trained now); "
        "train it longer (teacher_epochs) "
        "or give another (teacher_checkpoint)"),
    Row("numbers that run away", None, (*RUN, "--lr", "1e30", "--epochs", "3"),
        "loss term 'classification' on all must be finite, got nan at step 2; lower the learning rate or the term's "
        "weight"),
    # the paper's experiments
    Row("an unknown preset", None, ("run", "--preset", "retinanet_x101_r5", "--coco", "pets"),
        "unknown preset 'retinanet_x101_r5'; did you mean 'retinanet_x101_r50'? known: retinanet_x101_r50, ..."),
    Row("doctor: an unknown preset", None, ("doctor", "--preset", "fcos_r101", "--coco", "pets"),
        "unknown preset 'fcos_r101'; did you mean 'fcos_r101_r50'? known: retinanet_x101_r50, ..."),
    Row("a preset without --coco", None, ("run", "--preset", "retinanet_x101_r50"),
        "--preset must go with --coco DIR, got no folder; give the one with annotations/instances_train2017.json, "
        "train2017/ and so on"),
    Row("a preset, and no such folder", None, ("run", "--preset", "retinanet_x101_r50", "--coco", "nowhere"),
        "nowhere must be a folder with annotations.json and images/, got nothing there; correct the path"),
    Row("doctor: no such folder", None, ("doctor", "--data", "nowhere"),
        "WRONG  settings: nowhere must be a folder with annotations.json and images/, got nothing there; correct the "
        "path",
        elsewhere="test_bad_inputs.py::test_the_doctor_says_a_mistake_in_a_red_line"),
    # levels, flavours, sizes and parts
    Row(
        "a level that is none", None, (*TAUGHT, "--levels", "P3,P9"),
        "unknown level that student and teacher share 'P9'; known: P3, P4, P5",
    ),
    Row("levels with something else than commas between", None, (*TAUGHT, "--levels", "P3;P4"),
        "unknown level that student and teacher share 'P3;P4'; known: P3, P4, P5"),
    Row("an unknown flavour", None, (*RUN, "--flavour", "mmdetection"),
        "Invalid value for '--flavour': 'mmdetection' is not one of 'torchvision', 'mmdet'; see `fgdlab run --help`"),
    Row(
        "--set: an unknown flavour", None, (*TABLE, "--set", "flavour=mmdetection"),
        "flavour must be one of torchvision, mmdet, got 'mmdetection'; ...",
    ),
    Row("MMDetection's flavour on a compact backbone", None, (*RUN, "--flavour", "mmdet"),
        "detector must be 'retinanet' in torchvision's flavour on 'compact_s', got 'retinanet' in 'mmdet'; choose one "
        "of resnet18, resnet34, resnet50, resnet101"),
    *(Row(f"sides to draw from: {name}", None, (*RUN, "--min-sizes", text),
        f"min_sizes must be whole numbers of 32 to 65535 pixels with commas between, got '{text}'; 640,800 is FCOS's "
        f"in the paper")
        for name,
        text in (
            ("something else than commas", "640;800"), ("a fraction", "640.5"), ("8 pixels", "8"), ("below 0", "-640"),
            ("a comma too many", "640,"),
        )),
    Row("sides to draw from, and no side to be judged at", None, (*RUN, "--min-sizes", "64,96"),
        "min_sizes must go with a min_size, the size for evaluation, got '64,96' and none; give min_size=96"),
    Row("a long side below the short one", None, (*RUN, "--min-size", "900", "--max-size", "300"),
        "max_size must go with a min_size that is not above it, got 300 and 900; the paper's are 1333 and 800"),
    Row(
        "a batch in no part", None, (*RUN, "--accumulate", "0"),
        "accumulate must be a finite number of at least 1, got 0; gradient accumulation: ...",
    ),
    Row(
        "a batch in a million parts", None, (*RUN, "--accumulate", "1000000"),
        "accumulate must be at most 65536, got 1000000; gradient accumulation: ...",
    ),
    Row("a batch of two in three parts", None, (*RUN, "--accumulate", "3"),
        "batch_size must be at least 1 processes x accumulate 3, got 2; it counts the images of all processes"),
    Row("a batch that several processes cannot share", None, (*RUN, "--accumulate", "2"),
        "batch_size must be at least 4 processes x accumulate 2, got 7; it counts the images of all processes",
        elsewhere="test_distributed.py::test_a_batch_must_have_an_image_for_every_part_of_every_process"),
    *(Row(f"{title}, and no such package", None, (*TAUGHT, f"--{name}"),
          f"{name}=true must find the package {name}, got none; install it by `pip install 'fgdlab[{name}]'`, or leave "
          "it out",
          around=no_loggers)
      for name, title in (("tensorboard", "TensorBoard"), ("wandb", "Weights & Biases"), ("mlflow", "MLflow"))),
    flags(
        "a word after a switch", "Got unexpected extra argument (true); see `fgdlab run --help`", "--tensorboard",
        "true",
    ),
    # --set
    setting("--set: an unknown parameter", "unknown parameter 'epoch'; did you mean 'epochs'? known: ...", "epoch=3"),
    setting(
        "--set: a word for a number", "epochs must be a whole number, got 'two'; passes over the training images",
        "epochs=two",
    ),
    setting("--set: a word outside of the choice",
        "area must be one of split, fg, bg, both, none, got 'object'; cells that eq. 9 sums over; ...", "area=object"),
    setting(
        "--set: nothing after =", "epochs must be a whole number, got ''; passes over the training images", "epochs=",
    ),
    setting("--set: no =", "--set must be key=value, got 'epochs'; for example --set epochs=2", "epochs"),
    setting(
        "--set: a seed", "--set must name a setting that the sweep leaves open, got 'seed=3'; use --seeds", "seed=3",
    ),
    setting(
        "--set: a scale", "--set must name a setting that the sweep leaves open, got 'scale=laptop'; use --scale",
        "scale=laptop",
    ),
    setting(
        "--set: a date that is none",
        "epochs must be a whole number, got '2026-13-45'; passes over the training images", "epochs=2026-13-45",
    ),
    Row("--set: YAML that asks for code", None, (
        *TABLE, "--set", "epochs=!!python/object/apply:os.system [touch broken_into]",
    ),
        "epochs must be a whole number, got '!!python/object/apply:os.system [touch broken_into]'; passes over the "
        "training images",
        not_broken_into),
    setting("--set: no data folder",
        "nowhere must be a folder with annotations.json and images/, got nothing there; correct the path",
        "data=nowhere"),
    # names and numbers of a sweep
    Row("a misspelt sweep", None, ("sweep", "table1_area"),
        "unknown sweep 'table1_area'; did you mean 'table1_areas'? known: ...; or give the path of a .yaml file"),
    Row("a misspelt scale", None, ("sweep", "table1_areas", "--scale", "smok"),
        "unknown scale 'smok'; did you mean 'smoke'? known: smoke, laptop, photos, gpu, paper"),
    Row("seeds that are no numbers", None, (*TABLE, "--seeds", "0;1"),
        "Invalid value for '--seeds': must be whole numbers from 0 up with commas between, got '0;1'; see `fgdlab "
        "sweep --help`"),
    Row("a seed twice", None, (*TABLE, "--seeds", "0,0"),
        "--seeds must be different whole numbers of at least 0, got '0,0'; give each once, such as 0,1,2"),
    Row("a seed below 0", None, (*TABLE, "--seeds", "-1"),
        "Invalid value for '--seeds': must be whole numbers from 0 up with commas between, got '-1'; see `fgdlab "
        "sweep --help`"),
    Row(
        "no jobs", None, (*TABLE, "--jobs", "0"),
        "Invalid value for '--jobs': 0 is not in the range x>=1; see `fgdlab sweep --help`",
    ),
    Row(
        "a sweep's YAML that is not there", None, MINE,
        "unknown sweep 'mine.yaml'; known: ...; or give the path of a .yaml file",
    ),
    Row("a table of which nothing was run", holds("mine.yaml", yaml.safe_dump(GOOD)),
        ("table", "mine.yaml"),
        "results of mine must be in runs/mine/results.csv or .../ablations/results/mine.csv, got none; run `fgdlab "
        "sweep mine` first"),
    # a sweep's YAML
    file("YAML: a mistake in the text",
        "mine.yaml: must be YAML, got a mistake in line 3: ...; correct it there", "title: A\nseeds: [0\nrows: {}\n"),
    file("YAML: no bytes",
        "mine.yaml: must be a mapping with the keys base, baseline, contrasts, cost, curve, extends, question, rows, "
        "scales, seeds, source, teacher_seeds, title, tuning, got nothing; the sweeps in ablations/sweeps show "
        "how", ""),
    file("YAML: a list on top",
        "mine.yaml: must be a mapping with the keys base, baseline, contrasts, cost, curve, extends, question, rows, "
        "scales, seeds, source, teacher_seeds, title, tuning, got a list; the sweeps in ablations/sweeps show "
        "how", "- a\n- b\n"),
    file(
        "YAML: not UTF-8", "mine.yaml: must be text in UTF-8, got other bytes (... at byte 7); save it as UTF-8",
        b"title: \xff\xfe\n",
    ),
    file("YAML: code in a tag",
        "mine.yaml: must be YAML, got a mistake in line 1: ...; correct it there",
        "title: !!python/object/apply:os.system [touch broken_into]\n", not_broken_into),
    file("YAML: aliases that stand for 10^9 words", "mine.yaml: unknown key 'a'; known: ...", bomb()),
    file("YAML: a list that holds itself",
        "mine.yaml: the keys question, baseline, rows, seeds must be given, got nothing there; the sweeps in "
        "ablations/sweeps show how",
        "title: &a [*a]\n"),
    file("YAML: 5000 open brackets",
        "mine.yaml: must be YAML, got lists or mappings that are nested too deeply; correct it",
        "title: " + "[" * 5000),
    file("YAML: more than 100,000 characters",
        "mine.yaml: must be YAML of at most 100000 characters, got 100007; cut it into several files",
        "title: " + "x" * 100_000),
    file("YAML: a date that is none",
        "mine.yaml: must be YAML, got an invalid value: ...; put it in quotes, or correct it", "title: 2026-13-45\n"),
    file("YAML: a misspelt key",
        "mine.yaml: unknown key 'row'; did you mean 'rows'? known: base, baseline, contrasts, cost, curve, extends, "
        "question, rows, scales, seeds, source, teacher_seeds, title, tuning", {"row": {}}),
    file(
        "YAML: no rows",
        "mine.yaml: the keys rows must be given, got nothing there; the sweeps in ablations/sweeps show how",
        {"rows": {}},
    ),
    file(
        "YAML: a misspelt setting", "mine.yaml: unknown parameter 'aera'; did you mean 'area'? known: ...",
        {"base": {"aera": "fg"}},
    ),
    file("YAML: a word for a number",
        "mine.yaml: epochs must be a whole number, got 'two'; passes over the training images",
        {"base": {"epochs": "two"}}),
    file("YAML: a misspelt row",
        "mine.yaml: unknown key of 'rows' of scale 'laptop' 'nome'; did you mean 'none'? known: fg, none",
        {"scales": {"laptop": {"rows": {"nome": {"lr": 0.1}}}}}),
    file("YAML: a list for a baseline",
        "mine.yaml: baseline must be the name of a row, got ['none']; put it in quotes, if it is a number",
        {"baseline": ["none"]}),
    file("YAML: lists for a contrast",
        "mine.yaml: contrasts must be a list of pairs of rows, such as [[split, fg]], got [[['none'], ['fg']]]; put "
        "each pair in brackets of its "
        "own", {"contrasts": [[["none"], ["fg"]]]}),
    file("YAML: a word for the paper's AP",
        "mine.yaml: 'paper' of row 'bg' must have a number for 'AP', got 'high'; leave out what the paper does not say",
        {"rows": {**ROWS_OF_MINE, "bg": {"paper": {"AP": "high"}}}}),
    file("YAML: extends a folder elsewhere",
        "mine.yaml: 'extends' must be the name of a sweep, without folders, got '../other'; write a name such as "
        "table1_areas",
        {"extends": "../other"}),
    Row(
        "YAML: extends itself", circle, MINE,
        "mine.yaml: 'extends' must end somewhere, got a circle: mine extends other extends mine; take one out",
    ),
    # a loss of one's own
    Row("own loss: no such file", None, OWN,
        "method must name a file, got 'mine.py', which is none; give FILE.py:CLASS, the path from the current folder"),
    Row("own loss: no such class", own("from torch import nn\nclass Mein(nn.Module): pass\n"), OWN,
        "unknown class of mine.py 'Mine'; did you mean 'Mein'? known: Mein; it must be a torch.nn.Module: loss(scene, "
        "teacher_maps) -> "
        "list[Term]"),
    Row("own loss: a mistake in the file", own("def f(:\n"), OWN,
        "mine.py must be importable, got SyntaxError: ...; run it by itself to see where"),
    Row("own loss: a file that ends the program", own("raise SystemExit(0)\n"), OWN,
        "mine.py must be importable, got SystemExit: 0; run it by itself to see where"),
]
