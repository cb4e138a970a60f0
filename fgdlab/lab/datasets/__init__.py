"""Data sets: the built-in digit scenes and COCO-format folders, read, checked, split and batched."""
from fgdlab import lazy_package

__all__ = lazy_package(__name__, {
    "annotations": "EmptySplit segmentation_counts read_split splits_of",
    "augmentation": "Augmentation",
    "batch_sampler": "batches_per_epoch",
    "coco_json": "MAX_CLASSES box_table check_values is_finite is_integer read_document read_json",
    "dataset": "DetectionDataset shuffled_batches foreground_fractions load_batches open_split",
    "digits": "DigitScenes RECIPE_VERSION digit_folder",
    "data_checks": "Finding check_pixels examine refuse_data",
    "images": "as_rgb read_exif_rotated shrink",
    "segmentation": "run_lengths",
    "splits": "DISJOINT TRAIN_PARTS WHOLE",
})
