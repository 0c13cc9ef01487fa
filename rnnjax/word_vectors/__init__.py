"""Pretrained word vectors for an embedding table; neighbours and analogies in a trained one.

The vectors are gensim's `KeyedVectors`, so that everything in gensim works with them. The readers
are ours. gensim's readers copy a line's only number to all D places, report a binary file as cut
if a word within `limit` is repeated, accept NaN, and name neither file nor line.

Axis letters: V words, D numbers per word. gensim is imported when a function first needs it; if it
is missing, that function raises an ImportError.
"""

from rnnjax.word_vectors.files import read_glove, read_word2vec
from rnnjax.word_vectors.neighbours import analogy, nearest
from rnnjax.word_vectors.tables import from_table, table

__all__ = ["analogy", "from_table", "nearest", "read_glove", "read_word2vec", "table"]
