"""Exercises of the notebooks, one file per notebook, each with its checks."""
