"""The policies hold for all examples, and each policy fails for a plan that breaks the rule."""

import shutil
from pathlib import Path

import pytest

from tests.terraform.conftest import EXAMPLES
from tests.terraform.mutation import Mutation
from tests.terraform.mutations import MUTATIONS
from tests.terraform.policies import POLICIES
from tests.terraform.workspace import Plan, Policy, Terraform


@pytest.mark.parametrize("policy", POLICIES, ids=lambda policy: policy.__name__)
def test_the_plan_keeps_the_policy(plan: Plan, policy: Policy) -> None:
    """No example breaks the policy."""
    assert list(policy(plan)) == []


@pytest.mark.parametrize("mutation", MUTATIONS, ids=str)
def test_a_policy_notices_its_mutation(
    terraform: Terraform, sources: Path, tmp_path: Path, mutation: Mutation
) -> None:
    """A broken copy can be planned, and the plan breaks the policy."""
    broken = tmp_path / "terraform"
    shutil.copytree(sources, broken, symlinks=True)
    mutation.apply(broken)
    plan = terraform.plan(broken / "examples" / "minimal", EXAMPLES["minimal"])
    assert list(mutation.policy(plan)) != []


def test_every_policy_is_broken_by_something() -> None:
    """Every policy has a mutation."""
    assert {mutation.policy for mutation in MUTATIONS} == set(POLICIES)
