"""Training and evaluation of one detector: loop, losses, precision, several processes, checks before the first step."""
from fgdlab import lazy_package

__all__ = lazy_package(__name__, {
    "check_result": "Line refuse",
    "custom_loss": "method_mark own_bytes own_file",
    "distributed": "Team check_shares joined",
    "evaluate": "PYCOCOTOOLS SCORES all_scores coco_scores detections evaluation_here in_coco",
    "loop": "learning_rate make_optimizer train",
    "losses": "form_mark make_balance make_loss",
    "multiscale": "check_sizes",
    "preflight_checks": "preflight",
    "tensorboard": "check_board",
})
