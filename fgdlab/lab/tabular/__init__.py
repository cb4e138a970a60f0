"""The rooms behind ``tables.py``: which runs, which words in a cell, which format."""
