"""The pages of docs/: links, anchors, navigation, the files that they name, their sentences."""

import functools
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from benchmarks import moving_picture

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
PAGES = sorted(DOCS.rglob("*.md"))
README = ROOT / "README.md"
EVERY = [*PAGES, README, ROOT / "CONTRIBUTING.md"]
INDEXES = sorted(DOCS.rglob("index.md"))
GUIDES = [
    *sorted((DOCS / "tutorials").glob("*.md")),
    *sorted((DOCS / "how-to").glob("*.md")),
    README,
]
LONGEST_SENTENCE = 30
FOREIGN = {"docs/bop_datasets_format.md"}
"""Pages of other projects that code names."""


def name(page: Path) -> str:
    return str(page.relative_to(ROOT))


def without_code(text: str) -> str:
    text = re.sub(r"^( *)(```+).*?^\1\2$", "", text, flags=re.DOTALL | re.MULTILINE)
    return re.sub(r"``[^`]+``|`[^`\n]+`", "code", text)


@functools.cache
def anchors(page: Path) -> set[str]:
    """What can stand behind the # of a link to a page, as code hosts and MyST make it."""
    found = set()
    text = re.sub(r"^```.*?^```$", "", page.read_text(), flags=re.DOTALL | re.MULTILINE)
    for title in re.findall(r"^#+ (.+)$", text, re.MULTILINE):
        slug = re.sub(r"[^\w\- ]", "", title.lower()).strip().replace(" ", "-")
        found.add(slug)
    return found


def links(page: Path) -> list[str]:
    text = without_code(page.read_text())
    return re.findall(r"\]\(([^)\s]+)\)", text)


@pytest.mark.parametrize("page", EVERY, ids=name)
def test_links_lead_somewhere(page):
    dead = []
    for link in links(page):
        if re.match(r"https?://", link):
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        if not target.exists() or (anchor and anchor not in anchors(target)):
            dead.append(link)
    assert dead == []


@pytest.mark.parametrize("page", EVERY, ids=name)
def test_footnotes_are_defined_and_used(page):
    text = page.read_text()
    defined = set(re.findall(r"^\[\^(\w+)\]:", text, re.MULTILINE))
    assert defined == set(re.findall(r"\[\^(\w+)\](?!:)", text))


def test_every_page_is_in_the_navigation_of_its_folder():
    listed = set()
    for index in INDEXES:
        for tree in re.findall(r"```\{toctree\}\n(.*?)```", index.read_text(), re.DOTALL):
            entries = [line for line in tree.splitlines() if line and not line.startswith(":")]
            listed |= {index.parent / f"{entry}.md" for entry in entries}
    pages = {page for page in PAGES if page != DOCS / "index.md"}
    assert sorted(map(name, pages - listed)) == [], "add it to the toctree of an index.md"
    assert sorted(map(name, listed - pages)) == [], "the toctree names a page that is not there"


@pytest.mark.parametrize("page", INDEXES, ids=name)
def test_an_index_links_to_what_its_navigation_lists(page):
    entries = re.findall(r"^[\w-]+(?:/[\w-]+)?$", page.read_text().partition("{toctree}")[2], re.M)
    assert entries
    assert {f"{entry}.md" for entry in entries} <= {*links(page), *(f"{f}/index.md" for f in
            ("tutorials", "how-to", "reference", "explanation"))}  # fmt: skip


@pytest.mark.parametrize("page", EVERY, ids=name)
def test_pages_name_files_that_exist(page):
    """Paths of code are from the repository's root or from the package's."""
    named = set(
        re.findall(r"(?<![\w./<-])[a-z][\w-]*(?:/[\w-]+)+\.(?:py|md|yaml)\b", page.read_text())
    )
    roots = (ROOT, ROOT / "wildseg3d_ros", page.parent)
    # The package that extending.md writes.
    theirs = {path for path in named if path.startswith("wildseg3d_plane/")}
    assert [p for p in named - theirs if not any((root / p).exists() for root in roots)] == []


