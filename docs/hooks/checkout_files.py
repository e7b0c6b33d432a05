"""Brings files of the checkout that lie outside of docs/ into the site: the benchmarks' results, two pages of the root.

Pages link to them as they lie in the checkout, so that the links lead somewhere there, too.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
RESULTS = ROOT / "benchmarks" / "results"
PAGES = {"CHANGELOG.md": "changelog.md", "CONTRIBUTING.md": "contributing.md"}


def site_files() -> dict[str, Path]:
    """The files to bring in, by their place in the site."""
    results = {f"results/{path.name}": path for path in sorted(RESULTS.iterdir())}
    return {**results, **{place: ROOT / name for name, place in PAGES.items()}}


def on_files(files: Any, config: Any) -> Any:
    """MkDocs' event: the site's files and ours."""
    from mkdocs.structure.files import File  # here, so that the tests need no MkDocs

    for place, path in site_files().items():
        files.append(File.generated(config, place, abs_src_path=str(path)))
    return files


def on_page_markdown(markdown: str, **_: Any) -> str:
    """MkDocs' event: links to the files lead to their places in the site."""
    markdown = re.sub(r"\]\(((?:\.\./)*)\.\./benchmarks/results/", r"](\1results/", markdown)
    for name, place in PAGES.items():
        markdown = re.sub(rf"\]\(((?:\.\./)*)\.\./{re.escape(name)}", rf"](\1{place}", markdown)
    return markdown
