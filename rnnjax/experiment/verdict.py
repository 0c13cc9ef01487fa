"""What a run says about the claim of its experiment, and the conditions that decided it."""

import dataclasses
import enum
from collections.abc import Mapping
from typing import Any


class Outcome(enum.StrEnum):
    """What a run says about a claim."""

    REPRODUCED = "reproduced"
    NOT_REPRODUCED = "not reproduced"
    INCONCLUSIVE = "inconclusive"
    """The run cannot tell: the reason says why."""
    QUICK_RUN_ONLY = "quick run only"
    """Options below their defaults make the run too small to judge."""


@dataclasses.dataclass(frozen=True)
class Verdict:
    """An outcome, the named conditions that decided it, and a reason where it is not judged."""

    outcome: Outcome
    conditions: Mapping[str, bool]
    reason: str = ""

    @classmethod
    def judge(cls, conditions: Mapping[str, Any], *, otherwise: str = "") -> "Verdict":
        """Return `reproduced` if all conditions hold, else `not reproduced`.

        Args:
            conditions: name -> whether it holds.
            otherwise: the reason to give where there are none: the verdict is `inconclusive`.
        """
        conditions = {name: bool(holds) for name, holds in conditions.items()}
        if not conditions:
            return cls(Outcome.INCONCLUSIVE, {}, otherwise or "the run measured no condition")
        holds = all(conditions.values())
        return cls(Outcome.REPRODUCED if holds else Outcome.NOT_REPRODUCED, conditions)

    @classmethod
    def inconclusive(cls, reason: str, conditions: Mapping[str, Any] | None = None) -> "Verdict":
        """Return a verdict of `inconclusive`, with the reason and the conditions so far."""
        known = {name: bool(holds) for name, holds in (conditions or {}).items()}
        return cls(Outcome.INCONCLUSIVE, known, reason)

    def unless_quick(self, config: Any, *names: str, **limits: tuple[Any, Any]) -> "Verdict":
        """Return this verdict, or `quick run only` if an option is below its limit.

        Args:
            config: a dataclass.
            names: of options that must not be below their defaults.
            limits: other values, by the name of the option, each with its limit.
        """
        defaults: dict[str, Any] = {
            field.name: field.default for field in dataclasses.fields(config)
        }
        compared = {name: (getattr(config, name), defaults[name]) for name in names} | limits
        below = [
            f"--{name.replace('_', '-')} {value:g} is below {limit:g}"
            for name, (value, limit) in compared.items()
            if value < limit
        ]
        if not below:
            return self
        return Verdict(Outcome.QUICK_RUN_ONLY, self.conditions, "; ".join(below))

    def entry(self) -> dict[str, Any]:
        """Return what summary.json holds under `verdict`."""
        found = {"outcome": str(self.outcome), "conditions": dict(self.conditions)}
        return found | ({"reason": self.reason} if self.reason else {})


def print_verdict(verdict: Verdict) -> None:
    """Print every condition with whether it holds, then the outcome and its reason."""
    for condition, holds in verdict.conditions.items():
        print(f"{'yes' if holds else 'NO':4}{condition}")
    print(f"Verdict: {verdict.outcome}" + (f" ({verdict.reason})" if verdict.reason else ""))
