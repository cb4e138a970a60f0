"""Training and evaluation of one detector: loop, losses, precision, several processes, checks before the first step."""
from fgdlab import lazy_package

__all__ = lazy_package(__name__, {
    "custom_loss": "custom_loss_class custom_loss_hash custom_loss_source custom_loss_file",
    "distributed": "ProcessGroup check_batch_split joined sync_batchnorm",
    "evaluate": "PYCOCOTOOLS SCORES all_scores coco_scores detections evaluation_here in_coco",
    "kept_weights": "early_stopping",
    "loggers": "check_loggers log_scores",
    "loop": "learning_rate make_optimizer train",
    "losses": "fgd_implementation make_balance make_loss",
    "multiscale": "check_sizes",
    "preflight_checks": "CheckResult preflight refuse",
})
