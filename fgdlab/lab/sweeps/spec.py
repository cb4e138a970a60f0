"""A sweep's YAML: the question, the paper's numbers, the rows, the seeds, and what each scale changes.

    ablations/sweeps/NAME.yaml --load_sweep--> Sweep --settings(row, seed, scale, overrides)--> RunConfig
"""
import json
from dataclasses import dataclass, field, replace
from pathlib import Path

from ..config import SCALES, RunConfig, check_names, preset_settings, scale_settings
from ..errors import UserError, unknown_name
from ..io import load_yaml

KEYS = {"extends", "title", "question", "source", "tuning", "baseline", "base", "rows", "seeds", "contrasts", "cost", "scales"}
ROW_KEYS = {"label", "paper", "set", "against"}
SCALE_KEYS = {"base", "rows", "absent", "seeds", "note", "tuning", "preset", "presets"}
UNTUNED = "None at this scale: the authors' weights where the sweep sets no others, since the numbers mean nothing"


@dataclass(frozen=True)
class Row:
    """One row of a table: its label, the paper's numbers for it, the settings that make it; ``against``: the row it is compared with, "" for the baseline."""

    label: str
    paper: dict[str, float]
    set: dict
    against: str = ""


@dataclass(frozen=True)
class Sweep:
    """One table of the workbench. ``scales`` holds what a scale changes: base settings, settings of single rows, rows that it cannot run, seeds,
    how weights were chosen, a note on data and cost; at the paper's scale the ``preset`` of all rows and, in ``presets``, of single ones.

    ``absent``: {row: why} of the rows that the scale chosen by :meth:`at` cannot run; tables show them with a dash.
    ``cost``: {row: time of a training step over the plain step's}, from the benchmark that the YAML names; {} where it names none.
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
    contrasts: list[tuple[str, str]] = field(default_factory=list)
    scales: dict[str, dict] = field(default_factory=dict)
    cost: dict[str, float] = field(default_factory=dict)
    absent: dict[str, str] = field(default_factory=dict)

    @property
    def present(self) -> list[str]:
        """The rows that can be run at this scale, in the table's order."""
        return [row for row in self.rows if row not in self.absent]

    def settings(self, row: str, seed: int, scale: str = "laptop", overrides: dict | None = None) -> RunConfig:
        """Settings of one run: the scale's (or its preset's), then the sweep's, then the scale's changes to the sweep, then the row's, then the caller's."""
        settings_in(overrides, "settings for every row")
        here = self.scales.get(scale) or {}
        pair = (here.get("presets") or {}).get(row) or here.get("preset")
        merged = {
            **scale_settings(scale), **(preset_settings(pair) if pair else {}), **self.base, **(here.get("base") or {}), **self.rows[row].set, **((here.get("rows") or {}).get(row) or {}),
            **(overrides or {}), "seed": seed,
        }
        return RunConfig.of(merged)

    def at(self, scale: str, seeds: list[int] | None = None) -> "Sweep":
        """The same sweep with the seeds and rows that are run at this scale, and how its weights were chosen.

        Seeds are the given ones, else the scale's, else the sweep's.
        """
        scale_settings(scale)
        here = self.scales.get(scale) or {}
        chosen = checked_seeds(seeds or here.get("seeds") or self.seeds, "--seeds" if seeds else "seeds")
        tuning = one_text(here.get("tuning")) or (UNTUNED if scale == "smoke" else self.tuning)
        return replace(self, seeds=chosen, absent=dict(here.get("absent") or {}), tuning=tuning)


def ablations_folder() -> Path:
    """``ablations`` of the current folder if there is one, else of the checkout that this code runs from."""
    here = Path.cwd() / "ablations"
    return here if (here / "sweeps").is_dir() else Path(__file__).parents[3] / "ablations"


def sweep_names() -> list[str]:
    return sorted(path.stem for path in (ablations_folder() / "sweeps").glob("*.yaml"))


def one_text(value) -> str:
    return str(value or "").strip()


def of_scale(name: str, scale: str) -> str:
    """``NAME`` for the laptop, ``NAME-SCALE`` for another scale: what folders of runs, committed results and sections of the README are called."""
    return name if scale == "laptop" else f"{name}-{scale}"


def results_file(name: str, scale: str) -> Path:
    """Where the committed results of a sweep at a scale are, or would be."""
    return ablations_folder() / "results" / f"{of_scale(name, scale)}.csv"


def published() -> list[tuple[str, str]]:
    """(sweep, scale) of all committed results, in the order of their files."""
    found = []
    for path in sorted((ablations_folder() / "results").glob("*.csv")):
        scale = next((each for each in SCALES if each != "laptop" and path.stem.endswith(f"-{each}")), "laptop")
        found.append((path.stem if scale == "laptop" else path.stem.removesuffix(f"-{scale}"), scale))
    return found


