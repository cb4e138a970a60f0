"""The attention explorer: where teacher and student attend on one image, and what the loss makes of it.

    explore(student, teacher, data)        a widget in a live notebook
    static_figure(student, teacher, data)  one view as a figure, for papermill, reports and scripts

    image_folder.py    folder or data set --> data set of (image, target)
    models.py          students, their checkpoints, the teacher --> detectors
    run_folder.py      folder of a run --> all of these
    inference.py       detector, image --> feature maps, detections; cached by lru_cache.py
    loss_maps.py       two feature maps --> attention, loss per cell and term
    state.py           the reader's choices, checked; the values of every slider
    teacher_checks.py  detections, feature scales --> warnings about the teacher
    view_data.py       inference, state --> ViewData: all arrays and numbers that the panels show
    figure.py          ViewData --> a static figure
    export_code.py     State --> Python code without widgets
    frames.py          inference --> arrays of one image, from which static/*.js computes every view
    widget.py          the widget that draws them
    explorer.py        explore, static_figure, Explorer
    gradient_maps.py   methods --> gradient of each method's loss at every cell
"""
from fgdlab import lazy_package

__all__ = lazy_package(__name__, {
    "explorer": "Explorer explore static_figure",
    "gradient_maps": "GradientMaps gradient_maps gradient_maps_figure",
    "image_folder": "open_dataset",
    "models": "named_detectors",
    "run_folder": "of_run",
})
