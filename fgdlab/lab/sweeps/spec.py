"""The YAML of a sweep: the question, the paper's numbers, the rows, the seeds, and what each scale changes."""
import json
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path

from ..config import SCALES, RunConfig, check_names, preset_settings, scale_settings
from ..errors import UserError, check_name, unknown_name
from ..io import load_yaml

REQUIRED = ("title", "question", "baseline", "rows", "seeds")
KEYS = {*REQUIRED, "extends", "source", "tuning", "base", "contrasts", "cost", "curve", "scales", "teacher_seeds"}
ROW_KEYS = {"label", "paper", "set", "against"}
SCALE_KEYS = {"base", "rows", "absent", "seeds", "teacher_seeds", "note", "tuning", "preset", "presets"}
INSTALLED = Path(__file__).parents[1] / "ablations"  # setup.py puts it there
UNTUNED = "None at this scale: the authors' weights where the sweep sets no others, since the numbers mean nothing"


@dataclass(frozen=True)
class Row:
    """One row of a table. against: the row that it is compared with; "": the baseline."""

    label: str
    paper: dict[str, float]
    set: dict
    against: str = ""


@dataclass(frozen=True)
class Sweep:
    """One table of the workbench.

    teacher_seeds: of several teachers. Seed s learns from the teacher of number s modulo their count, in every row, so
        that rows are compared under one teacher. Empty: the ``teacher_seed`` of the settings.
    scales: {scale: what it changes}, with the keys ``SCALE_KEYS``.
    curve: the setting along which the figure draws its rows, such as epochs; "": the figure has one line per row.
    absent: {row: reason} of the rows that cannot be run at the scale chosen by :meth:`at`; tables show a dash for them.
    cost: {row: time of a training step over that of the plain step}, from the benchmark that the YAML names.
    """

    name: str
    title: str
    question: str
    source: str
    tuning: str
    baseline: str
    base: dict
    rows: dict[str, Row]
    seeds: list[int]
    teacher_seeds: list[int] = field(default_factory=list)
    contrasts: list[tuple[str, str]] = field(default_factory=list)
    scales: dict[str, dict] = field(default_factory=dict)
    cost: dict[str, float] = field(default_factory=dict)
    curve: str = ""
    absent: dict[str, str] = field(default_factory=dict)

    @property
    def present(self) -> list[str]:
        return [row for row in self.rows if row not in self.absent]

    def settings(self, row: str, seed: int, scale: str = "laptop", overrides: dict | None = None) -> RunConfig:
        """Settings of one run. Later ones win: scale, preset, sweep, the scale's changes to it, row, ``overrides``."""
        check_settings(overrides, "settings for every row")
        changes = self.scales.get(scale) or {}
        preset = (changes.get("presets") or {}).get(row) or changes.get("preset")
        teachers = changes.get("teacher_seeds") or self.teacher_seeds
        return RunConfig.of({
            **scale_settings(scale), **(preset_settings(str(preset)) if preset else {}),
            **({"teacher_seed": teachers[seed % len(teachers)]} if teachers else {}),
            **self.base, **(changes.get("base") or {}),
            **self.rows[row].set, **((changes.get("rows") or {}).get(row) or {}), **(overrides or {}), "seed": seed,
        })

    def at(self, scale: str, seeds: list[int] | None = None) -> "Sweep":
        """The same with the seeds, absent rows and tuning of a scale. Given seeds win over the scale's."""
        scale_settings(scale)
        changes = self.scales.get(scale) or {}
        chosen = check_seeds(seeds or changes.get("seeds") or self.seeds, "--seeds" if seeds else "seeds")
        tuning = stripped(changes.get("tuning")) or (UNTUNED if scale == "smoke" else self.tuning)
        return replace(self, seeds=chosen, absent=dict(changes.get("absent") or {}), tuning=tuning)


# --- files ---

def ablations_folder() -> Path:
    """``ablations`` of the current folder, else of this checkout, else of the installed package."""
    places = [Path.cwd(), Path(__file__).parents[3], INSTALLED.parent]
    return next((place / "ablations" for place in places if (place / "ablations/sweeps").is_dir()), INSTALLED)


def sweep_names() -> list[str]:
    return sorted(path.stem for path in (ablations_folder() / "sweeps").glob("*.yaml"))


def of_scale(name: str, scale: str) -> str:
    """``NAME`` for the laptop, else ``NAME-SCALE``: the name of run folders, committed results and README sections."""
    return name if scale == "laptop" else f"{name}-{scale}"


