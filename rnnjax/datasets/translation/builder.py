"""The TFDS builders of sentence pairs in two languages; they run without TensorFlow."""

import json
import tarfile
from collections.abc import Iterable, Mapping
from typing import ClassVar

import tensorflow_datasets as tfds

from rnnjax.datasets.builders import Builder, package_file
from rnnjax.datasets.translation.messages import Pair, apart, by_message


class SentencePairs(Builder, skip_registration=True):
    """Builds examples of source and target, two texts, and index; abstract."""

    @classmethod
    def features(cls):
        """Return the features of a row, without `index`."""
        return {"source": tfds.features.Text(), "target": tfds.features.Text()}

    def _generators(self, splits: Mapping[str, Iterable[Pair]]):
        return {
            split: self._generate_examples({"source": s, "target": t} for s, t in pairs)
            for split, pairs in splits.items()
        }


class JupyterlabEnFr(SentencePairs, skip_registration=True):
    """Builds the messages of JupyterLab's user interface, English and French.

    Raises ModuleNotFoundError when the package jupyterlab-language-pack-fr-FR is missing.
    """

    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES: ClassVar = {"1.0.0": "Splits by message, 8 : 1 : 1."}
    DESCRIPTION = """\
Messages of the user interface of JupyterLab and its extensions, English, with the French of their
volunteer translators: menu entries, buttons, settings, errors. About 3,100 pairs, most of them with
six words or fewer: demonstration scale, and not everyday language. Messages with a plural form are
used in the singular. Pairs with the same letters and digits in English or in French (in lower case,
without accents, spaces, punctuation and placeholders such as %1) are in one split; of pairs that
agree in both languages only one is kept. Pairs without letters and digits are left out."""
    HOMEPAGE = "https://github.com/jupyterlab/language-packs"

    def _split_generators(self, dl_manager):
        place = "locale", "fr_FR", "LC_MESSAGES"
        folder = package_file("jupyterlab_language_pack_fr_FR", *place, extra="text")
        pairs = []
        for path in sorted(folder.glob("*.json")):
            messages = json.loads(path.read_text(encoding="utf-8"))
            messages.pop("", None)  # about the file
            pairs += [(key.split("\x04")[-1], forms[0]) for key, forms in messages.items()]
        return self._generators(by_message(pairs))


class TatoebaEnFr(SentencePairs, skip_registration=True):
    """Builds the English-French pairs of Tatoeba that TFDS calls `tatoeba/tatoeba_fr`."""

    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES: ClassVar = {"1.0.0": "The 1,000 pairs of LASER; splits by message, 8 : 1 : 1."}
    DESCRIPTION = """\
1,000 everyday sentences in English and French from the collaborative collection Tatoeba, as chosen
for the test of LASER. Pairs with the same letters and digits in English or in French
are in one split; of pairs that agree in both languages only one is kept."""
    CITATION = """\
@article{artetxe2019massively,
  title = {Massively Multilingual Sentence Embeddings for Zero-Shot Cross-Lingual Transfer and
           Beyond},
  author = {Artetxe, Mikel and Schwenk, Holger},
  journal = {Transactions of the Association for Computational Linguistics},
  year = {2019},
}"""
    HOMEPAGE = "https://github.com/facebookresearch/LASER/tree/main/data/tatoeba/v1"
    DOWNLOADS: ClassVar[Mapping[str, tuple[int, str]]] = {
        "https://raw.githubusercontent.com/facebookresearch/LASER/main/data/tatoeba/v1/"
        "tatoeba.fra-eng.eng": (
            36291,
            "5634220f8a26a9a23b84753a9aec0b0832e6bdaa9da3f83e0bd84c928c3f46e3",
        ),
        "https://raw.githubusercontent.com/facebookresearch/LASER/main/data/tatoeba/v1/"
        "tatoeba.fra-eng.fra": (
            43727,
            "644172ff9642fefa9e41c29b7d6f44196518e84350dc44d4992e943c0cca92b6",
        ),
    }

    def _split_generators(self, dl_manager):
        paths = [dl_manager.download(address) for address in sorted(self.DOWNLOADS)]
        english, french = (lines(path.read_bytes()) for path in paths)
        return self._generators(by_message(zip(english, french, strict=True)))


class TedPtEn(SentencePairs, skip_registration=True):
    """Builds the Portuguese-English pairs of TED talks, TFDS's `ted_hrlr_translate/pt_to_en`."""

    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES: ClassVar = {"1.0.0": "The official splits, by talk, without what they share."}
    DESCRIPTION = """\
Sentences of TED talks in Portuguese, with the English that was spoken: about 52,000 pairs to train
on, in lower case, words and punctuation separated by spaces. The official splits keep talks apart.
Test is complete; a pair with the letters and digits of a test pair in Portuguese or in English
("thank you .") is left out of validation and train, and pairs like those of validation are left out
of train."""
    CITATION = """\
@inproceedings{qi2018when,
  title = {When and Why are Pre-trained Word Embeddings Useful for Neural Machine Translation?},
  author = {Qi, Ye and Sachan, Devendra and Felix, Matthieu and Padmanabhan, Sarguna and
            Neubig, Graham},
  booktitle = {NAACL-HLT},
  year = {2018},
}"""
    HOMEPAGE = "https://github.com/neulab/word-embeddings-for-nmt"
    DOWNLOADS: ClassVar[Mapping[str, tuple[int, str]]] = {
        "http://www.phontron.com/data/qi18naacl-dataset.tar.gz": (
            131005909,
            "216a86c3df4d4f522856fe9b920ff5be6b394d769cc88974ae8f9f5546953bbc",
        )
    }

    def _split_generators(self, dl_manager):
        (address,) = self.DOWNLOADS
        names = {"test": "test", "validation": "dev", "train": "train"}
        wanted = {f"datasets/pt_to_en/{lang}.{n}" for lang in ("pt", "en") for n in names.values()}
        with tarfile.open(dl_manager.download(address)) as archive:
            found = {
                name: lines(file.read())
                for member in archive
                if (name := member.name.removeprefix("./")) in wanted
                and (file := archive.extractfile(member))
            }
        if missing := sorted(wanted - found.keys()):
            raise OSError(f"{address} has no {missing[0]}")
        portuguese, english = (
            {split: found[f"datasets/pt_to_en/{lang}.{n}"] for split, n in names.items()}
            for lang in ("pt", "en")
        )
        parts = {split: zip(portuguese[split], english[split], strict=True) for split in names}
        return self._generators(apart(parts))


def lines(content: bytes) -> list[str]:
    """Return the lines of a text; only a line feed ends a line."""
    return content.decode("utf-8").removesuffix("\n").split("\n")


BUILDERS = {"jupyterlab": JupyterlabEnFr, "tatoeba": TatoebaEnFr, "ted": TedPtEn}
