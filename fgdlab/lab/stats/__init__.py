"""Statistics: intervals over seeds and over images, and how many seeds a difference needs."""
from fgdlab import lazy_package

__all__ = lazy_package(__name__, {
    "image_bootstrap": "Interval both_noises image_noise",
    "intervals": (
        "Estimate NOISES check_metric estimate mean_std noise_covered paired_difference seed_differences "
        "t_interval values_by_seed"
    ),
    "resampling": "match metric_of",
    "seeds_needed": "Need SURE anytime_factor anytime_interval look_interval planned seeds_for_power seeds_for_width",
})
