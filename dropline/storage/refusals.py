"""Why Cloud Storage refused a request: the reason in the API's own words, and the remedy for that reason.

A status alone does not name the cause: 403 is a missing role, a disabled billing account, a hold on the object, a
perimeter of VPC Service Controls, or a quota.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from google.api_core import exceptions as api
from google.auth import exceptions as auth

#: Longest text of a refusal, in characters.
_LONGEST_TEXT = 400
#: Characters of a body that is no JSON (a proxy's page).
_LONGEST_BODY = 200


@dataclass(frozen=True, slots=True)
class Refusal:
    """The answer of Cloud Storage to a refused request."""

    status: int
    #: Names of the reason, as `forbidden` or `SERVICE_DISABLED`; empty without any.
    reasons: tuple[str, ...]
    #: The reason in words, on one line.
    message: str

    @property
    def text(self) -> str:
        """The words, then the names of the reason that the words do not contain."""
        names = [name for name in self.reasons if name not in self.message]
        return f"{self.message} ({', '.join(names)})" if names else self.message


@dataclass(frozen=True, slots=True)
class _Cause:
    """A cause that an operator removes outside the bucket's roles."""

    #: Names of reasons, in lower case.
    reasons: frozenset[str]
    #: Parts of the message, in lower case.
    words: tuple[str, ...]
    remedy: str
    #: True if the same request succeeds after the remedy, for every object alike: the row must wait.
    passes: bool = False

    def explains(self, refusal: Refusal) -> bool:
        message = refusal.message.lower()
        return any(name.lower() in self.reasons for name in refusal.reasons) or any(
            word in message for word in self.words
        )


def _cause(reasons: str, words: tuple[str, ...], remedy: str, *, passes: bool = False) -> _Cause:
    return _Cause(frozenset(reasons.lower().split()), words, remedy, passes)


#: The first cause that explains a refusal counts: reasons with a name of their own come before `forbidden`.
_CAUSES = (
    _cause(
        "accountDisabled billingDisabled billingNotEnabled delinquent UserProjectAccountProblem BILLING_DISABLED "
        "paymentRequired",
        ("billing account", "billing is disabled", "billing to be enabled"),
        "enable billing for the bucket's project, and pay what is due",
        passes=True,
    ),
    _cause(
        "SERVICE_DISABLED accessNotConfigured API_DISABLED",
        ("has not been used in project", "it is disabled"),
        "enable the API storage.googleapis.com in the project",
        passes=True,
    ),
    _cause(
        "keyDisabled KEY_DISABLED",
        ("cloud kms", "cryptokey", "cloudkms"),
        "enable the bucket's Cloud KMS key, and grant the Cloud Storage service agent "
        "roles/cloudkms.cryptoKeyEncrypterDecrypter on it",
        passes=True,
    ),
    _cause(
        "rateLimitExceeded userRateLimitExceeded quotaExceeded dailyLimitExceeded RATE_LIMIT_EXCEEDED "
        "RESOURCE_EXHAUSTED limitExceeded",
        ("quota exceeded", "rate limit"),
        "the request is repeated later; raise the project's quota if the refusal stays",
        passes=True,
    ),
    _cause(
        "retentionPolicyNotMet objectUnderActiveHold",
        ("active hold", "retention policy", "event-based hold", "temporary hold"),
        "release the hold or wait for the end of the retention, or use another object name",
    ),
    _cause(
        "userProjectMissing UserProjectInvalid UserProjectInconsistent required.userProject",
        ("requester pays", "user project"),
        "turn Requester Pays off for the bucket: Dropline names no project that pays",
    ),
    _cause(
        "SECURITY_POLICY_VIOLATED vpcServiceControls",
        ("vpcservicecontrols", "vpc service controls", "organization's policy", "organization policy"),
        "add an ingress rule for this service account to the perimeter, or change the organization's policy",
    ),
    _cause(
        "ACCESS_TOKEN_SCOPE_INSUFFICIENT insufficientScopes",
        ("insufficient authentication scopes", "provided scope(s) are not authorized"),
        "give the credentials the scope devstorage.full_control or cloud-platform: a role does not help",
    ),
    _cause(
        "resourceIsEncryptedWithCustomerEncryptionKey customerEncryptionKeyFormatIsInvalid",
        ("customer-supplied encryption key", "encrypted by a customer"),
        "store the object without a customer-supplied encryption key",
    ),
    _cause(
        "authError ACCOUNT_STATE_INVALID ACCESS_TOKEN_EXPIRED CREDENTIALS_MISSING UNAUTHENTICATED",
        ("invalid credentials", "invalid authentication", "service account is disabled"),
        "renew the credentials, and check this machine's clock, the service account and its key",
    ),
)
_ROLE_REASONS = frozenset({"insufficientpermissions", "iam_permission_denied"})
_ROLE_WORDS = ("does not have", "permission '", "denied on resource", "insufficient permission")


