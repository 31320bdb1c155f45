"""Organisation policies against the deployment (docs/deploy.md#policies-of-the-organisation)."""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from operations.cloud_check.api import Api, Refused
from operations.cloud_check.findings import Finding, Level, Plan
from operations.cloud_check.needs import SERVICES
from operations.cloud_check.project import Project, unchecked

#: The group of a single region's locations.
_OF_A_REGION = re.compile(r"in:[a-z]+-[a-z]+[0-9]+-locations")
_QUEUE_ELSEWHERE = (
    "the queue of Cloud Tasks would be there: give Terraform `tasks_region`, an allowed region with Cloud Tasks, "
    "or worker_scale_to_zero = false"
)


@dataclass(frozen=True, slots=True)
class Rules:
    """The rules of an effective policy, without those under a condition."""

    allowed: frozenset[str] = frozenset()
    denied: frozenset[str] = frozenset()
    denies_all: bool = False
    allows_all: bool = False
    enforced: bool = False
    #: Some rules hold only under a condition.
    conditional: bool = False

    @classmethod
    def of(cls, policy: dict[str, Any]) -> "Rules":
        """Read the document of `getEffectivePolicy`."""
        rules = policy.get("spec", {}).get("rules", [])
        plain = [each for each in rules if not each.get("condition")]
        values = [each.get("values", {}) for each in plain]
        return cls(
            allowed=frozenset(name for each in values for name in each.get("allowedValues", [])),
            denied=frozenset(name for each in values for name in each.get("deniedValues", [])),
            denies_all=any(each.get("denyAll") for each in plain),
            allows_all=any(each.get("allowAll") for each in plain),
            enforced=any(each.get("enforce") for each in plain),
            conditional=len(plain) < len(rules),
        )

    def refuses(self, value: str) -> bool:
        """True if a list of plain values does not allow a value."""
        name = f"is:{value}"
        if self.denies_all or value in self.denied or name in self.denied:
            return True
        return (
            bool(self.allowed) and not self.allows_all and value not in self.allowed and name not in self.allowed
        )


@dataclass(frozen=True, slots=True)
class Constraint:
    """A constraint, and its judgement of a deployment."""

    name: str
    judge: Callable[[Rules, Plan], tuple[Level, str] | None]
    #: The required value; empty: the constraint is enforced or not.
    value: Callable[[Plan], str] = field(default=lambda _: "")


def check_policies(api: Api, plan: Plan, project: Project) -> Iterator[Finding]:
    """No policy in effect refuses a part of the deployment."""
    quiet = True
    for constraint in CONSTRAINTS:
        path = f"v2/projects/{plan.project}/policies/{constraint.name}:getEffectivePolicy"
        try:
            rules = Rules.of(api.get("orgpolicy.googleapis.com", path))
        except Refused as refused:
            if refused.is_missing:
                continue
            yield unchecked(plan, "policies", refused, "roles/orgpolicy.policyViewer")
            if refused.status == 403:
                return
            quiet = False
            continue
        if finding := _judge(constraint, rules, plan, project):
            quiet = False
            yield finding
    if quiet:
        yield Finding(Level.OK, "policies", f"none of {len(CONSTRAINTS)} constraints refuses the deployment")


def _judge(constraint: Constraint, rules: Rules, plan: Plan, project: Project) -> Finding | None:
    told = constraint.judge(rules, plan)
    if told is None:
        if not rules.conditional:
            return None
        told = (Level.WARNING, "has rules under a condition, which the check does not read")
    level, text = told
    return Finding(level, "policies", f"{constraint.name} {text}", _commands(constraint, plan, project, level))


def _commands(constraint: Constraint, plan: Plan, project: Project, level: Level) -> tuple[str, ...]:
    """The command for a person, and where the required value is refused that for an administrator of policies."""
    if constraint.name == "iam.automaticIamGrantsForDefaultServiceAccounts":
        member = f"serviceAccount:{project.number}-compute@developer.gserviceaccount.com"
        role = "--role=roles/cloudbuild.builds.builder --condition=None"
        services = "gcloud services enable compute.googleapis.com cloudbuild.googleapis.com"
        return (
            f"{services} --project={plan.project}",
            f"gcloud projects add-iam-policy-binding {plan.project} --member={member} {role}",
        )
    shown = f"gcloud org-policies describe {constraint.name} --effective --project={plan.project}"
    value = constraint.value(plan)
    allow = f"gcloud resource-manager org-policies allow {constraint.name} {value} --project={plan.project}"
    return (shown, allow) if value and level is Level.BLOCKED else (shown,)


