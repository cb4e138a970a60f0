"""The teacher of a run, and the cache of its feature maps."""
from fgdlab import lazy_package

__all__ = lazy_package(__name__, {
    "feature_cache": "TeacherCache cache_bytes cache_refusal get_cache one_batch write_maps",
    "teachers": (
        "TEACHER_DECIDES Teacher ap_text get_teacher kept_teacher_hash load_teacher teacher_needs_training "
        "trained_path training_length"
    ),
})
