"""List prices, each with where and when it was read."""

from datetime import date
from enum import StrEnum
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field

from tools.inputs import read_model

PRICES = Path(__file__).with_name("prices.toml")


class Standing(StrEnum):
    """How near the source is to Google's price list."""

    #: A stored copy of a page of Google's.
    GOOGLE = "Google's page"
    #: Somebody else's copy of Google's page or of its billing API.
    SECOND_HAND = "second-hand"
    #: The price of something similar, since none was found for the thing itself.
    ASSUMED = "assumed"
    #: Nothing was found.
    EXAMPLE = "example: to be filled in"


class Price(BaseModel):
    """One line of a price list."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    sku: str = Field(min_length=1)
    unit: str = Field(min_length=1)
    #: In the list's currency, for one unit.
    price: float = Field(ge=0)
    #: Units of a month that cost nothing, per billing account.
    free: float = Field(default=0, ge=0)
    region: str = Field(min_length=1)
    source: str = Field(min_length=1)
    standing: Standing
    #: When the source was read.
    read: date


class PriceList(BaseModel):
    """All prices that a month is made of."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    currency: str = Field(min_length=1)
    run_gpu: Price
    run_worker_cpu: Price
    run_worker_memory: Price
    run_function_cpu: Price
    run_function_memory: Price
    run_function_requests: Price
    pubsub_throughput: Price
    pubsub_retention: Price
    redis_m1: Price
    redis_m2: Price
    redis_m3: Price
    sql_cpu: Price
    sql_memory: Price
    sql_disk: Price
    sql_backup: Price
    storage: Price
    storage_class_a: Price
    storage_class_b: Price
    registry: Price
    secrets: Price
    logs: Price
    flow_logs: Price
    alerts: Price

    def lines(self) -> list[Price]:
        """Every price, in order."""
        return [value for _, value in self if isinstance(value, Price)]

    def redis(self, memory_gb: float) -> Price:
        """The price of a GiB of an instance of this size: Memorystore has capacity tiers."""
        if memory_gb < 5:
            return self.redis_m1
        return self.redis_m2 if memory_gb <= 10 else self.redis_m3


def load_prices(path: Path = PRICES) -> PriceList:
    """Read a price list.

    Raises:
        InputError: it is not there, is not TOML, or a price is missing, unknown or wrong.
    """
    return read_model(PriceList, path)
