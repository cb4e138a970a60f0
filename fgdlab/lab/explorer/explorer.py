"""``explore`` opens the explorer; ``static_figure`` draws one of its views without a widget."""
import io
import mimetypes
import time
from collections.abc import Iterable
from pathlib import Path

import pandas as pd
import traitlets
from IPython.display import HTML, display

from ..errors import UserError, check_name
from ..plots import NotebookFigure
from .export_code import export_code
from .frames import detail, frame
from .session import Session, check_index
from .state import State
from .view_data import TABLES, table
from .widget import ExplorerWidget, page, static_info, still

EXPORTS = ("png", "svg", "csv", "py", "html")


def explore(student, teacher=None, data=None, config=None, **options) -> "Explorer":
    """Open explore("runs/table1_areas/ID"), or explore(student, teacher, data). See :class:`Session`."""
    return Explorer(student, teacher, data, config, **options)


def static_figure(*inputs, **options) -> NotebookFigure:
    """The figure of one view, without a widget; arguments as of :func:`explore`."""
    session = Session(*inputs, **options)
    return session.figure(session.state)


class Explorer(ExplorerWidget):
    """What :func:`explore` returns: a widget; ``figure``, ``numbers``, ``code`` and ``save`` export its view."""

    def __init__(self, *inputs, **options):
        self._displayed = False
        self.session = Session(*inputs, progress=self._progress, **options)
        self.state, inference = self.session.state, self.session.inference
        info = static_info(inference, self.state, self.session.choices)
        message, block = frame(inference, self.state.image, inference.shown(self.state), self.session.ap)
        super().__init__(info=info, choice=self.state.dict(), frame=message, block=block)
        self.on_msg(self._answer)

    def set(self, **changes) -> "Explorer":
        """Change the view, e.g. ``set(level="P4", temperature=0.2)``; the widget follows.

        Raises:
            UserError: a value that does not fit; the view stays.
        """
        self.state = self.session.changed(self.state, changes)
        self.choice = self.state.dict()
        return self

    def figure(self) -> NotebookFigure:
        """The view as a figure, with every checkpoint."""
        return self.session.figure(self.state)

    def numbers(self, kind: str = "terms") -> pd.DataFrame:
        """The numbers of the view. ``kind``: terms, gaps, cells, channels, networks, checkpoints."""
        check_name("table of the explorer", kind, TABLES)
        return table(self.session.view(self.state, all_checkpoints=kind == "checkpoints"), kind)

    def code(self) -> str:
        """Python code that draws the view without widgets, and computes its arrays."""
        return export_code(self.session, self.state)

    def save(self, path: str | Path, images: Iterable[int] | None = None, max_mb: float = 6) -> Path:
        """Write the view: the figure as .png or .svg, the loss terms as .csv, the code as .py; the explorer as .html.

        Args:
            images: of a .html file, which works without kernel and network; None = the one shown and those after it.
            max_mb: bound of a .html file; images beyond it are left out, and the page says how many it has.
        """
        path = Path(path)
        kind = path.suffix.lstrip(".").lower()
        if kind not in EXPORTS:
            raise UserError(f"path must end in .{', .'.join(EXPORTS)}, got {str(path)!r}; the ending chooses the kind")
        path.write_bytes(self.exported(kind, images=images, max_mb=max_mb))
        return path

    def page(self, images: Iterable[int] | None = None, max_mb: float = 6) -> str:
        """The explorer as one HTML page, see :meth:`save`, with every checkpoint of the image shown."""
        session, here, name = self.session, self.state.image, self.state.student_name
        inference, count = session.inference, len(session.dataset)
        for image in (images := [*images] if images is not None else [(here + i) % count for i in range(count)]):
            check_index("image", image, count)
        shown, others = inference.shown(self.state), range(len(inference.students[name].checkpoints))
        wanted = [(here, shown, True), *((here, {name: i}, False) for i in others if i != self.state.checkpoint)]
        wanted += [(image, shown, True) for image in dict.fromkeys(images) if image != here]
        frames = (frame(inference, image, students, session.ap, base) for image, students, base in wanted)
        return page(self, frames, int(1e6 * max_mb))

    def exported(self, kind: str, **of_page) -> bytes:
        if kind == "html":
            return self.page(**of_page).encode()
        if kind in ("png", "svg"):
            self.figure().savefig(file := io.BytesIO(), format=kind)
            return file.getvalue()
        return (self.numbers().to_csv(index=False) if kind == "csv" else self.code()).encode()

    def _ipython_display_(self, **kwargs) -> None:
        """The widget; and for readers without its kernel a page, and a figure where scripts are not allowed."""
        bundle = self._repr_mimebundle_(**kwargs)
        self._displayed = True
        display(bundle[0] if isinstance(bundle, tuple) else bundle, raw=True)
        display(HTML(still(self.page(images=[]))), self.figure())

    # --- between browser and kernel

    @traitlets.observe("choice")
    def _on_choice(self, change) -> None:
        if getattr(self, "session", None) is None or change["new"] == self.state.dict():
            return
        old = self.state.dict()
        try:
            changes = {name: value for name, value in change["new"].items() if value != old.get(name, ...)}
            self.state = self.session.changed(self.state, changes)
        except Exception as error:
            self.send({"error": one_line(error)})
        if self.choice != self.state.dict():
            self.choice = self.state.dict()

    def _answer(self, widget, content: dict, buffers) -> None:
        try:
            reply, block = self._reply(content, buffers)
        except Exception as error:  # the browser shows errors of detectors and files too
            reply, block = {"error": one_line(error)}, b""
        self.send({"id": content.get("id"), **reply}, [block] if block else None)

    def _reply(self, content: dict, buffers) -> tuple[dict, bytes]:
        ask, session, started = content.get("ask"), self.session, time.perf_counter()
        if ask == "frame":
            asked = (content[name] for name in ("image", "students"))
            message, block = frame(session.inference, *asked, session.ap, content["base"])
            return {**message, "seconds": time.perf_counter() - started}, block
        if ask == "detail":
            state = session.checked(State().but(**content["state"]))
            return detail(session.inference, state)
        if ask == "add":
            session.dataset.add(content["name"], bytes(buffers[0]))
            return {"images": len(session.dataset)}, b""
        if ask in EXPORTS:
            self.state = session.checked(State().but(**content["state"]))
            name = f"explorer_image{session.inference.sample(self.state.image).image_id}_{self.state.level}.{ask}"
            return {"file": name, "type": mimetypes.guess_type(name)[0]}, self.exported(ask)
        return {}, b""  # a question whether the kernel answers

    def _progress(self, line: str) -> None:
        if self._displayed and self.session.inference.seconds > 0.5:  # not for fast detectors
            self.send({"progress": line})


def one_line(error: Exception) -> str:
    text = " ".join(str(error).split())
    return text if isinstance(error, UserError) else f"{type(error).__name__}: {text}"
