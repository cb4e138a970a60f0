"""Python code that draws a view without widgets, and computes the same arrays with the method itself."""
from dataclasses import asdict
from pathlib import Path

from fgdlab.config import FGDConfig

from ..errors import UserError
from .session import Session
from .state import LOSS_SETTINGS, State


def export_code(session: Session, state: State) -> str:
    """Paths that :func:`explore` was given become literals, objects stay names."""
    if state.image >= len(session.dataset.first):
        raise UserError("the code needs an image of the data, got one that was added; save it into a folder first")
    options = {name: value for name, value in session.options.items() if value is not None}
    inputs = {} if session.run else session.inputs
    paths = {name: str(value) for name, value in inputs.items() if isinstance(value, (str, Path))}
    objects = [name for name in (*inputs, *options) if name not in paths and (name in inputs or name == "loss")]
    config = asdict(session.config) | {name: getattr(state, name) for name in LOSS_SETTINGS}
    config = {name: value for name, value in config.items() if value != getattr(FGDConfig(), name)}
    view = {
        name: value for name, value in asdict(state).items()
        if name not in LOSS_SETTINGS and value != getattr(State(level=None), name)
    }
    given = f"# As given to explore(): {', '.join(objects)}.\n" if objects else ""
    given += "".join(f"{name} = {value!r}\n" for name, value in paths.items())
    first = repr(session.run) if session.run else "student, teacher, data"
    named = [f"{name}={name if name == 'loss' else repr(value)}" for name, value in {**options, **view}.items()]
    config = ", ".join(f"{name}={value!r}" for name, value in config.items())
    template = (Path(__file__).parent / "static/saved_code.txt").read_text(encoding="utf-8")
    return template.format(given=given, config=config, first=first, options=", ".join(named), state=state)
