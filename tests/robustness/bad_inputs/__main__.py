"""``python -m tests.robustness.bad_inputs``: write figures and rows into ROBUST.md and print all counts."""
from .page import PAGE, recorded, with_rows
from .table import TABLE

PAGE.write_text(with_rows(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
for kind, rows in TABLE.items():
    print(f"{kind:>22}: {len(rows):3d} rows, {sum(not row.says for row in rows)} of them unusual and fine")
print(f"{'in all':>22}: {sum(map(len, TABLE.values())):3d} rows")
for name, each in recorded().items():
    print(f"\n{name}, {each['date']}: {each['command']}")
    print("\n".join(f"    {line}" for line in each["lines"]))
