"""The public client: captions of a Dropline service by HTTP alone, without other credentials."""

from dropline.client.asynchronous import AsyncClient
from dropline.client.errors import (
    CaptionFailed,
    NoAnswerYet,
    Problem,
    ServiceError,
    ServiceTimeout,
    ServiceUnreachable,
    UnexpectedAnswer,
)
from dropline.client.plain import Client
from dropline.client.results import Backfill, Caption, Change, Recaption, Reset, Submitted
from dropline.contract import Status
from dropline.errors import ClientError
from dropline.regions import Box, Polygon

__all__ = [
    "AsyncClient",
    "Backfill",
    "Box",
    "Caption",
    "CaptionFailed",
    "Change",
    "Client",
    "ClientError",
    "NoAnswerYet",
    "Polygon",
    "Problem",
    "Recaption",
    "Reset",
    "ServiceError",
    "ServiceTimeout",
    "ServiceUnreachable",
    "Status",
    "Submitted",
    "UnexpectedAnswer",
]
