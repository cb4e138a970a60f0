"""Settings of a run: their names, defaults, scales, presets of the paper, and which of them a run uses."""
from fgdlab import lazy_package

__all__ = lazy_package(__name__, {
    "active_fields": "active_settings distils has_teacher unused_settings",
    "presets": "listed preset preset_settings",
    "run_config": "DEFAULTS METADATA settings_about METHODS RunConfig check_names",
    "scales": "SCALES scale_settings",
})
