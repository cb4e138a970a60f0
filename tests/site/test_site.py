"""The site builds without a warning, needs no network, and every link, name and formula of it leads somewhere."""
import re
import subprocess
import sys
from functools import cache
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

import fgdlab
from fgdlab.lab.commands import main

ROOT = Path(fgdlab.__file__).parents[1]
LOADED = {"script": "src", "img": "src", "link": "href", "iframe": "src", "source": "src", "object": "data"}


class Page(HTMLParser):
    """Links, ids and what a browser loads."""

    def __init__(self, text):
        super().__init__()
        self.links, self.loads, self.ids = [], [], set()
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        values = dict(attributes)
        self.ids |= {values.get("id"), values.get("name")}
        if tag == "a" and values.get("href"):
            self.links.append(values["href"])
        if values.get(LOADED.get(tag)) and values.get("rel") != "canonical":
            self.loads.append(values[LOADED[tag]])


@pytest.fixture(scope="module")
def site(tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("site")
    done = subprocess.run(
        [sys.executable, ROOT / "notebooks/site/build.py", out], capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stdout + done.stderr  # a warning fails the build
    return out / "html"


@pytest.fixture(scope="module")
def pages(site) -> dict[Path, Page]:
    return {path: Page(path.read_text(encoding="utf-8")) for path in site.rglob("*.html")}


def unresolved(pages: dict[Path, Page]) -> list[str]:
    """Links and loads of pages that lead to no file, or to no place in it."""
    ids = cache(lambda path: pages[path].ids if path in pages else Page(path.read_text(encoding="utf-8")).ids)
    missing = []
    for path, page in pages.items():
        for link in page.links + page.loads:
            parts = urlsplit(link)
            if parts.scheme:
                continue
            target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            in_page = target.suffix == ".html" and parts.fragment and path.name != "search.html"
            if not target.exists() or in_page and unquote(parts.fragment) not in ids(target):
                missing.append(f"{path.name}: {link}")
    return missing


@pytest.mark.slow
def test_every_internal_link_leads_to_a_page_and_a_place_in_it(pages):
    assert len(pages) > 30 and unresolved(pages) == []


@pytest.mark.slow
def test_no_page_loads_anything_from_a_network(site, pages):
    assert [(path.name, each) for path, page in pages.items() for each in page.loads
            if urlsplit(each).scheme in ("http", "https") or each.startswith("//")] == []
    styles = "".join(path.read_text(encoding="utf-8") for path in site.rglob("*.css"))
    assert not re.search(r"(url\(|@import)\s*['\"]?(https?:)?//", styles)


@pytest.mark.slow
def test_each_public_name_has_an_entry(pages):
    ids = {each for page in pages.values() for each in page.ids}
    assert [name for name in fgdlab.__all__ if f"fgdlab.{name}" not in ids] == []


@pytest.mark.slow
def test_no_name_in_a_text_is_unresolved(site):
    """Sphinx puts a name that it cannot resolve into <code class="xref"> without a link around it."""
    found = {path.name: re.findall(r'(?<!">)<code class="xref[^>]*>.*?</code>', path.read_text(encoding="utf-8"))
             for path in (site / "site").glob("*.html")}
    assert {name: names for name, names in found.items() if names} == {}
    assert '"><code class="xref py' in (site / "site/api.html").read_text(encoding="utf-8")


@pytest.mark.slow
def test_each_notebook_is_a_page_with_its_outputs_and_formulas(site):
    notebooks = sorted(path.stem for path in (ROOT / "notebooks").glob("*.ipynb"))
    texts = {name: (site / f"{name}.html").read_text(encoding="utf-8") for name in notebooks}
    assert all("<h1>" in text and "cell_output" in text and "_images/" in text for text in texts.values())
    assert "<math" in texts["05_global"] and "mathjax" not in texts["05_global"].replace("mathjax_ignore", "")


@pytest.mark.slow
def test_search_and_glossary_know_the_terms(site):
    index = (site / "searchindex.js").read_text(encoding="utf-8")
    assert all(f'"{word}"' in index or f"{word}:" in index for word in ("foreground", "05_global", "calibr"))
    glossary = (site / "site/glossary.html").read_text(encoding="utf-8")
    assert all(f"<p>{term}</p>" in glossary for term in ("loss ratio", "adapter", "level map"))


PAGES = sorted((ROOT / "notebooks/site").glob("*.md"))


def commands_of(command, name="fgdlab"):
    """{"fgdlab run": its flags} of a command of click and all below it."""
    flags = {flag for option in command.params for flag in (*option.opts, *option.secondary_opts)}
    found = {name: flags | {"--help"}}
    for word, inner in getattr(command, "commands", {}).items():
        found |= commands_of(inner, f"{name} {word}")
    return found


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.stem)
def test_every_command_and_flag_on_a_page_exists(page):
    commands = commands_of(main)
    flags, text = set().union(*commands.values()), page.read_text(encoding="utf-8")
    assert [each for each in re.findall(r"(?<![\w-])--[a-z][\w-]*", text) if each not in flags] == []
    assert [each for each in re.findall(r"`(fgdlab [a-z]+)", text) if each not in commands] == []


def test_every_setting_on_the_page_from_mmdetection_is_one_of_fgds():
    text = (ROOT / "notebooks/site/from_mmdetection.md").read_text(encoding="utf-8")
    settings = dict(re.findall(r'`(\w+)="(\w+)"`', text))
    assert len(settings) >= 3 and fgdlab.FGDConfig(**settings)
    assert all(hasattr(fgdlab.FGDConfig(), name) for name in re.findall(r"`FGDConfig[.(](\w+)", text))
    assert set(re.findall(r'PRESETS\["(\w+)"\]', text)) <= fgdlab.PRESETS.keys()
    assert set(re.findall(r'method_class\("(\w+)"\)', text)) <= fgdlab.METHOD_CLASSES.keys()


def test_a_dead_link_a_dead_place_and_a_missing_picture_are_found(tmp_path):
    path, other = tmp_path / "a.html", tmp_path / "b.html"
    other.write_text("<h1 id='here'>b</h1>")
    path.write_text(
        "<a href='b.html#here'>1</a><a href='b.html#gone'>2</a><a href='c.html'>3</a><img src='d.png'>"
        "<a href='https://example.org'>4</a>")
    assert unresolved({path: Page(path.read_text())}) == ["a.html: b.html#gone", "a.html: c.html", "a.html: d.png"]
