"""The site builds without a warning, and its pages load nothing from elsewhere."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    for module in ("sphinx", "myst_parser", "furo", "nicegui", "rclpy"):
        pytest.importorskip(module)
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "sphinx", "-n", "-W", "--keep-going", "-q"]
    done = subprocess.run(
        [*command, str(ROOT / "docs"), str(folder)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return folder


def test_pages_load_nothing_from_elsewhere(site):
    pages = list(site.rglob("*.html"))
    assert len(pages) > 30
    for page in pages:
        loaded = re.findall(
            r"<(?:script|img|iframe|source)[^>]*\bsrc=\"([^\"]+)\"|<link[^>]*\bhref=\"([^\"]+)\"",
            page.read_text(),
        )
        away = [a or b for a, b in loaded if re.match(r"(https?:)?//", a or b)]
        assert away == [], page.relative_to(site)


def test_mermaid_is_beside_the_pages(site):
    assert (site / "_static" / "mermaid" / "index.js").exists()
    assert '<pre class="mermaid">' in (site / "explanation" / "architecture.html").read_text()


def test_search_finds_what_people_ask_for(site):
    """Words that a page does not have lead to it all the same."""
    from runpy import run_path

    searched = run_path(str(ROOT / "docs" / "conf.py"))["SEARCHED"]
    found = json.loads((site / "searchindex.js").read_text().removeprefix("Search.setIndex(")[:-1])
    for page, words in searched.items():
        number = found["docnames"].index(page)
        for word in words:
            assert number in [entry[0] for entry in found["indexentries"][word.lower()]], word
