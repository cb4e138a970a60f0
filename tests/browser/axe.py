"""axe-core on a page: what it finds serious or critical."""

from axe_playwright_python.sync_playwright import Axe


def serious(page, selector: str) -> list[str]:
    """One line per serious or critical finding within the elements of a selector; of a dialog that is shown, too."""
    found = Axe().run(page, context={"include": [[selector]]}).response["violations"]
    return [
        f"{each['id']}: {node['html'][:120]} {node['failureSummary']}"
        for each in found
        if each["impact"] in ("serious", "critical")
        for node in each["nodes"]
    ]