def results_file(name: str, scale: str) -> Path:
    return ablations_folder() / "results" / f"{of_scale(name, scale)}.csv"


def load_sweep(name: str) -> Sweep:
    """A sweep by name, or by the path of a YAML file. UserError with the file's name for any defect in it."""
    path = Path(name) if name.endswith((".yaml", ".yml")) else ablations_folder() / "sweeps" / f"{name}.yaml"
    if not path.is_file():
        raise unknown_name("sweep", name, sweep_names(), "or give the path of a .yaml file")
    for scale in SCALES:
        if path.stem.endswith(f"-{scale}"):
            raise UserError(
                f"the name of a sweep must not end in -{scale}, got {path.stem!r}; results at scale {scale} have such "
                "names: rename the file")
    try:
        return parse_sweep(path.stem, read_yaml(path))
    except UserError as error:
        raise UserError(f"{path.name}: {error}") from None


def read_yaml(path: Path, extended_by: tuple[Path, ...] = ()) -> dict:
    if path in extended_by:
        names = " extends ".join(file.stem for file in (*extended_by, path))
        raise UserError(f"'extends' must end somewhere, got a circle: {names}; take one out")
    try:
        content = load_yaml(path.read_text(encoding="utf-8"))
    except UnicodeDecodeError as error:
        raise UserError(
            f"must be text in UTF-8, got other bytes ({error.reason} at byte {error.start}); save it as UTF-8"
        ) from error
    if not isinstance(content, dict):
        got = "nothing" if content is None else f"a {type(content).__name__}"
        raise UserError(
            f"must be a mapping with the keys {', '.join(sorted(KEYS))}, got {got}; the sweeps in ablations/sweeps "
            "show how")
    for key in content:
        check_name("key", key, sorted(KEYS))
    if "extends" not in content:
        return content
    name = content["extends"]
    if not isinstance(name, str) or Path(name).name != name:
        raise UserError(
            f"'extends' must be the name of a sweep, without folders, got {name!r}; write a name such as table1_areas")
    files = [folder / f"{name}.yaml" for folder in (path.parent, ablations_folder() / "sweeps")]
    parent = next((file for file in files if file.is_file()), None)
    if parent is None:
        raise unknown_name(
            "sweep", name, sweep_names(), "'extends' names a sweep in the same folder, or one of the project's")
    return merged(read_yaml(parent, (*extended_by, path)), content)


def merged(below: dict, above: dict) -> dict:
    result = {**below, **above}
    for key in below.keys() & above.keys():
        if isinstance(below[key], dict) and isinstance(above[key], dict):
            result[key] = merged(below[key], above[key])
    return result


# --- checks; ``what`` is named in the error ---

def stripped(value) -> str:
    return str(value or "").strip()


def check_mapping(value, what: str, keys: Iterable[str] = ()) -> dict:
    value = value or {}
    if not isinstance(value, dict):
        raise UserError(f"{what} must be a mapping of names to values, got {value!r}")
    for key in value if keys else ():
        check_name(f"key of {what}", key, sorted(keys))
    return value


def check_seeds(seeds, what: str) -> list[int]:
    if not isinstance(seeds, list) or any(type(seed) is not int or seed < 0 for seed in seeds) or (
            len({*seeds}) < len(seeds)):
        got = ",".join(map(str, seeds)) if isinstance(seeds, list) else seeds
        raise UserError(
            f"{what} must be different whole numbers of at least 0, got {got!r}; give each once, such as 0,1,2")
    return list(seeds)


def check_numbers(value, what: str) -> dict[str, float]:
    for score, number in check_mapping(value, what).items():
        if type(number) not in (int, float):
            raise UserError(
                f"{what} must have a number for {score!r}, got {number!r}; leave out what the paper does not say")
    return value or {}


def check_settings(value, what: str) -> dict:
    settings = check_mapping(value, what)
    check_names(settings)
    for name in ("seed", "scale"):
        if name in settings:
            raise UserError(
                f"{what} must leave {name} open, got {name}: {settings[name]!r}; {name}s are chosen when the sweep is "
                "run")
    return settings


# --- parsing ---

