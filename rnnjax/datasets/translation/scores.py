"""BLEU and chrF, by sacrebleu."""

from typing import Any


def bleu_and_chrf() -> tuple[Any, Any]:
    """Return sacrebleu's `BLEU()` and `CHRF()`.

    Raises:
        ModuleNotFoundError: sacrebleu is missing; the message names the extra.
    """
    try:
        from sacrebleu import BLEU, CHRF
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            "translations are scored by sacrebleu, which cannot be imported "
            f"({error.name} is missing): pip install 'rnnjax[text]'",
            name=error.name,
        ) from None
    return BLEU(), CHRF()
