"""``python -m tests.bad_inputs``: write the rows into tests/ROBUST.md and print their counts."""
from .page import PAGE, with_rows
from .table import TABLE

PAGE.write_text(with_rows(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
for kind, rows in TABLE.items():
    print(f"{kind:>22}: {len(rows):3d} rows, {sum(not row.says for row in rows)} of them unusual and fine")
