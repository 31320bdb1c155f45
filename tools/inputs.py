"""The inputs of docs/costs.md and of the formulas of docs/scaling.md, each with its source.

`inputs.toml` has Terraform's defaults, measurements and assumptions, `prices.toml` list prices. A test compares
the quoted values with the quoted files.
"""

import tomllib
from collections.abc import Mapping
from datetime import date
from enum import StrEnum
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from dropline.errors import DroplineError

INPUTS = Path(__file__).with_name("inputs.toml")
PRICES = Path(__file__).with_name("prices.toml")

#: The number of each input, by name.
Values = Mapping[str, float]
Model = TypeVar("Model", bound=BaseModel)


class InputError(DroplineError):
    """A file of inputs cannot be used."""


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Quoted(_Frozen):
    """A number that a file of this repository states."""

    value: float = Field(ge=0)
    unit: str
    #: Path from the repository's root.
    file: str
    #: The sentence or line with the value, word for word except for white space.
    says: str


class Assumed(_Frozen):
    """An estimate without a measurement."""

    value: float = Field(ge=0)
    unit: str
    why: str


class Inputs(_Frozen):
    """All inputs except prices, by name; a name is unique across the three groups."""

    #: Terraform's defaults.
    deployed: dict[str, Quoted]
    #: Costs of the components, measured without a model.
    measured: dict[str, Quoted]
    assumed: dict[str, Assumed]

    def values(self) -> Values:
        """The numbers of all groups."""
        groups: tuple[Mapping[str, Quoted | Assumed], ...] = (self.deployed, self.measured, self.assumed)
        return {name: entry.value for group in groups for name, entry in group.items()}


class Standing(StrEnum):
    """How near the source of a price is to Google's price list."""

    #: A stored copy of a Google page.
    GOOGLE = "Google's page"
    #: Another site's copy of a Google page or of Google's billing API.
    SECOND_HAND = "second-hand"
    #: The price of a similar SKU, because no price of the SKU itself was found.
    ASSUMED = "assumed"
    #: A placeholder: no price was found.
    EXAMPLE = "example: to be filled in"


class Price(_Frozen):
    """One SKU of the price list."""

    sku: str = Field(min_length=1)
    unit: str = Field(min_length=1)
    #: For one unit, in the list's currency.
    price: float = Field(ge=0)
    #: Free units a month, per billing account.
    free: float = Field(default=0, ge=0)
    region: str = Field(min_length=1)
    source: str = Field(min_length=1)
    standing: Standing
    #: Date of reading.
    read: date


class PriceList(_Frozen):
    """The price of each SKU, by name."""

    currency: str = Field(min_length=1)
    prices: dict[str, Price]

    def without_free_tiers(self) -> "PriceList":
        """The same prices, without free units."""
        return PriceList(
            currency=self.currency,
            prices={name: price.model_copy(update={"free": 0}) for name, price in self.prices.items()},
        )


def load_inputs(path: Path = INPUTS) -> Inputs:
    """Read a file of inputs.

    Raises:
        InputError: the file is missing or not TOML, or an entry is missing, unknown or wrong.
    """
    return _validated(Inputs, path, _document(path), _document(INPUTS))


def load_prices(path: Path = PRICES) -> PriceList:
    """Read a price list.

    Raises:
        InputError: the file is missing or not TOML, or a price is missing, unknown or wrong.
    """
    return _validated(PriceList, path, _by_sku(_document(path)), _by_sku(_document(PRICES)))


def _by_sku(document: dict[str, Any]) -> dict[str, Any]:
    prices = {name: entry for name, entry in document.items() if name != "currency"}
    return {"currency": document.get("currency", ""), "prices": prices}


def _validated(model: type[Model], path: Path, document: Mapping[str, Any], default: Mapping[str, Any]) -> Model:
    problems = _problems_of_names(document, default)
    try:
        found = model.model_validate(document)
    except ValidationError as error:
        items = error.errors(include_url=False, include_input=False)
        problems += [f"{'.'.join(map(str, item['loc'])) or 'the file'}: {item['msg']}" for item in items]
    if problems:
        raise InputError(
            f"{path}: {'; '.join(problems)}; begin from a copy of tools/inputs.toml or tools/prices.toml"
        )
    return found


def _document(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text())
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error.strerror}): give the path of a TOML file") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InputError(f"{path} is not TOML: {error}") from None


def _problems_of_names(document: Mapping[str, Any], default: Mapping[str, Any]) -> list[str]:
    found, expected = _names(document), _names(default)
    missing, unknown = sorted(expected - found), sorted(found - expected)
    return [f"{name} is missing" for name in missing] + [f"{name} is unknown" for name in unknown]


def _names(document: Mapping[str, Any]) -> set[str]:
    groups = {group: names for group, names in document.items() if isinstance(names, dict)}
    return {f"{group}.{name}" for group, names in groups.items() for name in names}
