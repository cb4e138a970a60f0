"""The explorer as one HTML file without kernel and network: the widget's own scripts, and frames of some images."""
import base64
import gzip
import json
from collections.abc import Iterable

from .widget import SCRIPT, STATIC, ExplorerWidget


def page(widget: ExplorerWidget, frames: Iterable[tuple[dict, bytes]], max_bytes: int) -> str:
    """One file with as many of the frames as fit into ``max_bytes`` compressed; at least the first."""
    kept, size = [], 0
    for message, block in frames:
        packed = base64.b64encode(gzip.compress(block, 6)).decode()
        size += len(packed) + len(json.dumps(message))
        if kept and size > max_bytes:
            break
        kept.append([message, packed])
    images = sorted({message["image"] for message, _ in kept})
    tables = base64.b64encode(widget.lookup_tables).decode()
    data = {"info": {**widget.info, "list": images}, "choice": widget.choice, "frames": kept, "lookup_tables": tables}
    style, start, text = (
        (STATIC / name).read_text(encoding="utf-8") for name in ("explorer.css", "page/start.js", "page/page.html")
    )
    script = SCRIPT.replace("export default", "const widget =") + start
    data = json.dumps(data, allow_nan=False).replace("<", "\\u003c")
    return text.replace("\nSTYLE\n", style).replace("\nSCRIPT\n", script).replace(">DATA<", f">{data}<")
