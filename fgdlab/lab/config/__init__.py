"""Settings of a run: their names, defaults, scales, presets of the paper, and which of them a run uses."""
from fgdlab import lazy_package

__all__ = lazy_package(__name__, {
    "active_fields": "FGD_SETTINGS METHOD_SETTINGS TEACHER_SETTINGS distils active_settings has_teacher",
    "presets": "PAPER_PRESETS listed preset preset_settings",
    "run_config": "METHODS RunConfig check_names",
    "scales": "SCALES scale_settings",
})