def load_sweep(name: str) -> Sweep:
    """A sweep by name, or by path of a YAML file.

    Raises:
        UserError: no such sweep, not YAML, an unknown or missing key, settings that no run may have; the message names the file.
    """
    path = Path(name) if name.endswith((".yaml", ".yml")) else ablations_folder() / "sweeps" / f"{name}.yaml"
    if not path.is_file():
        raise unknown_name("sweep", name, sweep_names(), "or give the path of a .yaml file")
    for scale in SCALES:
        if path.stem.endswith(f"-{scale}"):
            raise UserError(f"a sweep's name must not end in -{scale}, got {path.stem!r}; results at scale {scale} are called so: rename the file")
    try:
        return parse_sweep(path.stem, read_yaml(path))
    except UserError as error:
        raise UserError(f"{path.name}: {error}") from None


def read_yaml(path: Path, below: tuple[Path, ...] = ()) -> dict:
    """The file's mapping, on top of the one that it extends. ``below``: files that extend this one."""
    if path in below:
        raise UserError(f"'extends' must end somewhere, got a circle: {' extends '.join(each.stem for each in (*below, path))}; take one out")
    try:
        content = load_yaml(path.read_text(encoding="utf-8"))
    except UnicodeDecodeError as error:
        raise UserError(f"must be text in UTF-8, got other bytes ({error.reason} at byte {error.start}); save it as UTF-8") from error
    if not isinstance(content, dict):
        got = "nothing" if content is None else f"a {type(content).__name__}"
        raise UserError(f"must be a mapping with the keys {', '.join(sorted(KEYS))}, got {got}; the sweeps in ablations/sweeps show how")
    for key in content:
        if key not in KEYS:
            raise unknown_name("key", key, sorted(KEYS))
    if "extends" not in content:
        return content
    if not isinstance(content["extends"], str) or Path(content["extends"]).name != content["extends"]:
        raise UserError(f"'extends' must be the name of a sweep, without folders, got {content['extends']!r}; write a name such as table1_areas")
    beside, ours = path.with_name(f"{content['extends']}.yaml"), ablations_folder() / "sweeps" / f"{content['extends']}.yaml"
    parent = beside if beside.is_file() else ours
    if not parent.is_file():
        raise unknown_name("sweep", content["extends"], sweep_names(), "'extends' names a sweep in the same folder, or one of the project's")
    return merged(read_yaml(parent, (*below, path)), content)


def merged(below: dict, above: dict) -> dict:
    """``above`` laid over ``below``, mappings key by key."""
    return {
        key: merged(below[key], above[key]) if isinstance(below.get(key), dict) and isinstance(above.get(key), dict) else above.get(key, below.get(key))
        for key in [*below, *(each for each in above if each not in below)]
    }


def checked_seeds(seeds, who: str) -> list[int]:
    """The seeds, if they are different whole numbers of at least 0; ``who`` is named in the error."""
    if not isinstance(seeds, list) or not all(type(seed) is int and seed >= 0 for seed in seeds) or len(set(seeds)) < len(seeds):
        raise UserError(f"{who} must be different whole numbers of at least 0, got {(','.join(map(str, seeds)) if isinstance(seeds, list) else seeds)!r}; give each once, such as 0,1,2")
    return list(seeds)


def mapping(value, what: str) -> dict:
    """The value if it is a mapping, {} if there is none; ``what`` is named in the error."""
    if not isinstance(value or {}, dict):
        raise UserError(f"{what} must be a mapping of names to values, got {value!r}")
    return value or {}


def paper_numbers(value, what: str) -> dict[str, float]:
    """A mapping of scores to numbers."""
    for score, number in mapping(value, what).items():
        if isinstance(number, bool) or not isinstance(number, (int, float)):
            raise UserError(f"{what} must have a number for {score!r}, got {number!r}; leave out what the paper does not say")
    return value or {}


def settings_in(value, what: str) -> dict:
    """A mapping of RunConfig fields; seed and scale are not among them, since the sweep itself sets these two."""
    settings = mapping(value, what)
    check_names(settings)
    for name in ("seed", "scale"):
        if name in settings:
            raise UserError(f"{what} must leave {name} open, got {name}: {settings[name]!r}; {name}s are chosen when the sweep is run")
    return settings


def known_keys(value: dict, known: set[str], what: str) -> dict:
    for key in value:
        if key not in known:
            raise unknown_name(f"key of {what}", key, sorted(known))
    return value


