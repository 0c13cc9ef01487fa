"""What the last bits of a number may depend on: the version of JAX, and the kind of device."""

import sys

import jax

from rnnjax.training.multihost import is_first_process


def platform() -> str:
    """Return the version of JAX and the kind of device of this process."""
    return f"JAX {jax.__version__} on {jax.devices()[0].device_kind}"


def compare_platform(name: str, before: str) -> None:
    """Say on standard error if a training was started on another platform.

    Args:
        name: of the training.
        before: the platform on which it was started.
    """
    if before != platform() and is_first_process():
        print(
            f"{name}: started with {before}, resumes with {platform()}; the last bits may differ",
            file=sys.stderr,
        )
