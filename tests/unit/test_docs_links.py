"""Links between the pages lead somewhere."""

from pathlib import Path

from tests.support.pages import broken_links, each_page_of, pages


@each_page_of(pages())
def test_links_lead_somewhere(page: Path) -> None:
    """Each relative link names a file that is there, and a heading that it has."""
    assert broken_links(page) == []


def test_a_broken_link_is_found(tmp_path: Path) -> None:
    """Control: a page and headings that are not there."""
    page = tmp_path / "page.md"
    page.write_text(
        "# Right `here`\n[a](no.md) [b](#there) [c](#right-here) [d](page.md#there) [e](https://x.org/y#z)\n"
    )
    assert broken_links(page) == ["(no.md)", "(#there)", "(page.md#there)"]
