"""Build the site of conf.py. A warning, such as a link that leads nowhere, fails the build.

    python notebooks/site/build.py [OUT]      OUT/html/index.html; the default is the folder site of the project

Sphinx is in an environment of its own, .venv-docs beside the one that runs this, which it sees, too.
"""
import os
import shutil
import site
import subprocess
import sys
import venv
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
ENVIRONMENT = Path(sys.prefix).with_name(".venv-docs")


def python() -> Path:
    """The Python of .venv-docs, which is made anew where requirements.txt has changed."""
    path, stamp, wanted = ENVIRONMENT / "bin/python", ENVIRONMENT / "ready", HERE / "requirements.txt"
    if not stamp.exists() or stamp.read_text() != wanted.read_text():
        venv.create(ENVIRONMENT, clear=True, with_pip=True)
        own = subprocess.run(
            [path, "-c", "import site; print(site.getsitepackages()[0])"], check=True, capture_output=True, text=True)
        seen = site.getsitepackages()[0]
        Path(own.stdout.strip(), "bench.pth").write_text(f"import site; site.addsitedir({seen!r})\n")
        subprocess.run(
            [path, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "-r", wanted], check=True)
        shutil.copy(wanted, stamp)
    return path


def main() -> int:
    out = Path(sys.argv[1] if len(sys.argv) > 1 else ROOT / "site").resolve()
    shutil.rmtree(out / "html", ignore_errors=True)
    words = ["-q", "--nitpicky", "--fail-on-warning", "--keep-going", "-d", out / "doctrees", "-c", HERE]
    code = subprocess.run(
        [python(), "-m", "sphinx", *words, HERE.parent, out / "html"],
        env={**os.environ, "PYTHONPATH": str(ROOT)}).returncode
    print(f"open {out / 'html/index.html'}" if code == 0 else "the site has warnings; see above")
    return code


if __name__ == "__main__":
    sys.exit(main())
