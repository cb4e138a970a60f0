"""Where a number came from: code, packages, machine."""
from fgdlab import lazy_package

__all__ = lazy_package(__name__, {
    "code": "changed_files code_of",
    "environment": "device_name packages peak_memory_gb provenance",
})