def test_code_names_pages_that_exist():
    listed = subprocess.run(
        ["git", "ls-files", "*.py", "*.yaml", "*.md", "*.toml", "*.txt", "Makefile"],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    if listed.returncode:
        pytest.skip("not a git clone")
    missing = []
    for file in listed.stdout.split():
        path = ROOT / file
        if path.exists():
            named = re.findall(r"\bdocs/[\w/-]+\.(?:md|jpg|py|webp)\b", path.read_text())
            dead = {page for page in named if not (ROOT / page).exists()} - FOREIGN
            missing += [f"{file}: {page}" for page in sorted(dead)]
    assert missing == []


SCREEN_AND_A_HALF = 1620
"""Of 1080 px, where the page is 900 px wide."""
LIKE_A_CODE_HOST = """
body { font: 16px/1.5 Helvetica, Arial, sans-serif; margin: 32px; max-width: 836px }
td, th { border: 1px solid; padding: 6px 13px } table { border-collapse: collapse }
pre { padding: 16px; font-size: 85% } code { font-size: 85% } img { max-width: 100% }
h1, h2 { padding-bottom: .3em; border-bottom: 1px solid }
"""


def test_readme_fits_a_screen_and_a_half(tmp_path):
    """As Chromium sets it, without the page's margins."""
    markdown = pytest.importorskip("markdown_it")
    playwright = pytest.importorskip("playwright.sync_api")
    browser = next(filter(None, map(shutil.which, moving_picture.BROWSERS)), None)
    if browser is None:
        pytest.skip("Chromium is missing: apt-get install chromium")
    body = markdown.MarkdownIt("commonmark").enable("table").render(README.read_text())
    style = f"<base href='{ROOT.as_uri()}/'><style>{LIKE_A_CODE_HOST}</style>"
    (tmp_path / "readme.html").write_text(f"<!doctype html>{style}<body>{body}")
    with playwright.sync_playwright() as driver:
        chromium = driver.chromium.launch(executable_path=browser, args=["--no-sandbox"])
        page = chromium.new_page(viewport={"width": 900, "height": 1080})
        page.goto((tmp_path / "readme.html").as_uri())
        assert page.evaluate("document.querySelector('img').naturalWidth") > 0
        assert page.evaluate("document.body.scrollHeight") <= SCREEN_AND_A_HALF
        chromium.close()


def test_readme_has_few_words_and_short_lines():
    assert max(map(len, README.read_text().splitlines())) <= 100
    prose = re.sub(
        r"^\|.*\n|\]\([^)]*\)", "", without_code(README.read_text()), flags=re.MULTILINE
    )
    assert len(prose.split()) <= 380


@pytest.mark.parametrize("page", GUIDES, ids=name)
def test_sentences_of_guides_are_short(page):
    text = without_code(page.read_text())
    text = re.sub(r"<!--.*?-->", "", text, flags=re.DOTALL)
    text = re.sub(r"\]\([^)]*\)", "]", text)
    # A row of a table, a heading and an entry of a list end a sentence.
    text = re.sub(r"^(\|.*|#.*)$", r".\n\1\n.", text, flags=re.MULTILINE)
    text = re.sub(r"^\s*(?:[-*]|\d+\.) ", ". ", text, flags=re.MULTILINE)
    text = re.sub(r"\n\n", ".\n", text).replace("|", ". ")
    sentences = re.split(r"[.:;!?](?:\s|$)", text)
    long = [" ".join(s.split()) for s in sentences if len(s.split()) > LONGEST_SENTENCE]
    assert long == []


@pytest.mark.parametrize("page", GUIDES, ids=name)
def test_guides_use_the_words_of_the_list(page):
    table = (DOCS / "reference" / "words.md").read_text().partition("## Not used")[2]
    banned = re.findall(r"^\| ([a-z ]+) \|", table, re.MULTILINE)[1:]
    assert len(banned) == 10
    text = without_code(page.read_text()).lower()
    assert [word for word in banned if re.search(rf"\b{word}s?\b", text)] == []


def test_citation_names_the_version():
    from wildseg3d_ros import __version__

    cited = re.search(r"^version: (\S+)$", (ROOT / "CITATION.cff").read_text(), re.MULTILINE)
    assert cited[1] == __version__


@pytest.mark.parametrize("form", sorted((ROOT / ".github" / "ISSUE_TEMPLATE").glob("*.md")))
def test_issue_templates_ask_for_what_the_program_says(form):
    assert re.search(r"`wildseg3d check|setup\.log", form.read_text())
