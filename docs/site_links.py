"""A hook for mkdocs: links that lead out of docs/ work in the site as they do on a code host.

The README becomes the front page. Whatever else a page links to outside of docs/ (CHANGELOG.md, an example, a
record) becomes part of the site, below tree/.
"""

import os
import re
from pathlib import Path, PurePosixPath

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).parents[1]
FRONT = "README.md"
LINK = re.compile(r"(\]\()([^)\s#]+)(#[^)\s]*)?(\))")


def site_uri(path: str) -> str:
    """Where the site has a file of the tree, both relative to their roots."""
    if path == FRONT:
        return "index.md"
    return path.removeprefix("docs/") if path.startswith("docs/") else f"tree/{path}"


def tree_path(uri: str) -> str:
    """The reverse of `site_uri`."""
    if uri == "index.md":
        return FRONT
    return uri.removeprefix("tree/") if uri.startswith("tree/") else f"docs/{uri}"


def target(path: str, link: str) -> str | None:
    """The file of the tree that a link in the page `path` leads to; None for links to elsewhere."""
    if "://" in link or link.startswith("mailto:"):
        return None
    return os.path.normpath(PurePosixPath(path).parent / link).replace(os.sep, "/")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Takes in every file that is linked to, and what is linked to from there."""
    todo, seen = [FRONT, *(tree_path(file.src_uri) for file in files.documentation_pages())], set[str]()
    while todo:
        path = todo.pop()
        if path in seen or not (ROOT / path).is_file():
            continue
        seen.add(path)
        if not path.startswith("docs/"):
            files.append(File.generated(config, site_uri(path), abs_src_path=str(ROOT / path)))
        if path.endswith(".md"):
            text = (ROOT / path).read_text(encoding="utf-8")
            todo += filter(None, (target(path, match[2]) for match in LINK.finditer(text)))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Rewrites the links of a page from the tree's places to the site's."""
    path = tree_path(page.file.src_uri)

    def rewrite(match: re.Match[str]) -> str:
        leads_to = target(path, match[2])
        if leads_to is None:
            return match[0]
        uri = os.path.relpath(site_uri(leads_to), PurePosixPath(page.file.src_uri).parent)
        return f"{match[1]}{uri.replace(os.sep, '/')}{match[3] or ''}{match[4]}"

    return LINK.sub(rewrite, markdown)
