"""One run: from settings to scores, and the folder where it lives."""
from fgdlab import lazy_package

__all__ = lazy_package(__name__, {
    "folder": "BEAT STATES RunFolder",
    "inputs": "OF_DATA findings identity open_data",
    "photos": "fit_to_data",
    "one_run": "RunInputs check_settings device_of evaluation_set imitated load_run make_distiller prepare run",
})
