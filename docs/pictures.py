"""Pictures of the documentation, taken out of reports: `python docs/pictures.py runs/sales/report.html docs/assets/forecasting forecasts horizon`.

Each picture of the named sections becomes SECTION-NUMBER.svg, on the page's light paper so that it can be read on dark screens too.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

__all__ = ["pictures"]

PAPER = '<rect width="100%" height="100%" fill="#fffefb"/>'


def pictures(page: str, section: str) -> list[str]:
    """The SVG pictures of a section of a report, in their order."""
    found = re.search(rf'<section id="{section}".*?</section>', page, re.DOTALL)
    if found is None:
        raise SystemExit(f"The report has no section {section!r}.")
    drawn = re.findall(r"<svg.*?</svg>", found[0], re.DOTALL)
    return [re.sub(r"(<svg[^>]*>)", rf"\1{PAPER}", picture, count=1) for picture in drawn]


if __name__ == "__main__":
    report, folder, *names = sys.argv[1:]
    text = Path(report).read_text(encoding="utf-8")
    for name in names:
        for number, picture in enumerate(pictures(text, name), 1):
            Path(folder, f"{name}-{number}.svg").write_text(picture + "\n", encoding="utf-8")
