"""The names of the series."""

PRICES = "sp500", "nasdaq", "wti"

MEASUREMENTS = "co2", "elnino", "sunspots"

LIMITS = "low", "high"
