"""The attention explorer, room by room; the door is fgdlab/lab/explorer/explorer.py.

    photos.py        data: scenes, a COCO folder, a folder of images    --> (image, target)
    contestants.py   students, their checkpoints, the teacher           --> detectors
    looker.py        detector, image --Tap--> maps, detections          cached, bounded; gaze.py reduces them
    state.py         what the reader has chosen, checked; the stops of every slider
    frame.py         looker, state --> Frame: every array and number that panels show
    figure.py        Frame --> a static figure       recipe.py    State --> code without widgets
    widget.py        Frame --> bytes for the browser; static/ draws them and holds no maths
"""
from fgdlab import lazy_package

__all__ = lazy_package(__name__, {
    "explorer": "Explorer explore still",
    "image_folder": "scenes_of",
    "models": "named_detectors",
    "gradient_maps": "gradient_maps_figure gradient_maps",
})
