"""How many random examples a property gets: a few in the fast suite, always the same; a thousand, new ones each time,
with FGDLAB_PROPERTIES=thorough.

Failing examples are printed in full, so none are kept on disk.
"""
import os

from hypothesis import HealthCheck, settings

QUIET = [HealthCheck.function_scoped_fixture, HealthCheck.too_slow, HealthCheck.data_too_large]
settings.register_profile(
    "fast", max_examples=20, derandomize=True, deadline=None, database=None, suppress_health_check=QUIET,
)
settings.register_profile(
    "thorough", max_examples=1000, deadline=None, database=None, print_blob=True, suppress_health_check=QUIET,
)
settings.load_profile(os.environ.get("FGDLAB_PROPERTIES", "fast"))
few = settings(max_examples=max(settings.default.max_examples // 5, 3))  # for properties whose examples take long
