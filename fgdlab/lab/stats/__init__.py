"""Statistics: intervals over seeds and over images, and how many seeds a difference needs."""
from fgdlab import lazy_package

__all__ = lazy_package(__name__, {
    "error_types": "ERROR_TYPES confusion_matrix error_shares precision_curves",
    "image_bootstrap": "image_interval seeds_and_images_interval",
    "intervals": (
        "Estimate check_metric estimate mean_std paired_difference seed_differences "
        "t_interval values_by_seed variance_covered"
    ),
    "resampling": "match metric_of",
    "seeds_needed": (
        "STD_LEVEL SeedCount anytime_factor anytime_interval group_sequential_factor group_sequential_interval "
        "seeds_for_power seeds_for_width"
    ),
})
