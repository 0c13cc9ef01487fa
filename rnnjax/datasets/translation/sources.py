"""The collections of sentence pairs."""

from typing import NamedTuple


class Source(NamedTuple):
    """One collection of pairs."""

    languages: tuple[str, str]
    description: str  # for reports: the content and its scale


SOURCES = {
    "jupyterlab": Source(
        ("English", "French"),
        "messages of JupyterLab's user interface (package jupyterlab-language-pack-fr-FR), "
        "about 3,100 short pairs: demonstration scale, and no everyday language",
    ),
    "tatoeba": Source(
        ("English", "French"),
        "1,000 everyday sentences of Tatoeba (the test set of LASER): demonstration scale",
    ),
    "ted": Source(
        ("Portuguese", "English"),
        "sentences of TED talks (ted_hrlr_translate/pt_to_en), about 52,000 pairs",
    ),
}
