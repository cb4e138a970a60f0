r"""A table for a paper: LaTeX with booktabs' rules, everything escaped, ± and Δ and Greek letters as mathematics.

The document needs ``\usepackage{booktabs}`` and nothing else.
"""
import re
from itertools import zip_longest

from .cells import Block

GREEK = {
    "α": "alpha", "β": "beta", "γ": "gamma", "δ": "delta", "ε": "epsilon", "η": "eta", "θ": "theta", "κ": "kappa", "λ": "lambda", "μ": "mu", "π": "pi",
    "ρ": "rho", "σ": "sigma", "τ": "tau", "φ": "phi", "Γ": "Gamma", "Δ": "Delta", "Θ": "Theta", "Λ": "Lambda", "Σ": "Sigma", "Φ": "Phi", "Ω": "Omega",
}
ESCAPES = str.maketrans({
    "\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "<": r"\textless{}", ">": r"\textgreater{}", "|": r"\textbar{}",
    **{sign: f"\\{sign}" for sign in "&%$#_{}"}, **{letter: f"$\\{name}$" for letter, name in GREEK.items()},
    "±": r"$\pm$", "×": r"$\times$", "·": r"$\cdot$", "²": r"$^2$", "≤": r"$\le$", "≥": r"$\ge$", "≈": r"$\approx$", "→": r"$\to$", "−": "$-$",
    "–": "--", "…": r"\ldots{}", "\u00a0": "~",
})


def latex(name: str, heads: list[str], blocks: list[Block], caption: list[str]) -> str:
    """One floating table: headings as its caption, blocks below each other, the rest in small print under them."""
    parts = [
        "% needs \\usepackage{booktabs}", "\\begin{table}[t]", "\\centering\\footnotesize\\setlength{\\tabcolsep}{4pt}",
        f"\\caption{{{' '.join(sentence(escaped(head)) for head in heads)}}}", f"\\label{{tab:{re.sub('[^A-Za-z0-9:-]+', '-', name)}}}",
    ]
    for block in blocks:
        parts += [tabular(block), "\\par\\medskip"]
    parts += ["\\begin{minipage}{\\linewidth}\\scriptsize", *(f"{escaped(line)}\\par" for line in caption), "\\end{minipage}", "\\end{table}"]
    return "\n".join(parts) + "\n"


def tabular(block: Block) -> str:
    """First column to the left, the others to the right; a header of two lines is two rows."""
    heads = zip_longest(*(header.split("\n") for header in block.headers), fillvalue="")
    lines = [f"\\begin{{tabular}}{{l{'r' * (len(block.headers) - 1)}}}", "\\toprule", *(row(head) for head in heads), "\\midrule"]
    return "\n".join([*lines, *(row(line) for line in block.rows), "\\bottomrule", "\\end{tabular}"])


def row(cells) -> str:
    first, *others = (math_numbers(escaped(cell)) for cell in cells)
    guard = "{}" if first[:1] in ("[", "*") else ""                  # after the line break before it these two would mean something
    return " & ".join([guard + first, *others]) + " \\\\"


def escaped(text: str) -> str:
    """Text that LaTeX sets as it reads: specials escaped, straight quotes as pairs, newlines as spaces."""
    return re.sub(r'"([^"]*)"', r"``\1''", " ".join(text.split()).translate(ESCAPES))


def math_numbers(text: str) -> str:
    """Signed numbers as mathematics, so that a minus is no hyphen."""
    return re.sub(r"(?<![\w.-])([+-]\d+(?:\.\d+)?)", r"$\1$", text)


def sentence(text: str) -> str:
    return text if text.endswith((".", "?", "!")) else text + "."
