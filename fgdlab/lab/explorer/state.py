"""What the reader has chosen: one frozen record, checked field by field, and the stops of every slider."""
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

    image: index into the data. level: "P3".. . who, stage: a student, at one of its checkpoints (0 = oldest).
    view: teacher, student, difference; or every student beside the teacher. quantity: attention A^S, one channel's map, R's context weights,
    or where the loss comes from. limits: colour limits shared by panels that are compared, or each panel's own (a difference is centred at 0 in both).
    temperature, alpha, beta, gamma, lambda_, rounding: of the loss. channel: whose map ``quantity="channel"`` shows.
    cell: (row, col) whose channels are listed instead of A^C, or None. overlays: a choice of OVERLAYS.
    """

    image: int = 0
    level: str = ""
    who: str = ""
    stage: int = 0
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
        """The same with some fields changed, lists taken for tuples as JSON has no others."""
        known = [each.name for each in fields(self)]
        for name in changes:
            if name not in known:
                raise unknown_name("setting of the explorer", name, known)
        return replace(self, **{name: tuple(value) if isinstance(value, list) else value for name, value in changes.items()})

    def dict(self) -> dict:
        """JSON types."""
        return {name: list(value) if isinstance(value, tuple) else value for name, value in asdict(self).items()}


def one_of(name: str, value, known) -> None:
    if value not in known:
        raise unknown_name(name, value, known)


def within(name: str, value, count: int, what: str) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < count:
        raise UserError(f"{name} must be a whole number from 0 to {count - 1}, got {value!r}; there are {count} {what}")


def check(state: State, *, images: int, levels: tuple[str, ...], stages: dict[str, int], quantities: tuple[str, ...]) -> State:
    """The state if it fits the data, else UserError.

    Args:
        stages: {student: how many checkpoints}. quantities: those that can be shown here.
    """
    within("image", state.image, images, "images")
    one_of("level", state.level, levels)
    one_of("who (a student)", state.who, stages)
    within("stage", state.stage, stages[state.who], f"checkpoints of {state.who}")
    one_of("view", state.view, VIEWS if len(stages) > 1 else VIEWS[:1])
    one_of("quantity", state.quantity, quantities)
    one_of("limits", state.limits, LIMITS)
    one_of("rounding", state.rounding, ROUNDINGS)
    for each in state.overlays:
        one_of("overlay", each, OVERLAYS)
    for name in ("temperature", *WEIGHTS):
        value = getattr(state, name)
        number = isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) < float("inf")
        if name == "temperature" and not (number and value > 0):
            raise UserError(f"temperature must be a finite number above 0, got {value!r}; 0.5 is the paper's")
        if not (number and value >= 0):
            raise UserError(f"{name} must be a finite number of at least 0, got {value!r}; 0 silences its term")
    return state


def stops(name: str, start: float) -> list[float]:
    """Where a slider can stand: round values, and ``start`` among them so that nothing is lost by touching it.

    Weights: 0, then ten a decade from 1e-8 to 1. Temperature: 0.05 to 10, closer together where softmax changes fast.
    """
    if name == "temperature":
        values = [*(round(0.05 * i, 2) for i in range(1, 31)), 1.75, 2.0, 2.5, 3.0, 4.0, 5.0, 7.0, 10.0]
    else:
        values = [0.0, *(float(f"{10 ** (i / 10):.2g}") for i in range(-80, 1))]
    return sorted({*values, float(start)})
