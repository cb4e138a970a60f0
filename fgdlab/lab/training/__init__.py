"""Rooms of train.py: what a run at full scale needs beyond the loop itself."""
