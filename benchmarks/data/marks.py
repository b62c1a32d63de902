"""Places in a Markdown page that a benchmark fills, between two marks of its name."""

from __future__ import annotations

import re
from pathlib import Path


def write_marked(page: Path, name: str, text: str) -> None:
    """Replace what stands between the marks of a name.

    Args:
        page: the Markdown page.
        name: of the benchmark.
        text: what is to stand there.

    Raises:
        SystemExit: the page has no such marks.
    """
    begin, end = f"<!-- benchmark: {name} -->", f"<!-- end of benchmark: {name} -->"
    old = page.read_text(encoding="utf-8")
    new, found = re.subn(f"{begin}.*?{end}", lambda _: f"{begin}\n\n{text}\n\n{end}", old, flags=re.DOTALL)
    if not found:
        raise SystemExit(f"{page} has no place for the table: {begin}")
    page.write_text(new, encoding="utf-8")
