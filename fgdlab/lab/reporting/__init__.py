"""The rooms behind ``report.py``: runs, rows opened again, figures, the page."""
