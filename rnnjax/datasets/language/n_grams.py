"""N-gram baselines for texts: each document by itself, character by character."""

from collections.abc import Sequence

from rnnjax.datasets.language.windows import stream
from rnnjax.datasets.n_grams import n_gram_bits
from rnnjax.datasets.vocabulary import Vocabulary


def bits_per_character(
    train: Sequence[str], held_out: Sequence[str], vocabulary: Vocabulary, longest: int
) -> dict[str, float]:
    """Return the bits per character of held-out documents under n-grams, n = 1 .. longest.

    Every character is predicted, the first from the end token before it; characters that are not in
    the vocabulary count as one. The probabilities are those of `rnnjax.datasets.n_grams`.

    Args:
        train: documents to count in.
        held_out: documents to predict.
        vocabulary: of characters.
        longest: largest n.

    Returns:
        The bits by n as a string, "1" for the frequencies of characters.
    """
    counted, read = (
        [stream([text], vocabulary).tolist()[:-1] for text in texts] for texts in (train, held_out)
    )
    bits = n_gram_bits(counted, read, len(vocabulary), longest) / sum(map(len, held_out))
    return {str(n + 1): float(value) for n, value in enumerate(bits)}
