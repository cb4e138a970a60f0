"""The site: API, pages, and the notebooks as they are committed. `make docs` builds it; no page needs a network.

    pages, notebooks, docstrings --Sphinx--> HTML with formulas as MathML, search, and a page for every linked file
"""
import re
import sys
from dataclasses import fields, is_dataclass
from html import escape
from pathlib import Path

from docutils import nodes
from docutils.utils.math.latex2mathml import tex2mathml

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))
import fgdlab  # noqa: E402

project = "fgdlab"
copyright = "the fgdlab authors, MIT licence"
extensions = ["sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx.ext.viewcode", "myst_nb"]
root_doc = "site/index"
exclude_patterns = ["src", "**.ipynb_checkpoints"]
html_theme = "furo"
html_title = "fgdlab"
html_copy_source = False
html_math_renderer = "mathml"
nb_execution_mode = "off"
myst_enable_extensions = ["dollarmath"]
myst_heading_anchors = 4
autodoc_default_options = {"members": True}
autodoc_member_order = "bysource"
napoleon_custom_sections = [("Differs", "notes")]
suppress_warnings = ["misc.highlighting_failure"]  # cells with magics
nitpicky = True

FILE = re.compile(r"\[([^\[\]\n]{1,120})\]\(((?:\.\./)+[\w./-]+)\)")
linked: set[Path] = set()  # files of the project that a page links to; each gets a page with its text


def link_files(app, name, text):
    """Links from pages and notebooks to files of the project lead to pages of this site."""
    here = (ROOT / "notebooks" / name).parent

    def page(found):
        file = (here / found[2]).resolve()
        if file.is_relative_to(ROOT / "notebooks") or not file.exists():
            return found[0]
        up = "../" * name.count("/")
        if file.is_dir():
            return f"<a href='{up}site/methods.html'>{found[1]}</a>"
        linked.add(file.relative_to(ROOT))
        return f"<a href='{up}files/{file.relative_to(ROOT)}.html'>{found[1]}</a>"

    text[0] = FILE.sub(page, text[0])


def file_pages(app):
    for file in sorted(linked):
        language = {".py": "python", ".md": "markdown", ".ipynb": "json", ".yaml": "yaml"}.get(file.suffix, "text")
        text = app.builder.highlighter.highlight_block((ROOT / file).read_text(encoding="utf-8"), language)
        yield f"files/{file}", {"title": str(file), "body": f"<h1>{escape(str(file))}</h1>{text}"}, "page.html"


def mathml(block):
    def visit(writer, node):
        text = re.sub(r"\\tag\{(\w+)\}", r"\\qquad (\1)", node.astext())
        text = re.sub(r"\\[Bb]igg?[lr]?(?![a-z])", "", text)  # sizes of brackets follow from what is inside
        found = tex2mathml(text, as_block=block)
        writer.body.append(f'<div class="math">{found}</div>' if block else found)
        raise nodes.SkipNode
    return visit, None


MARKUP = re.compile(r"(``.*?``|:\w+:`.*?`|>>>.*|\.\.\. .*)|[|*`\\]|(?<=\w)_(?!\w)")


def plain_text(app, what, name, obj, options, lines):
    """Docstrings are plain text: |F| and lambda_ are no markup. A dataclass lists the help of its fields."""
    in_example = False
    for number, line in enumerate(lines):
        in_example = line.strip().startswith(">>>") or in_example and bool(line.strip())
        if not in_example:
            lines[number] = MARKUP.sub(lambda found: found[1] or "\\" + found[0], line)
    if is_dataclass(obj) and isinstance(obj, type):
        helped = [each for each in fields(obj) if each.metadata.get("help")]
        lines += ["", *(f"* ``{each.name}`` – {each.metadata['help']}" for each in helped), ""]


def without_page(app, env, node, shown):
    """Names of torch, of the standard library and of inner modules are plain code. A public name must have an entry."""
    if node["refdomain"] == "py" and node["reftarget"].split(".")[-1] not in fgdlab.__all__:
        if isinstance(shown, nodes.Element):
            shown["classes"] = []
        return shown
    return None


def start_page(app, error):
    (Path(app.outdir) / "index.html").write_text('<meta http-equiv="refresh" content="0; url=site/index.html">\n')


def setup(app):
    app.add_html_math_renderer("mathml", mathml(False), mathml(True))
    app.connect("source-read", link_files)
    app.connect("html-collect-pages", file_pages)
    app.connect("autodoc-process-docstring", plain_text, priority=100)
    app.connect("missing-reference", without_page)
    app.connect("build-finished", start_page)
