"""Which texts share passages: w-shingling."""

from collections.abc import Mapping


def shingles(text: str, words: int = 8) -> set[tuple[str, ...]]:
    """Return all runs of `words` consecutive words; a shorter text is one run.

    Source: Broder 1997, "On the resemblance and containment of documents".
    """
    found = text.split()
    return {tuple(found[i : i + words]) for i in range(max(1, len(found) - words + 1))}


def unlike(
    texts: Mapping[str, str], *, contained: float = 0.5, alike: float = 0.05
) -> list[list[str]]:
    """Return the names of the texts in groups that share almost nothing, longest text first.

    Args:
        texts: name -> text.
        contained: a text is left out if at least this fraction of its shingles is in longer texts.
        alike: two texts are in one group if they share at least this fraction of the shorter one's
            shingles.
    """
    groups: list[dict[str, set]] = []
    known: set = set()
    for name in sorted(texts, key=lambda name: (-len(texts[name]), name)):
        own = shingles(texts[name])
        if len(own & known) >= contained * len(own):
            continue
        known |= own
        near = [g for g in groups if max(len(own & s) for s in g.values()) >= alike * len(own)]
        joined = {name: own} if not near else {}
        for group in near:
            joined |= group
        groups = [g for g in groups if g not in near] + [joined | {name: own}]
    return [list(group) for group in groups]