def parse_sweep(name: str, content: dict) -> Sweep:
    missing = [key for key in REQUIRED if content.get(key) in (None, "", [], {})]
    if missing:
        raise UserError(
            f"the keys {', '.join(missing)} must be given, got nothing there; the sweeps in ablations/sweeps show how")
    if not isinstance(content["baseline"], str):
        raise UserError(
            f"baseline must be the name of a row, got {content['baseline']!r}; put it in quotes, if it is a number")
    rows = {str(key): parse_row(str(key), row) for key, row in check_mapping(content["rows"], "rows").items()}
    for key, row in rows.items():
        if row.against:
            check_name(f"row that {key!r} is compared with", row.against, rows)
    if twice := {row.label for row in rows.values() if [each.label for each in rows.values()].count(row.label) > 1}:
        raise UserError(f"labels of rows must differ, got {min(twice)!r} twice; tables name rows by their labels")
    scales = check_mapping(content.get("scales"), "scales")
    for scale, changes in scales.items():
        check_scale_changes(scale, changes, rows, content["baseline"])
    contrasts = content.get("contrasts") or []
    if not isinstance(contrasts, list) or not all(
        isinstance(pair, list) and len(pair) == 2 and all(isinstance(row, str) for row in pair) for pair in contrasts
    ):
        raise UserError(
            f"contrasts must be a list of pairs of rows, such as [[split, fg]], got {contrasts!r}; put each pair in "
            "brackets of its own")
    for row in [content["baseline"], *(row for pair in contrasts for row in pair)]:
        check_name("row", row, rows)
    sweep = Sweep(
        name=name, title=str(content["title"]), **{
            key: stripped(content.get(key)) for key in ("question", "source", "tuning", "curve")},
        baseline=content["baseline"], base=check_settings(content.get("base"), "base"), rows=rows,
        seeds=check_seeds(content["seeds"], "seeds"),
        teacher_seeds=check_seeds(content.get("teacher_seeds") or [], "teacher_seeds"),
        contrasts=[tuple(pair) for pair in contrasts], scales=scales,
    )
    check_names([sweep.curve] if sweep.curve else [])
    sweep = replace(sweep, cost=step_costs(str(content["cost"]), sweep)) if content.get("cost") else sweep
    for scale in {"laptop", *scales}:
        for row in rows:
            sweep.settings(row, 0, scale)  # settings that no run may have are found here
    return sweep


def parse_row(key: str, content) -> Row:
    what = f"row {key!r}"
    row = check_mapping(content, what, ROW_KEYS)
    paper = check_numbers(row.get("paper"), f"'paper' of {what}")
    settings = check_settings(row.get("set"), f"'set' of {what}")
    return Row(str(row.get("label", key)), paper, settings, stripped(row.get("against")))


def check_scale_changes(scale: str, changes, rows: dict[str, Row], baseline: str) -> None:
    check_name("scale", scale, SCALES)
    what = f"scale {scale!r}"
    changes = check_mapping(changes, what, SCALE_KEYS)
    check_settings(changes.get("base"), f"'base' of {what}")
    for row, settings in check_mapping(changes.get("rows"), f"'rows' of {what}", rows).items():
        check_settings(settings, f"row {row!r} of {what}")
    absent = check_mapping(changes.get("absent"), f"'absent' of {what}", rows)
    for row, reason in absent.items():
        if not isinstance(reason, str) or not reason.strip():
            raise UserError(f"'absent' of {what} must say why row {row!r} cannot be run there, got {reason!r}")
    if baseline in absent:
        raise UserError(f"{what} must run the baseline, got {baseline!r} among its absent rows")
    for key in ("seeds", "teacher_seeds"):
        if changes.get(key) is not None:
            check_seeds(changes[key], f"{key} of {what}")
    presets = check_mapping(changes.get("presets"), f"'presets' of {what}", rows)
    if scale != "paper" and (presets or changes.get("preset")):
        raise UserError(f"presets must stand at scale 'paper', got them at {scale!r}; give settings there instead")


def step_costs(path: str, sweep: Sweep) -> dict[str, float]:
    """{row: cost of a step by its method}, from the JSON of ``python -m benchmarks.methods``, which has RetinaNet's."""
    try:
        ratios = json.loads((ablations_folder().parent / path).read_text(encoding="utf-8"))["over_plain"]
    except (OSError, ValueError, KeyError) as error:
        got = f"got {path!r} ({type(error).__name__}); run python -m benchmarks.methods"
        raise UserError(f"cost must name the JSON of a benchmark, {got}") from error
    configs = {row: sweep.settings(row, 0) for row in sweep.rows}
    return {
        row: ratios[config.method]
        for row, config in configs.items() if config.method in ratios and config.detector == "retinanet"
    }