def _plain(value: str) -> Callable[[Rules, Plan], tuple[Level, str] | None]:
    """A constraint with one required value."""

    def judge(rules: Rules, _: Plan) -> tuple[Level, str] | None:
        return (Level.BLOCKED, f"does not allow {value}") if rules.refuses(value) else None

    return judge


def _ingress(rules: Rules, plan: Plan) -> tuple[Level, str] | None:
    if rules.refuses("all") and not rules.refuses("internal"):
        return Level.WARNING, "does not allow all: right without a gallery, and a gallery is refused"
    return _plain("internal")(rules, plan)


def _invokers(rules: Rules, _: Plan) -> tuple[Level, str] | None:
    text = (
        "is enforced: right without a gallery or with `members`, and a gallery with tokens of its own is refused"
    )
    return (Level.WARNING, text) if rules.enforced else None


def _locations(rules: Rules, plan: Plan) -> tuple[Level, str] | None:
    """The region is allowed, and so are the locations of the queue of Cloud Tasks."""
    if refused := [place for place in plan.locations if _refuses_location(rules, place)]:
        allowed = f": it allows {', '.join(sorted(rules.allowed))}" if rules.allowed else ""
        queue = "" if plan.region in refused else "; " + _QUEUE_ELSEWHERE
        return Level.BLOCKED, f"refuses resources in {', '.join(refused)}{allowed}{queue}"
    if not rules.allowed or rules.allows_all:
        return None
    if unsure := [place for place in plan.locations if not rules.allowed & _spellings(place)]:
        text = f"allows groups of locations: check that they have {', '.join(unsure)}"
        return Level.WARNING, f"{text}: {', '.join(sorted(rules.allowed))}"
    return Level.WARNING, "allows the region; secrets are replicated automatically, which it may refuse"


def _refuses_location(rules: Rules, location: str) -> bool:
    """True if the rules refuse a location; a group of several regions is not resolved, and may have it."""
    names = _spellings(location)
    if rules.denies_all or rules.denied & names:
        return True
    groups = [each for each in rules.allowed if each.startswith("in:") and not _OF_A_REGION.fullmatch(each)]
    return bool(rules.allowed) and not (rules.allows_all or groups or rules.allowed & names)


def _spellings(location: str) -> set[str]:
    return {location, f"is:{location}", f"in:{location}-locations"}


def _peering(rules: Rules, _: Plan) -> tuple[Level, str] | None:
    if rules.denies_all:
        return Level.BLOCKED, "refuses every peering, so Postgres and Redis get no address"
    if rules.allowed or rules.denied:
        return Level.WARNING, "restricts peerings; it must allow that of servicenetworking.googleapis.com"
    return None


def _services(rules: Rules, _: Plan) -> tuple[Level, str] | None:
    refused = [service for service in SERVICES if rules.refuses(service)]
    if not refused:
        return None
    groups = any(name.startswith("in:") for name in rules.allowed)
    return Level.WARNING if groups and not rules.denies_all else Level.BLOCKED, f"refuses {', '.join(refused)}"


def _own_keys(rules: Rules, _: Plan) -> tuple[Level, str] | None:
    refused = [service for service in SERVICES if rules.denies_all or {service, f"is:{service}"} & rules.denied]
    if not refused:
        return None
    return Level.BLOCKED, f"wants keys of your own for {', '.join(refused)}, for which Dropline has no variables"


def _grants(rules: Rules, _: Plan) -> tuple[Level, str] | None:
    text = "is enforced: Cloud Build's account gets no role by itself; grant it one before `make images`"
    return (Level.WARNING, text) if rules.enforced else None


CONSTRAINTS = (
    Constraint(
        "gcp.resourceLocations",
        _locations,
        lambda plan: " ".join(f"in:{place}-locations" for place in plan.locations),
    ),
    Constraint("gcp.restrictServiceUsage", _services),
    Constraint("gcp.restrictNonCmekServices", _own_keys),
    Constraint("compute.restrictVpcPeering", _peering),
    Constraint("run.allowedIngress", _ingress, lambda _: "internal"),
    Constraint("run.managed.requireInvokerIam", _invokers),
    Constraint("run.allowedVPCEgress", _plain("private-ranges-only"), lambda _: "private-ranges-only"),
    Constraint("iam.automaticIamGrantsForDefaultServiceAccounts", _grants),
)
