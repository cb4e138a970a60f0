"""The reader's choices as one frozen record."""
import json
from dataclasses import asdict, dataclass, fields, replace
from urllib.parse import unquote

from ..errors import UserError, unknown_name

VIEWS = ("difference", "before_after")
QUANTITIES = ("attention", "channel", "context", "loss")
LIMITS = ("shared", "own")
OVERLAYS = ("boxes", "mask", "scale", "roundings", "detections")
SLIDERS = ("temperature", "alpha", "beta", "gamma", "lambda_")
LOSS_SETTINGS = (*SLIDERS, "rounding")  # fields of State and of FGDConfig


@dataclass(frozen=True)
class State:
    """One view of the explorer.

    image: index into the data set. level: "P3".. . checkpoint: index of the student's checkpoint, 0 = oldest.
    view: "difference" shows teacher, student and their difference; "before_after" shows every student and the teacher.
    quantity: attention A^S, one channel's map, R's context weights, or the loss per cell.
    limits: colour limits shared by compared panels, or each panel's own; a difference is centred at 0 in both.
    temperature, alpha, beta, gamma, lambda_, rounding: settings of the loss.
    channel: the channel that ``quantity="channel"`` shows.
    cell: (row, col) whose channels are listed instead of A^C, or None.
    overlays: names in OVERLAYS.
    score: lowest score of a detection that is shown and counted, 0..1.
    """

    image: int = 0
    level: str = ""
    student_name: str = ""
    checkpoint: int = 0
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
        known = [each.name for each in fields(self)]
        for name in changes:
            if name not in known:
                raise unknown_name("setting of the explorer", name, known)
        return replace(self, **{key: tuple(each) if isinstance(each, list) else each for key, each in changes.items()})

    def dict(self) -> dict:
        """JSON types."""
        return {name: list(value) if isinstance(value, tuple) else value for name, value in asdict(self).items()}
