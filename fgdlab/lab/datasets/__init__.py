"""Data sets: the built-in digit scenes and COCO-format folders, read, checked, split and batched."""
from fgdlab import lazy_package

__all__ = lazy_package(__name__, {
    "annotations": "EmptySplit segmentations read_split splits_of",
    "batch_sampler": "batches_an_epoch",
    "coco_json": "MOST_CLASSES box_table complain is_finite is_whole read_document read_json short",
    "dataset": "DetectionDataset batches foreground_shares loaded open_split",
    "digits": "DigitScenes RECIPE_VERSION digit_folder",
    "images": "as_rgb check_pixels shrunk upright",
    "splits": "DERIVED",
})
