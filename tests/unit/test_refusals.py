"""Refusals of Cloud Storage: the API's own reason first, then the remedy for exactly that reason."""

import json
from typing import Any

import pytest
import requests
from google.api_core import exceptions as api
from google.auth import exceptions as auth
from google.cloud.storage.exceptions import InvalidResponse

from dropline.contract import ObjectVersion
from dropline.errors import AccessDenied, ClientError, DroplineError, PermanentError, StorageUnavailable
from dropline.storage.errors import command_errors, worker_errors
from dropline.storage.refusals import read_refusal

VERSION = ObjectVersion("b", "n.jpg", 7)
PERMISSION = "storage.objects.get"
MISSING_ROLE = (
    "w@p.iam.gserviceaccount.com does not have storage.objects.get access to the Google Cloud Storage object."
)

#: Status, the error of the answer, the worker's error, a part of the remedy.
CASES = {
    "role": (403, ("forbidden", MISSING_ROLE), AccessDenied, "grant the worker's service account a role"),
    "billing": (
        403,
        ("accountDisabled", "The billing account for the owning project is disabled in state absent"),
        StorageUnavailable,
        "enable billing",
    ),
    "delinquent": (402, ("delinquent", "payment is overdue"), StorageUnavailable, "enable billing"),
    "api": (
        403,
        ("accessNotConfigured", "Cloud Storage JSON API has not been used in project 1 before or it is disabled."),
        StorageUnavailable,
        "enable the API",
    ),
    "kms": (
        400,
        ("invalid", "Cloud KMS key projects/p/locations/l/keyRings/r/cryptoKeys/k is not enabled: DISABLED"),
        StorageUnavailable,
        "enable the bucket's Cloud KMS key",
    ),
    "quota": (403, ("rateLimitExceeded", "Rate Limit Exceeded"), StorageUnavailable, "repeated later"),
    "hold": (
        403,
        ("objectUnderActiveHold", "Object 'b/n.jpg' is under active Temporary hold"),
        AccessDenied,
        "hold",
    ),
    "retention": (
        403,
        ("retentionPolicyNotMet", "Object 'b/n.jpg' is subject to bucket's"),
        AccessDenied,
        "retention",
    ),
    "requester pays": (
        400,
        ("required", "Bucket is a requester pays bucket but no user project provided."),
        PermanentError,
        "requester pays",
    ),
    "perimeter": (
        403,
        ("forbidden", "Request is prohibited by organization's policy. vpcServiceControlsUniqueIdentifier: x"),
        AccessDenied,
        "ingress rule",
    ),
    "scope": (
        403,
        ("insufficientPermissions", "Insufficient authentication scopes."),
        AccessDenied,
        "a role does not help",
    ),
    "scope of a change": (
        403,
        ("forbidden", "Provided scope(s) are not authorized"),
        AccessDenied,
        "devstorage.full_control",
    ),
    "token": (401, ("authError", "Invalid Credentials"), AccessDenied, "clock"),
    "locked": (423, ("locked", "The object is locked"), PermanentError, "The object is locked"),
    "precondition": (412, ("conditionNotMet", "At least one condition failed"), PermanentError, "conditionNotMet"),
}


def answer(status: int, body: str) -> requests.Response:
    """A response of Cloud Storage."""
    response = requests.Response()
    response.status_code = status
    response._content = body.encode()  # requests has no public constructor with a body
    response.request = requests.Request("GET", "https://storage.googleapis.com/storage/v1/b/b/o/n.jpg").prepare()
    return response


def refusal(status: int, reason: str, message: str, **more: Any) -> requests.Response:
    """The error of the JSON API."""
    errors = [{"domain": "global", "reason": reason, "message": message}]
    return answer(status, json.dumps({"error": {"code": status, "message": message, "errors": errors} | more}))


def of_metadata(response: requests.Response) -> api.GoogleAPICallError:
    """The library's error of a request for metadata."""
    error: api.GoogleAPICallError = api.from_http_response(response)
    return error


def of_download(response: requests.Response) -> api.GoogleAPICallError:
    """The library's error of a download: the reasons are in the body alone."""
    error: api.GoogleAPICallError = api.from_http_status(
        response.status_code, f"GET https://x/y: {response.text}: ('Request failed', 403)", response=response
    )
    return error


