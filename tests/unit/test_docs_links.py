"""Links between the pages lead to existing pages and headings."""

from pathlib import Path

from tests.support.pages import broken_links, each_page_of, pages


@each_page_of(pages())
def test_links_lead_somewhere(page: Path) -> None:
    """Each relative link names an existing file, and an existing heading of the file."""
    assert broken_links(page) == []


def test_a_broken_link_is_found(tmp_path: Path) -> None:
    """Control: links to a missing page and to missing headings are found."""
    page = tmp_path / "page.md"
    page.write_text(
        "# Right `here`\n[a](no.md) [b](#there) [c](#right-here) [d](page.md#there) [e](https://x.org/y#z)\n"
    )
    assert broken_links(page) == ["(no.md)", "(#there)", "(page.md#there)"]
