"""Project files agree with each other and name no machine, and every link in a document leads to a file."""
import re
import subprocess
import tomllib
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

import fgdlab

ROOT = Path(fgdlab.__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
LOCK = (ROOT / "requirements.lock").read_text().splitlines()
PINNED = re.compile(r"(?P<name>[A-Za-z0-9._-]+)==(?P<version>[^\s;]+)\s*(?P<marker>;.*)?")


@pytest.fixture(scope="module")
def environment():
    return yaml.safe_load((ROOT / "environment.yml").read_text())


# ---- conda -----------------------------------------------------------------------------------------------------------

def test_environment_yml_names_the_project_and_channels_without_defaults(environment):
    assert environment["name"] == "fgdlab" and environment["channels"] == ["conda-forge", "nodefaults"]


def test_environment_yml_takes_its_packages_from_pyproject(environment):
    (pip,) = [each["pip"] for each in environment["dependencies"] if isinstance(each, dict)]
    assert pip == ["-e .[dev]"] and "pip" in environment["dependencies"]


def test_the_python_of_environment_yml_satisfies_pyproject(environment):
    (python,) = [each for each in environment["dependencies"] if isinstance(each, str) and each.startswith("python")]
    version = re.fullmatch(r"python=(\d+\.\d+)", python)[1]
    assert SpecifierSet(PROJECT["requires-python"]).contains(version + ".0")
    assert f"python{version}" in (ROOT / "Makefile").read_text()


# ---- pip -------------------------------------------------------------------------------------------------------------

def pins() -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for line in LOCK:
        if match := PINNED.fullmatch(line.strip()):
            found.setdefault(canonicalize_name(match["name"]), []).append(match["version"])
    return found


EXTRAS = PROJECT["optional-dependencies"]
UNLOCKED = ("wandb", "mlflow")                                       # large, and tests have stand-ins for them
NAMED = PROJECT["dependencies"] + [each for name, extra in EXTRAS.items() if name not in UNLOCKED for each in extra]
WANTED = [each for each in NAMED if not each.startswith("fgdlab[")]


@pytest.mark.parametrize("wanted", WANTED)
def test_the_lock_pins_every_dependency_within_its_range(wanted):
    requirement = Requirement(wanted)
    versions = pins().get(canonicalize_name(requirement.name), [])
    assert versions and all(requirement.specifier.contains(version, prereleases=True) for version in versions)


def test_the_lock_holds_nothing_but_pins_and_comments():
    """No URL, no index, no find-links, no path, no editable install: it installs from whatever index the user has."""
    strange = [
        line
        for line in LOCK
        if line.strip() and not line.lstrip().startswith("#") and not PINNED.fullmatch(line.strip())
    ]
    assert strange == []
    text = "\n".join(LOCK)
    assert not re.search(r"://|file:|--|\s@\s|(^|\s)-[a-z]\b", text, re.MULTILINE)
    assert not re.search(r"(^|[\s\"'=])[./~]*/\w", text, re.MULTILINE)


def test_pyproject_names_the_main_packages():
    assert [Requirement(each).name for each in PROJECT["dependencies"]] == ["torch"]
    names = {canonicalize_name(Requirement(each).name) for each in EXTRAS["lab"]}
    assert {
        "torch", "torchvision", "jupyterlab", "matplotlib", "pandas", "pycocotools", "papermill", "ipywidgets",
    } <= names


# ---- make ------------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("target", ["table1", "test", "lab", "bench"])
def test_make_has_the_target_on_the_environment_it_builds(target):
    (rule,) = re.findall(rf"^{target}:(.*)$", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert ".venv/ready" in rule.split("##")[0] and rule.split("##")[1].strip()


def test_ci_tests_the_oldest_torch_of_pyproject_and_waits_for_the_result():
    (floor,) = Requirement(PROJECT["dependencies"][0]).specifier
    (pinned,) = re.findall(r"^OLDEST = torch==(\S+)", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert floor.operator == ">=" and pinned.startswith(f"{floor.version}.")
    script = (ROOT / ".ci/run").read_text()
    assert script.index("make oldest") < script.index('wait "$oldest"') < script.index("((passed == 0))")


# ---- every file in git -----------------------------------------------------------------------------------------------

REGISTRIES = (
    r"(pypi\.org/simple|files\.pythonhosted\.org|test\.pypi|download\.pytorch\.org/whl|conda\.anaconda\.org"
    r"|registry\.npmjs|/simple/?\"|\.jfrog\.io)"
)
OPTIONS = r"(?<![\w-])--(?:extra-)?(?:index-url|find-links|trusted-host)"
MACHINE = r"(?<![\w.$~{}/-])/(?:work|root|home|Users|tmp|mnt|scratch)/[\w.]"


@pytest.fixture(scope="module")
def tracked() -> dict[str, str]:
    """{path: text} of every text file that git tracks, as it lies in the working tree, this one aside: it holds the
    patterns."""
    if not (ROOT / ".git").exists():
        pytest.skip("no git checkout here, so there is no list of the project's files")
    names = subprocess.run(
        ["git", "-C", str(ROOT), "ls-files", "-z"], check=True, capture_output=True, text=True,
    ).stdout.split("\0")
    found = {}
    for name in filter(None, names):
        path = ROOT / name
        if path.is_file() and path != Path(__file__) and b"\0" not in (content := path.read_bytes())[:8000]:
            found[name] = content.decode("utf-8")
    assert len(found) > 30
    return found


def hits(tracked, pattern) -> list[str]:
    return [f"{name}:{number}: {line.strip()[:120]}" for name, text in tracked.items()
            for number, line in enumerate(text.splitlines(), start=1) if re.search(pattern, line)]


def test_no_tracked_file_names_a_registry(tracked):
    assert hits(tracked, REGISTRIES) == [] and hits(tracked, OPTIONS) == []


def test_no_tracked_file_names_a_folder_of_a_machine(tracked):
    assert hits(tracked, MACHINE) == []


def test_the_patterns_find_registries_and_folders():
    sample = {
        "a": 'pip install --index-url https://x/simple', "b": "https://pypi.org/simple", "c": 'open("/work/main/x")',
        "d": "see /home/me/runs",
        "e": "ROOT=/tmp/w", "f": "-e /root/x",
    }
    assert (
        [each[0] for each in hits(sample, OPTIONS)] == ["a"] and [each[0] for each in hits(sample, REGISTRIES)] == ["b"]
    )
    assert [each[0] for each in hits(sample, MACHINE)] == ["c", "d", "e", "f"]
    fine = {
        "g": "--no-emit-index-url --no-emit-find-links",
        "h": "images/work/a.png https://x.org/home/a ~/work/a $HOME/tmp/x tests/root/a",
    }
    assert hits(fine, OPTIONS) == hits(fine, MACHINE) == hits(fine, REGISTRIES) == []


def test_nothing_that_can_be_made_again_is_tracked(tracked):
    assert [
        name
        for name in tracked
        if name.startswith(("runs/", ".venv/")) or "__pycache__" in name or ".ipynb_checkpoints" in name
    ] == []


# ---- links in documents ----------------------------------------------------------------------------------------------

DOCUMENTS = [
    "README.md", "README.zh-CN.md", "CONTRIBUTING.md", "SECURITY.md", "ablations/README.md",
    "tests/robustness/ROBUST.md",
    *(str(path.relative_to(ROOT)) for path in sorted((ROOT / "ablations/results").glob("*.md"))),
]


def anchors(path: Path) -> set[str]:
    """GitHub's anchors of the headings of a Markdown file."""
    headings = re.findall(r"^#+ (.+)$", path.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("document", DOCUMENTS)
def test_every_link_leads_to_a_file_and_a_heading(document):
    path = ROOT / document
    missing = []
    for target in re.findall(r"\]\(([^)\s]+)\)", path.read_text(encoding="utf-8")):
        file, _, anchor = target.partition("#")
        if "://" in target:
            continue
        linked = path.parent / file if file else path
        if not linked.exists() or anchor and anchor not in anchors(linked):
            missing.append(target)
    assert missing == []
