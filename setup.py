"""What pyproject.toml cannot say: the wheel carries ablations/ inside the package, and its page has no broken links."""
import re
import shutil
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py

HERE = Path(__file__).parent
RELATIVE_LINK = re.compile(r"!?\[([^\]]*)\]\((?!https?:)[^)]*\)")


class WithAblations(build_py):
    """Copies sweeps, results and the two notebooks to fgdlab/lab/ablations, where an installed fgdlab finds them."""

    def run(self) -> None:
        super().run()
        if not self.editable_mode:
            target = Path(self.build_lib, "fgdlab/lab/ablations")
            for folder in ("sweeps", "results"):
                shutil.copytree(HERE / "ablations" / folder, target / folder, dirs_exist_ok=True)
            for notebook in ("run_one.ipynb", "report.ipynb"):
                shutil.copy2(HERE / "ablations" / notebook, target)


setup(
    cmdclass={"build_py": WithAblations},
    long_description=RELATIVE_LINK.sub(r"\1", (HERE / "README.md").read_text(encoding="utf-8")),
    long_description_content_type="text/markdown",
)