def of_worker(error: Exception) -> DroplineError:
    """The worker's name of an error."""
    with pytest.raises(DroplineError) as caught, worker_errors(VERSION, PERMISSION):
        raise error
    return caught.value


def of_command(error: Exception) -> DroplineError:
    """A command's name of an error."""
    with pytest.raises(DroplineError) as caught, command_errors(VERSION.uri, PERMISSION, missing="gs://b"):
        raise error
    return caught.value


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("request_of", [of_metadata, of_download])
def test_the_reason_comes_first(case: str, request_of: Any) -> None:
    """The words of the API come before the remedy, and `grant a role` is the remedy of a missing role alone."""
    status, (reason, message), kind, told = CASES[case]
    error = of_worker(request_of(refusal(status, reason, message)))
    text = str(error)
    assert type(error) is kind
    assert message in text
    assert told in text[text.index(message) :]
    assert ("grant the worker" in text) is (case == "role")
    assert "http" not in text
    assert "\n" not in text


@pytest.mark.parametrize("case", CASES)
def test_a_command_has_the_same_reason(case: str) -> None:
    """A command prints the same words on one line."""
    status, (reason, message), kind, _ = CASES[case]
    error = of_command(of_metadata(refusal(status, reason, message)))
    assert isinstance(error, ClientError if kind is PermanentError else kind)
    assert message in str(error)
    assert ("grant your account" in str(error)) is (case == "role")


def test_the_reason_of_newer_answers_is_found() -> None:
    """`details` of google.rpc have the reason in an ErrorInfo."""
    details = [
        {
            "@type": "type.googleapis.com/google.rpc.ErrorInfo",
            "reason": "SERVICE_DISABLED",
            "domain": "googleapis.com",
        }
    ]
    found = read_refusal(of_metadata(refusal(403, "forbidden", "no", details=details)))
    assert found.reasons == ("forbidden", "SERVICE_DISABLED")
    assert "enable the API" in str(of_worker(of_metadata(refusal(403, "forbidden", "no", details=details))))


@pytest.mark.parametrize(
    "body",
    [
        "",
        "<html>\n" + "x" * 9000,
        "[]",
        "[1]",
        '{"error": "x"}',
        '{"error": {"message": 1, "errors": 5}}',
        "null",
        "{",
    ],
)
def test_an_answer_of_any_form_is_read(body: str) -> None:
    """A proxy's page or an empty body is one short line."""
    text = str(of_worker(of_download(answer(403, body))))
    assert len(text) < 800
    assert "\n" not in text


@pytest.mark.parametrize(
    ("error", "worker", "command"),
    [
        (
            auth.RefreshError(("invalid_grant: Token has been expired or revoked.", {"e": 1})),
            StorageUnavailable,
            StorageUnavailable,
        ),
        (auth.ReauthFailError("x"), StorageUnavailable, StorageUnavailable),
        (auth.TransportError("x"), StorageUnavailable, StorageUnavailable),
        (auth.MutualTLSChannelError("x"), StorageUnavailable, StorageUnavailable),
        (auth.DefaultCredentialsError("x"), AccessDenied, AccessDenied),
        (auth.MalformedError("x"), AccessDenied, AccessDenied),
        (auth.OSError("x"), AccessDenied, AccessDenied),
        (requests.JSONDecodeError("x", "", 0), StorageUnavailable, StorageUnavailable),
        (ConnectionResetError("x"), StorageUnavailable, StorageUnavailable),
        (InvalidResponse(None, "x"), StorageUnavailable, StorageUnavailable),
        (api.RetryError("x", cause=None), StorageUnavailable, StorageUnavailable),
        (api.MovedPermanently("x"), PermanentError, ClientError),
        (ValueError("Bucket names must start and end with a number or letter."), PermanentError, ClientError),
    ],
)
def test_every_other_error_has_a_name(
    error: Exception, worker: type[DroplineError], command: type[DroplineError]
) -> None:
    """Credentials, network and the library's own checks: no foreign error passes."""
    assert type(of_worker(error)) is worker
    assert type(of_command(error)) is command


def test_a_revoked_token_is_told_with_its_remedy() -> None:
    """The first words are those of the token server, and the clock is named."""
    text = str(
        of_command(
            auth.RefreshError("invalid_grant: Invalid JWT: iat is in the future", {"error": "invalid_grant"})
        )
    )
    assert "invalid_grant: Invalid JWT: iat is in the future; renew the credentials" in text
    assert "clock" in text
