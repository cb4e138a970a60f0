"""The Chinese README has the code, commands, numbers and measured claims of the English one."""
import re
from pathlib import Path

import pytest

import fgdlab
from fgdlab.lab.reports import publishing

ROOT = Path(fgdlab.__file__).parents[1]
ENGLISH, CHINESE = ((ROOT / name).read_text(encoding="utf-8") for name in ("README.md", "README.zh-CN.md"))
BLOCK = re.compile(r"^```[^\n]*\n(?:(?!```)[^\n]*\n)*```\n|(?:^    [^\n]+\n)+", re.MULTILINE)
TABLE = re.compile(r"<!-- table claims -->\n.*?<!-- end claims -->", re.DOTALL)
PROGRAMS = ("fgdlab", "make", "pip", "conda", "--")


def strange(chinese: str, english: str) -> list[str]:
    """Code, commands and numbers of the Chinese text that the English one lacks."""
    blocks = [each for each in BLOCK.findall(chinese) if each not in BLOCK.findall(english)]
    missing = [each for each in BLOCK.findall(english) if each not in BLOCK.findall(chinese)]
    tables = [] if TABLE.findall(chinese) == TABLE.findall(english) else ["the table of claims"]
    texts = [TABLE.sub("", BLOCK.sub("", each)) for each in (chinese, english)]
    commands = [each for each in re.findall(r"`([^`]+)`", texts[0]) if each.startswith(PROGRAMS)]
    numbers = set(re.findall(r"\d+(?:\.\d+)*", texts[0])) - set(re.findall(r"\d+(?:\.\d+)*", texts[1] + english))
    return blocks + missing + tables + [each for each in commands if f"`{each}`" not in english] + sorted(numbers)


def test_code_commands_numbers_and_claims_are_those_of_the_english_readme():
    assert strange(CHINESE, ENGLISH) == [] and len(BLOCK.findall(CHINESE)) > 2 and TABLE.findall(CHINESE)


@pytest.mark.parametrize(("old", "new"), [
    ("make table1      #", "make table2      #"), ("`fgdlab claims`", "`fgdlab claim`"), ("2.4", "2.5"),
    ("holds here**", "holds**"), ("fgdlab[lab]", "fgdlab[all]"),
])
def test_another_command_number_or_verdict_is_found(old, new):
    assert old in CHINESE and strange(CHINESE.replace(old, new), ENGLISH)


def test_publishing_fills_the_claims_of_both(tmp_path, monkeypatch):
    names = ("README.md", "README.zh-CN.md", "ablations/README.md")
    (tmp_path / "ablations").mkdir()
    for name in names:
        (tmp_path / name).write_text("<!-- table claims -->\nold\n<!-- end claims -->\n")
    monkeypatch.setattr(publishing, "ablations_folder", lambda: tmp_path / "ablations")
    assert publishing.publish_table("claims", "new") == [tmp_path / name for name in names]
    assert all("new" in (tmp_path / name).read_text() for name in names)
