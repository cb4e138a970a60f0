"""Runs the explorer's scripts in node, which playwright brings, without a browser."""

import base64
import json
import subprocess

from playwright._impl._driver import compute_driver_executable

from fgdlab.lab.explorer.widget import STATIC

DRIVER = """
let text = "";
process.stdin.on("data", (chunk) => { text += chunk; });
process.stdin.on("end", () => {
  const given = JSON.parse(text), out = (() => { BODY })();
  const plain = (name, value) => (ArrayBuffer.isView(value) ? Array.from(value) : value);
  process.stdout.write(JSON.stringify(out, plain));
});
"""


def run_scripts(scripts: tuple[str, ...], body: str, **given):
    """What ``body`` returns, run after the named scripts with ``given`` (JSON; bytes become base64)."""
    source = "\n".join([*((STATIC / name).read_text() for name in scripts), DRIVER.replace("BODY", body)])
    text = json.dumps(given, default=lambda value: base64.b64encode(value).decode())
    command = [compute_driver_executable()[0], "--input-type=module", "--eval", source]
    done = subprocess.run(command, input=text, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)