def parse_sweep(name: str, content: dict) -> Sweep:
    missing = [key for key in ("title", "question", "baseline", "rows", "seeds") if content.get(key) in (None, "", [], {})]
    if missing:
        raise UserError(f"the keys {', '.join(missing)} must be given, got nothing there; the sweeps in ablations/sweeps show how")
    if not isinstance(content["baseline"], str):
        raise UserError(f"baseline must be the name of a row, got {content['baseline']!r}; put it in quotes, if it is a number")
    rows = {}
    for key, row in mapping(content["rows"], "rows").items():
        row = known_keys(mapping(row, f"row {key!r}"), ROW_KEYS, f"row {key!r}")
        paper, settings = paper_numbers(row.get("paper"), f"'paper' of row {key!r}"), settings_in(row.get("set"), f"'set' of row {key!r}")
        rows[str(key)] = Row(str(row.get("label", key)), paper, settings, str(row.get("against") or ""))
    for key, row in rows.items():
        if row.against and row.against not in rows:
            raise unknown_name(f"row that {key!r} is compared with", row.against, rows)
    scales = mapping(content.get("scales"), "scales")
    for scale, changes in scales.items():
        if scale not in SCALES:
            raise unknown_name("scale", scale, SCALES)
        changes = known_keys(mapping(changes, f"scale {scale!r}"), SCALE_KEYS, f"scale {scale!r}")
        settings_in(changes.get("base"), f"'base' of scale {scale!r}")
        for row, settings in mapping(changes.get("rows"), f"'rows' of scale {scale!r}").items():
            if row not in rows:
                raise unknown_name(f"row of scale {scale!r}", row, rows)
            settings_in(settings, f"row {row!r} of scale {scale!r}")
        for row, why in mapping(changes.get("absent"), f"'absent' of scale {scale!r}").items():
            if row not in rows:
                raise unknown_name(f"absent row of scale {scale!r}", row, rows)
            if not isinstance(why, str) or not why.strip():
                raise UserError(f"'absent' of scale {scale!r} must say why row {row!r} cannot be run there, got {why!r}")
        check_presets(changes, scale, rows)
        if content["baseline"] in (changes.get("absent") or {}):
            raise UserError(f"scale {scale!r} must run the baseline, got {content['baseline']!r} among its absent rows")
        if changes.get("seeds") is not None:
            checked_seeds(changes["seeds"], f"seeds of scale {scale!r}")
    contrasts = content.get("contrasts") or []
    if not isinstance(contrasts, list) or not all(
        isinstance(pair, list) and len(pair) == 2 and all(isinstance(row, str) for row in pair) for pair in contrasts
    ):
        raise UserError(f"contrasts must be a list of pairs of rows, such as [[split, fg]], got {contrasts!r}; put each pair in brackets of its own")
    for row in [content["baseline"], *(row for pair in contrasts for row in pair)]:
        if row not in rows:
            raise unknown_name("row", row, rows)
    sweep = Sweep(
        name=name, title=str(content["title"]), question=str(content["question"]).strip(), source=str(content.get("source", "")).strip(),
        tuning=one_text(content.get("tuning")), baseline=content["baseline"], base=settings_in(content.get("base"), "base"), rows=rows,
        seeds=checked_seeds(content["seeds"], "seeds"), contrasts=[tuple(pair) for pair in contrasts], scales=scales,
    )
    sweep = replace(sweep, cost=step_costs(str(content["cost"]), sweep)) if content.get("cost") else sweep
    for scale in {"laptop", *scales}:
        for row in rows:
            sweep.settings(row, 0, scale)                            # settings that no run may have are found here, not when it starts
    return sweep


def check_presets(changes: dict, scale: str, rows: dict) -> None:
    """Presets are the paper's pairs, so they stand at the paper's scale, for rows that there are."""
    named = {**mapping(changes.get("presets"), f"'presets' of scale {scale!r}"), **({"": changes["preset"]} if changes.get("preset") else {})}
    if named and scale != "paper":
        raise UserError(f"presets must stand at scale 'paper', got them at {scale!r}; give settings there instead")
    for row, name in named.items():
        if row and row not in rows:
            raise unknown_name("row with a preset", row, rows)
        preset_settings(str(name))


def step_costs(path: str, sweep: Sweep) -> dict[str, float]:
    """What a step of each row costs, by the method it names, from the JSON of ``python -m benchmarks.methods``."""
    file = ablations_folder().parent / path
    try:
        ratios = json.loads(file.read_text(encoding="utf-8"))["over_plain"]
    except (OSError, ValueError, KeyError) as error:
        raise UserError(f"cost must name the JSON of a benchmark, got {path!r} ({type(error).__name__}); run python -m benchmarks.methods") from error
    configs = {row: sweep.settings(row, 0) for row in sweep.rows}
    return {row: ratios[config.method] for row, config in configs.items() if config.method in ratios and config.detector == "retinanet"}      # it was measured on RetinaNet
