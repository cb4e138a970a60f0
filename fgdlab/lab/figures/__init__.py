"""The rooms behind ``viz.py``: panels, and the pictures of losses and of detections."""
