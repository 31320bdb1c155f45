"""Filters of captions: texts that no row can have."""

from typing import Any

import pytest

from db.caption_filter import CaptionFilter
from dropline.errors import ClientError


@pytest.mark.parametrize("text", ["a\0", "a\ud800"])
@pytest.mark.parametrize("field", ["objects", "bucket", "prefix", "task", "model", "revision"])
def test_a_text_that_no_row_can_have_is_refused(field: str, text: str) -> None:
    """Without the character, the filter would take other rows."""
    values: dict[str, Any] = {field: (("drops", text, None),) if field == "objects" else text}
    with pytest.raises(ClientError, match="no row has"):
        CaptionFilter(**values)
