"""The reader's choices as one frozen record."""
import json
from dataclasses import asdict, dataclass, replace
from urllib.parse import unquote

from ..errors import UserError, check_name

VIEWS = ("difference", "before_after")
QUANTITIES = ("attention", "channel", "context", "loss")
LIMITS = ("shared", "own")
OVERLAYS = ("boxes", "mask", "scale", "roundings", "detections")
LOSS_SETTINGS = ("temperature", "alpha", "beta", "gamma", "lambda_", "rounding")  # fields of State and of FGDConfig


@dataclass(frozen=True)
class State:
    """One view of the explorer.

    image, checkpoint: indices into the data set, and into the student's checkpoints, -1 = the last.
    view: "difference" shows teacher, student and their difference; "before_after" shows every student and the teacher.
    quantity: attention A^S, one channel's map, R's context weights, or the loss per cell.
    limits: colour limits shared by compared panels, or each panel's own.
    temperature to rounding: settings of the loss. cell: (row, col) whose channels are listed instead of A^C.
    score: lowest score of a detection that is shown and counted.
    """

    image: int = 0
    level: str = ""
    student_name: str = ""
    checkpoint: int = -1
    view: str = "difference"
    quantity: str = "attention"
    limits: str = "shared"
    temperature: float = 0.5
    alpha: float = 1e-3
    beta: float = 5e-4
    gamma: float = 5e-4
    lambda_: float = 5e-6
    rounding: str = "authors"
    channel: int = 0
    cell: tuple[int, int] | None = None
    overlays: tuple[str, ...] = ("boxes",)
    score: float = 0.3

    def but(self, **changes) -> "State":
        """The same with some fields changed; JSON's lists become tuples. ``state``: the widget's text of changes."""
        if "state" in changes:
            pairs = [part.partition("=") for part in changes.pop("state").split("&")]
            try:
                changes = {name: json.loads(unquote(value)) for name, _, value in pairs} | changes
            except ValueError as error:
                raise UserError(f"state must be a text that the explorer gave, got {pairs}") from error
        for name in changes:
            check_name("setting of the explorer", name, self.dict())
        return replace(self, **{key: tuple(each) if isinstance(each, list) else each for key, each in changes.items()})

    def dict(self) -> dict:
        return {name: list(value) if isinstance(value, tuple) else value for name, value in asdict(self).items()}
