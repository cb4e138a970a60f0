"""Reports on a sweep or on two detectors, and the publishing of results."""
from fgdlab import lazy_package

__all__ = lazy_package(__name__, {
    "claims": "claims_text current_results",
    "comparison": "compare comparison_figure comparison_text resampled_intervals",
    "comparison_inputs": "comparison_of_files comparison_of_rows",
    "error_types": "error_types_of_rows error_types_of_runs errors_figure errors_text with_error_types",
    "publishing": "check_scale publish publish_claims",
    "run_table": "watch",
    "seeds": "SeedTargets seeds_report",
    "sweep_report": "Report show write_report",
    "sweep_runs": "SweepRuns",
})
