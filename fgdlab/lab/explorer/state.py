"""The reader's choices as one frozen, checked record, and the values of every slider."""
import math
from dataclasses import asdict, dataclass, fields, replace

from fgdlab.config import ROUNDINGS

from ..errors import UserError, unknown_name

VIEWS = ("difference", "before_after")
QUANTITIES = ("attention", "channel", "context", "loss")
LIMITS = ("shared", "own")
OVERLAYS = ("boxes", "mask", "scale", "roundings", "detections")
WEIGHTS = ("alpha", "beta", "gamma", "lambda_")


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

    def but(self, **changes) -> "State":
        """The same with some fields changed; JSON's lists become tuples."""
        known = [each.name for each in fields(self)]
        for name in changes:
            if name not in known:
                raise unknown_name("setting of the explorer", name, known)
        return replace(self, **{key: tuple(each) if isinstance(each, list) else each for key, each in changes.items()})

    def dict(self) -> dict:
        """JSON types."""
        return {name: list(value) if isinstance(value, tuple) else value for name, value in asdict(self).items()}


def check_index(name: str, value, count: int, what: str) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < count:
        raise UserError(f"{name} must be a whole number from 0 to {count - 1}, got {value!r}; there are {count} {what}")


def check_state(
    state: State, images: int, levels: tuple[str, ...], checkpoints: dict[str, int], quantities: tuple[str, ...],
) -> None:
    """UserError if the state does not fit.

    Args:
        images: number of images.
        checkpoints: {student: number of checkpoints}.
        quantities: those that these networks have.
    """
    check_index("image", state.image, images, "images")
    choices = {
        "level": levels, "student_name": checkpoints, "view": VIEWS if len(checkpoints) > 1 else VIEWS[:1],
        "quantity": quantities, "limits": LIMITS, "rounding": ROUNDINGS, "overlays": OVERLAYS,
    }
    for name, known in choices.items():
        for value in state.overlays if name == "overlays" else [getattr(state, name)]:
            if value not in known:
                raise unknown_name(name, value, known)
    check_index("checkpoint", state.checkpoint, checkpoints[state.student_name], f"checkpoints of {state.student_name}")
    for name in ("temperature", *WEIGHTS):
        value = getattr(state, name)
        number = isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
        if name == "temperature" and not (number and value > 0):
            raise UserError(f"temperature must be a finite number above 0, got {value!r}; the paper uses 0.5")
        if not (number and value >= 0):
            raise UserError(f"{name} must be a finite number of at least 0, got {value!r}; 0 switches its term off")


def slider_values(name: str, start: float) -> list[float]:
    """The values of a slider: round numbers, and ``start`` so that the start can be set again.

    Weights: 0, then ten per decade from 1e-8 to 1. Temperature: 0.05 to 10, denser where softmax changes fast.
    """
    if name == "temperature":
        values = [*(round(0.05 * i, 2) for i in range(1, 31)), 1.75, 2.0, 2.5, 3.0, 4.0, 5.0, 7.0, 10.0]
    else:
        values = [0.0, *(float(f"{10 ** (i / 10):.2g}") for i in range(-80, 1))]
    return sorted({*values, float(start)})
