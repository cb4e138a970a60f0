"""Which weights a training ends with: the last, their moving average (ema), or the best on the tune split."""
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from ..config import RunConfig
from ..datasets import DetectionDataset, open_split
from ..errors import UserError
from .distributed import ProcessGroup
from .evaluate import coco_scores, detections


def moving_average(student: nn.Module, decay: float) -> AveragedModel:
    """average <- average + max(1 - decay, 1 / n) (weights - average) at step n, of weights and of buffers.

    Differs: the first 1 / (1 - decay) steps are a plain mean, so a short training does not end near its random start.
    """
    def mean(average: Tensor, weights: Tensor, count) -> Tensor:
        return average + max(1 - decay, 1 / (int(count) + 1)) * (weights - average)

    return AveragedModel(student, avg_fn=mean, use_buffers=True)


def early_stopping(config: RunConfig, *where) -> "EarlyStopping | None":
    if config.schedule == "plateau" and not config.patience:
        raise UserError("schedule=plateau must go with patience, got 0; give patience=3")
    return EarlyStopping(config, *where) if config.patience else None


class EarlyStopping:
    """Evaluates on the tune split, keeps the best weights, and says when ``config.patience`` has run out.

    history: {step: AP, 0..100}. cuts: how often the schedule "plateau" has lowered the learning rate.
    UserError: the tune split has no object, or images of the training or evaluation split.
    """

    LASTING = ("history", "since", "cuts", "weights")  # what a checkpoint holds

    def __init__(self, config: RunConfig, train_set: DetectionDataset, device: str, group: ProcessGroup):
        self.config, self.device, self.group = config, device, group
        self.dataset = open_split(config, config.tune_split, progress=False)
        self.history: dict[int, float] = {}
        self.since, self.cuts, self.weights = 0, 0, {}
        eval_set = open_split(config, config.eval_split, progress=False)
        shared = {*self.dataset.file_hashes} & {*train_set.file_hashes, *eval_set.file_hashes}  # by contents
        if shared:
            problem = f"no image of training or evaluation, got {len(shared)} in {config.tune_split!r}"
            hint = "train_split=train-fit tune_split=train-tune cut train in two"
            raise UserError(f"tune_split must have {problem}; {hint}")
        if not any(map(len, self.dataset.annotations.boxes.values())):
            raise UserError(f"tune_split must have objects, got none in {config.tune_split!r}; choose another")

    def evaluate(self, step: int, detector: nn.Module) -> str:
        found = detections(detector, self.dataset, device=self.device, workers=self.config.workers, group=self.group)
        ap = coco_scores(self.dataset.ground_truth(), found, self.dataset.image_ids)["AP"]
        self.since = 0 if ap > max(self.history.values(), default=-1) else self.since + 1
        self.history[step] = ap
        if not self.since:
            self.weights = {name: value.detach().cpu().clone() for name, value in detector.state_dict().items()}
        if self.since >= self.config.patience and self.config.schedule == "plateau" and self.cuts < 2:
            self.since, self.cuts = 0, self.cuts + 1
        return f"step {step}: AP {ap:.1f} on {self.config.tune_split}, best {max(self.history.values()):.1f}"

    @property
    def over(self) -> bool:
        return self.since >= self.config.patience

    def state_dict(self) -> dict:
        return {name: getattr(self, name) for name in self.LASTING}

    def load_state_dict(self, state: dict) -> None:
        for name in self.LASTING:
            setattr(self, name, state[name])