def read_refusal(error: api.GoogleAPICallError) -> Refusal:
    """The reason of a refused request, from the body of the answer."""
    body = _error_of(_body(error))
    named = [each.get("reason") for each in _mappings(body.get("errors") or error.errors)]
    named += [each.get("reason") for each in _mappings(body.get("details") or error.details)]
    message = body.get("message") or _without_request(str(error.message))
    reasons = tuple(dict.fromkeys(name for name in named if isinstance(name, str) and name))
    return Refusal(int(error.code or 0), reasons, _one_line(str(message), _LONGEST_TEXT))


def passes(refusal: Refusal) -> bool:
    """True if the cause lies outside the object and its bucket's roles, so that the row must wait for its end."""
    found = _cause_of(refusal)
    return found is not None and found.passes


def remedy(refusal: Refusal, permission: str, account: str) -> str:
    """What to do about a refusal.

    Args:
        refusal: of the request.
        permission: required by the request.
        account: whose role is missing, as `the worker's service account`.
    """
    found = _cause_of(refusal)
    if found is not None:
        return found.remedy
    if _is_missing_role(refusal):
        return f"grant {account} a role with {permission} on the bucket"
    return f"remove that cause; {account} also needs a role with {permission} on the bucket"


def auth_text(error: auth.GoogleAuthError) -> str:
    """The words of an error of the credentials, and the remedy."""
    words = error.args[0] if error.args else type(error).__name__
    text = _one_line(str(words), _LONGEST_TEXT)
    if isinstance(error, auth.RefreshError):
        text += (
            "; renew the credentials (`gcloud auth application-default login`, or a new key of the service "
            "account), and check this machine's clock and that the account is enabled"
        )
    return text


def _cause_of(refusal: Refusal) -> _Cause | None:
    return next((each for each in _CAUSES if each.explains(refusal)), None)


def _is_missing_role(refusal: Refusal) -> bool:
    message = refusal.message.lower()
    return any(name.lower() in _ROLE_REASONS for name in refusal.reasons) or any(
        word in message for word in _ROLE_WORDS
    )


def _body(error: api.GoogleAPICallError) -> Any:
    """The body of the answer; the library parses it for some requests only."""
    text = getattr(error.response, "text", "")
    if not isinstance(text, str) or not text.strip():
        return {}
    try:
        return json.loads(text)
    except ValueError:
        return {"error": {"message": _one_line(text, _LONGEST_BODY)}}


def _error_of(body: Any) -> Mapping[str, Any]:
    found = body[0] if isinstance(body, list) and body else body
    found = found.get("error") if isinstance(found, Mapping) else None
    return found if isinstance(found, Mapping) else {}


def _mappings(found: Any) -> list[Mapping[str, Any]]:
    return [each for each in found if isinstance(each, Mapping)] if isinstance(found, list | tuple) else []


def _without_request(message: str) -> str:
    """The library's message without its first words, the method and the URL of the request."""
    method, _, rest = message.partition(" ")
    return rest.partition(": ")[2] or message if method.isupper() and "://" in rest else message


def _one_line(text: str, longest: int) -> str:
    line = " ".join(text.split())
    return line if len(line) <= longest else f"{line[: longest - 1]}…"
