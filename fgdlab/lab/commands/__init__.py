"""The command line ``fgdlab``, one file per command."""
from fgdlab import lazy_package

__all__ = lazy_package(__name__, {"cli": "main", "validate_config": "validate_config"})
