"""Reports on a sweep or on two detectors, and the publishing of results."""
from fgdlab import lazy_package

__all__ = lazy_package(__name__, {
    "claims": "claims_text current_results",
    "comparison": "compare comparison_text",
    "comparison_figure": "comparison_figure",
    "comparison_inputs": "comparison_of_files comparison_of_rows",
    "error_types": "error_types_of_rows error_types_of_runs errors_figure errors_text with_error_types",
    "image_intervals": "resampled_intervals",
    "publishing": "check_scale publish publish_claims",
    "report_page": "write_report",
    "run_table": "watch",
    "seeds": "SeedTargets parse_analyses seeds_report",
    "sweep_report": "Report show",
    "sweep_runs": "SweepRuns",
})
