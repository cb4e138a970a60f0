r"""A table as LaTeX with booktabs. Text is escaped; ±, Δ and Greek letters become mathematics.

The document needs ``\usepackage{booktabs}`` and nothing else.
"""
import re
from itertools import zip_longest

from .cells import Block

GREEK = {
    "α": "alpha", "β": "beta", "γ": "gamma", "δ": "delta", "ε": "epsilon", "η": "eta", "θ": "theta", "κ": "kappa",
    "λ": "lambda", "μ": "mu", "π": "pi", "ρ": "rho", "σ": "sigma", "τ": "tau", "φ": "phi", "Γ": "Gamma", "Δ": "Delta",
    "Θ": "Theta", "Λ": "Lambda", "Σ": "Sigma", "Φ": "Phi", "Ω": "Omega",
}
ESCAPES = str.maketrans({
    "\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}",
    "<": r"\textless{}", ">": r"\textgreater{}", "|": r"\textbar{}",
    **{sign: f"\\{sign}" for sign in "&%$#_{}"}, **{letter: f"$\\{name}$" for letter, name in GREEK.items()},
    "±": r"$\pm$", "×": r"$\times$", "·": r"$\cdot$", "²": r"$^2$", "≤": r"$\le$", "≥": r"$\ge$", "≈": r"$\approx$",
    "→": r"$\to$", "−": "$-$", "–": "--", "…": r"\ldots{}", "\u00a0": "~",
})


def latex(name: str, headings: list[str], blocks: list[Block], caption: list[str]) -> str:
    """One floating table: the headings as its caption, then the blocks, then the caption in small print."""
    label = re.sub("[^A-Za-z0-9:-]+", "-", name)
    return "\n".join([
        "% needs \\usepackage{booktabs}", "\\begin{table}[t]",
        "\\centering\\footnotesize\\setlength{\\tabcolsep}{4pt}",
        f"\\caption{{{' '.join(sentence(escaped(heading)) for heading in headings)}}}", f"\\label{{tab:{label}}}",
        *(f"{tabular(block)}\n\\par\\medskip" for block in blocks),
        "\\begin{minipage}{\\linewidth}\\scriptsize", *(f"{escaped(line)}\\par" for line in caption), "\\end{minipage}",
        "\\end{table}",
    ]) + "\n"


def tabular(block: Block) -> str:
    """First column left-aligned, the others right-aligned; a header of two lines is two rows."""
    headers = zip_longest(*(header.split("\n") for header in block.headers), fillvalue="")
    return "\n".join([
        f"\\begin{{tabular}}{{l{'r' * (len(block.headers) - 1)}}}", "\\toprule", *map(row, headers), "\\midrule",
        *map(row, block.rows), "\\bottomrule", "\\end{tabular}",
    ])


def row(cells) -> str:
    first, *others = (math_numbers(escaped(cell)) for cell in cells)
    guard = "{}" if first[:1] in ("[", "*") else ""  # else these would be arguments of the \\ before
    return " & ".join([guard + first, *others]) + " \\\\"


def escaped(text: str) -> str:
    """Specials escaped, straight quotes as pairs, newlines as spaces."""
    return re.sub(r'"([^"]*)"', r"``\1''", " ".join(text.split()).translate(ESCAPES))


def math_numbers(text: str) -> str:
    """Signed numbers as mathematics, so that a minus is no hyphen."""
    return re.sub(r"(?<![\w.-])([+-]\d+(?:\.\d+)?)", r"$\1$", text)


def sentence(text: str) -> str:
    return text if text.endswith((".", "?", "!")) else text + "."
