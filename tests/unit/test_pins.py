"""The pins of constraints.txt."""

from tools.pins import pins


def test_pins_are_sorted_normalised_and_without_local_labels() -> None:
    """Each distribution has a single exact public version, under the normalised name."""
    installed = [("torch", "2.13.0+cpu"), ("PyYAML", "6.0"), ("ruamel.yaml", "1"), ("a_b", "2"), ("pip", "26")]
    assert pins(installed) == ["a-b==2", "pyyaml==6.0", "ruamel-yaml==1", "torch==2.13.0"]
