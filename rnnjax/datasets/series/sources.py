"""The series: their names, what they are, their units."""

from typing import NamedTuple


class Measurement(NamedTuple):
    """A measured series with a season."""

    description: str
    unit: str
    season: int  # steps


PRICES = {
    "sp500": "S&P 500",
    "nasdaq": "NASDAQ Composite",
    "wti": "West Texas Intermediate crude oil",
}

MEASUREMENTS = {
    "elnino": Measurement(
        "sea surface temperature, Nino 1+2, monthly, degrees Celsius", "degrees Celsius", 12
    ),
    "co2": Measurement("CO2 in the air of Mauna Loa, weekly, ppm", "ppm", 52),
    "sunspots": Measurement("sunspot numbers, yearly", "sunspot number", 11),
}

LIMITS = "low", "high"
