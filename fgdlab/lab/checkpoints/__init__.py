"""Weights in and out: safetensors files, MMDetection's, Megvii's and the authors' checkpoints, downloads, exports."""
from fgdlab import lazy_package

__all__ = lazy_package(__name__, {
    "checksums": "changed_tensors checksum",
    "export": "described detector_of export_student",
    "inheritance": "inherit",
    "onnx_export": "export_onnx",
    "load": "teacher_from_checkpoint head_is_loaded outputs_of",
    "mmdet": "fcos_options load_mmdet read_checkpoint student_of",
    "mmdet_keys": "classes_of",
    "safetensors_io": "check_archive load_weights read_facts save_weights weights_hash",
})
