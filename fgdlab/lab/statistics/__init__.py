"""The rooms behind ``stats.py``: seeds that a difference needs, resampled images, two detectors compared."""
