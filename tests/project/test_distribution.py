"""The wheel: what it needs, what it carries, and that it works in any folder without the project."""
import re
import subprocess
import sys
import zipfile
from email import message_from_bytes
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement

import fgdlab
from fgdlab.lab.errors import UserError
from fgdlab.lab.provenance import code, provenance
from fgdlab.lab.reports import publishing
from fgdlab.lab.sweeps import INSTALLED, spec

ROOT = Path(fgdlab.__file__).parents[1]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    """Built from the source archive, as an index and a packager do."""
    out = tmp_path_factory.mktemp("dist")
    subprocess.run(
        [sys.executable, "-m", "build", "--no-isolation", "--outdir", out, ROOT], check=True, capture_output=True)
    subprocess.run(
        [sys.executable, "-m", "twine", "check", "--strict", *out.iterdir()], check=True, capture_output=True)
    return next(out.glob("*.whl"))


@pytest.fixture(scope="module")
def installed(wheel, tmp_path_factory) -> Path:
    """The wheel in the environment of another project, which is a git repository."""
    project = tmp_path_factory.mktemp("another")
    git = ["git", "-C", project, "-c", "user.name=a", "-c", "user.email=a@b"]
    subprocess.run(["git", "init", "-q", project], check=True)
    subprocess.run([*git, "commit", "-q", "--allow-empty", "-m", "another project"], check=True)
    site = project / ".venv/lib/site-packages"
    zipfile.ZipFile(wheel).extractall(site)
    return site


def run(installed, folder, *words, isolated=False):
    """A Python of the wheel in ``folder``. ``isolated``: without any other package."""
    flags = ["-S"] if isolated else []
    return subprocess.run(
        [sys.executable, *flags, *words], cwd=folder, capture_output=True, text=True,
        env={"PYTHONPATH": str(installed), "PATH": "", "HOME": str(folder), "FGDLAB_HOME": str(folder / "home")})


@pytest.fixture(scope="module")
def metadata(wheel):
    with zipfile.ZipFile(wheel) as archive:
        name = next(name for name in archive.namelist() if name.endswith("METADATA"))
        return message_from_bytes(archive.read(name))


@pytest.mark.slow
def test_the_wheel_needs_torch_alone(metadata):
    needed = [Requirement(each) for each in metadata.get_all("Requires-Dist")]
    assert [each.name for each in needed if each.marker is None] == ["torch"]
    assert {"lab", "fast", "dask", "slurm"} <= set(metadata.get_all("Provides-Extra"))


@pytest.mark.slow
def test_the_version_is_that_of_the_package_and_of_the_citation(metadata):
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert metadata["Version"] == fgdlab.__version__ == str(citation["version"])
    assert f"## {fgdlab.__version__}" in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")


@pytest.mark.slow
def test_an_index_shows_authors_licence_pythons_and_addresses(metadata):
    assert metadata["Author"] == "The fgdlab authors" and metadata["License-Expression"] == "MIT"
    classifiers = metadata.get_all("Classifier")
    assert [each[-4:] for each in classifiers if each.startswith("Programming Language :: Python :: 3.")] == [
        "3.11", "3.12", "3.13"]
    urls = dict(each.split(", ") for each in metadata.get_all("Project-URL"))
    assert set(urls) == {"Paper", "Authors' code"} and all(each.startswith("https://") for each in urls.values())


@pytest.mark.slow
def test_the_page_of_an_index_has_the_readme_without_links_that_would_break(metadata):
    page = metadata.get_payload()
    assert page.startswith("# fgdlab")
    links = re.findall(r"\]\(([^)]*)\)", page)
    assert links and all(link.startswith("https://") for link in links)


@pytest.mark.slow
def test_the_wheel_carries_sweeps_results_notebooks_and_weights(wheel):
    names = set(zipfile.ZipFile(wheel).namelist())
    for pattern in ("sweeps/*.yaml", "results/*.csv", "run_one.ipynb", "report.ipynb"):
        ours = {f"fgdlab/lab/{path.relative_to(ROOT).as_posix()}" for path in ROOT.glob(f"ablations/{pattern}")}
        assert ours and ours <= names
    assert any(name.startswith("fgdlab/lab/weights/") for name in names)


@pytest.mark.slow
def test_the_wheel_says_that_it_has_types(wheel):
    assert "fgdlab/py.typed" in zipfile.ZipFile(wheel).namelist()


@pytest.mark.slow
def test_the_command_without_the_bench_says_which_extra_it_needs(installed, tmp_path):
    for words in (("-m", "fgdlab"), ("-c", "from fgdlab.__main__ import main; main()")):
        done = run(installed, tmp_path, *words, isolated=True)
        assert done.returncode == 1 and done.stderr.startswith("Error: the command fgdlab must have the extra lab, got")
        assert "pip install 'fgdlab[lab]'" in done.stderr and "Traceback" not in done.stderr


@pytest.mark.slow
def test_sweeps_tables_and_runs_work_in_an_empty_folder(installed, tmp_path):
    listed = run(installed, tmp_path, "-m", "fgdlab", "sweep", "table1_areas", "--scale", "smoke", "--dry-run")
    assert listed.returncode == 0 and "5 of 5 runs" in listed.stdout
    table = run(installed, tmp_path, "-m", "fgdlab", "table", "table1_areas")
    assert table.returncode == 0 and "both, split" in table.stdout
    sweep = {"title": "One row", "question": "Does it run?", "baseline": "none", "seeds": [0], "rows": {
        "none": {"label": "none", "set": {"method": "none"}}}}
    (tmp_path / "one.yaml").write_text(yaml.safe_dump(sweep))
    done = run(installed, tmp_path, "-m", "fgdlab", "sweep", "one.yaml", "--scale", "smoke", "--jobs", "1")
    assert done.returncode == 0, done.stderr
    assert list(tmp_path.glob("runs/one-smoke/*/run.ipynb"))


@pytest.mark.slow
def test_a_run_of_the_wheel_records_the_version_and_no_commit_of_the_project_around_it(installed, tmp_path):
    text = "from fgdlab.lab.provenance import provenance as p; print(*map(p().get, ('fgdlab', 'commit', 'dirty')))"
    assert run(installed, tmp_path, "-c", text).stdout.split() == [fgdlab.__version__, "None", "None"]


def test_provenance_has_the_version_and_the_commit_of_its_own_checkout(monkeypatch):
    assert provenance()["fgdlab"] == fgdlab.__version__
    monkeypatch.setattr(code, "ROOT", ROOT / "tests")
    assert code.git_state() == {"commit": None, "dirty": None}


def test_a_table_is_not_published_into_an_installed_package(monkeypatch):
    monkeypatch.setattr(publishing, "ablations_folder", lambda: INSTALLED)
    with pytest.raises(UserError, match="must be published in a checkout of the project"):
        publishing.publish(None, spec.load_sweep("table1_areas"))
