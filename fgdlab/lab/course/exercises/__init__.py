"""Exercises of the notebooks, one file per notebook: each function checks a reader's answer on small cases."""
