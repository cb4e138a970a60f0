"""What is looked at before a student learns: ``preflight.py`` in every run, all of it in ``fgdlab doctor``."""
