"""Fields of a cell that a subclass sets in a way that Python's dataclasses would ignore."""

import dataclasses
import functools
import inspect
from types import MemberDescriptorType


def check_fields(kind: type) -> None:
    """Raise a TypeError if a class sets a field of its base classes in a way that has no effect."""
    for name in _inherited(kind):
        given = name in kind.__dict__ and not isinstance(kind.__dict__[name], MemberDescriptorType)
        if given and name not in inspect.get_annotations(kind):
            _refuse(kind, name)


@functools.lru_cache(maxsize=256)
def check_decorated(kind: type) -> None:
    """Raise a TypeError if a class annotates a field anew, and is not a dataclass itself."""
    for base in kind.__mro__:
        if "__dataclass_fields__" not in base.__dict__:
            for name in _inherited(base):
                if name in inspect.get_annotations(base):
                    _refuse(base, name)


def _inherited(kind):
    bases = [base for base in kind.__mro__[1:] if dataclasses.is_dataclass(base)]
    return dict.fromkeys(field.name for base in bases for field in dataclasses.fields(base))


def _refuse(kind, name):
    raise TypeError(
        f"{kind.__name__} sets the field {name}, and its instances would not have that value; "
        f"write `{name}: Any = ...`, with an annotation, in a @dataclasses.dataclass(frozen=True)"
    )
