"""The attention explorer: where teacher and student attend on one image, and what the loss makes of it.

    image_folder.py, models.py --> data set, students, teacher --session.py--> a checked State of them
    inference.py, loss_maps.py --> maps, detections and loss per cell, cached by lru_cache.py
    frames.py --> widget.py, static/*.js       the browser computes every view, in a notebook or in a saved page
    view_data.py, teacher_checks.py --> figure.py, tables, export_code.py      the same views in Python
    gradient_maps.py               methods --> gradient of each method's loss at every cell
"""
from fgdlab import lazy_package

__all__ = lazy_package(__name__, {
    "explorer": "Explorer explore static_figure",
    "gradient_maps": "GradientMaps gradient_maps gradient_maps_figure",
    "models": "NamedDetector",
    "session": "Session",
})
