r"""A table as LaTeX. Text is escaped; ±, Δ and Greek letters become mathematics. Needs ``\usepackage{booktabs}``."""
import re
import unicodedata
from itertools import zip_longest

import pandas as pd

GREEK = {letter: unicodedata.name(letter).split()[-1].replace("LAMDA", "LAMBDA") for letter in "αβγδεηθκλμπρστφΓΔΘΛΣΦΩ"}
ESCAPES = str.maketrans({
    "\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}",
    "<": r"\textless{}", ">": r"\textgreater{}", "|": r"\textbar{}",
    **{sign: f"\\{sign}" for sign in "&%$#_{}"},
    **{each: f"$\\{name.title() if each.isupper() else name.lower()}$" for each, name in GREEK.items()},
    "±": r"$\pm$", "×": r"$\times$", "·": r"$\cdot$", "²": r"$^2$", "≤": r"$\le$", "≥": r"$\ge$", "≈": r"$\approx$",
    "→": r"$\to$", "−": "$-$", "–": "--", "…": r"\ldots{}", "\u00a0": "~",
})


def latex(name: str, headings: list[str], blocks: list[pd.DataFrame], caption: list[str]) -> str:
    label = re.sub("[^A-Za-z0-9:-]+", "-", name)
    sentences = (text if text.endswith((".", "?", "!")) else text + "." for text in map(escaped, headings))
    return "\n".join([
        "% needs \\usepackage{booktabs}", "\\begin{table}[t]",
        "\\centering\\footnotesize\\setlength{\\tabcolsep}{4pt}",
        f"\\caption{{{' '.join(sentences)}}}", f"\\label{{tab:{label}}}",
        *(f"{tabular(block)}\n\\par\\medskip" for block in blocks),
        "\\begin{minipage}{\\linewidth}\\scriptsize", *(f"{escaped(line)}\\par" for line in caption), "\\end{minipage}",
        "\\end{table}",
    ]) + "\n"


def tabular(block: pd.DataFrame) -> str:
    headers = zip_longest(*(header.split("\n") for header in block), fillvalue="")
    return "\n".join([
        f"\\begin{{tabular}}{{l{'r' * (block.shape[1] - 1)}}}", "\\toprule", *map(row, headers), "\\midrule",
        *map(row, block.to_numpy()), "\\bottomrule", "\\end{tabular}",
    ])


def row(cells) -> str:
    """Signed numbers become mathematics, so that a minus is no hyphen."""
    first, *others = (re.sub(r"(?<![\w.-])([+-]\d+(?:\.\d+)?)", r"$\1$", escaped(cell)) for cell in cells)
    guard = "{}" if first[:1] in ("[", "*") else ""  # else these would be arguments of the \\ before
    return " & ".join([guard + first, *others]) + " \\\\"


def escaped(text: str) -> str:
    return re.sub(r'"([^"]*)"', r"``\1''", " ".join(text.split()).translate(ESCAPES))
