"""The description of the API against the API: requests made from `/openapi.json` by schemathesis."""

from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis.core.result import Ok
from schemathesis.specs.openapi.checks import positive_data_acceptance

from tests.support.gallery_rig import GalleryRig


@pytest.mark.filterwarnings("default")
def test_answers_are_as_described(gallery: GalleryRig) -> None:
    """Every answer to a generated request has a described status, type and shape, and no answer is a fault."""
    schema = schemathesis.openapi.from_url(f"{gallery.url}/openapi.json").exclude(path="/api/events")
    tried = 0
    for result in schema.get_all_operations():
        assert isinstance(result, Ok)
        operation = result.ok()
        tried += 1

        @settings(
            max_examples=20,
            deadline=None,
            database=None,
            suppress_health_check=list(HealthCheck),
            phases=[Phase.explicit, Phase.generate],
        )
        @given(case=operation.as_strategy())
        def check(case: Any) -> None:
            # A value of the right form may still be unusable: a cursor, a task, the address of an object.
            case.call_and_validate(excluded_checks=[positive_data_acceptance])

        check()
    assert tried == 12
