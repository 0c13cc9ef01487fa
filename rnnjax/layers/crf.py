"""A conditional random field over the classes of a sequence: the head of a tagger."""

from collections.abc import Sequence
from typing import Any

import flax.linen as nn
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from rnnjax.layers import linear_chain
from rnnjax.layers.heads import linear_map
from rnnjax.layers.linear_chain import CRFOutputs
from rnnjax.layers.padding import valid_steps
from rnnjax.recurrence.options import known

Pair = tuple[int | None, int | None]


class CRFHead(nn.Module):
    """Classes that depend on their neighbours: a linear-chain conditional random field.

        p(y | h) ~ exp(start[y_1] + sum_t (W h_t + b)[y_t] + sum_t A[y_{t-1}, y_t] + end[y_n])

    It is a head for `ManyToMany`, whose `loss`, `mode` and `sample` are about whole sequences. A,
    start and end are parameters and begin at zero, where this is a `SoftmaxHead` at every step.

        outputs = model.apply(variables, inputs, seq_lengths=lengths)
        loss = model.head.loss(outputs, targets).mean()
        best = model.head.mode(outputs)

    The outputs hold the lengths: padding, NaN included, changes no value and no gradient. A
    sequence of no steps has one path, whose loss and score are 0.

    Args:
        features: K, the number of classes.
        dtype: what the matmul computes in; outputs are float32 or wider.
        forbidden: pairs of classes `(i, j)`: j never follows i. `(None, j)`: no sequence begins
            with j; `(i, None)`: none ends with i. `bio_forbidden` gives those of BIO labels.

    Raises:
        ValueError: `forbidden` holds something else.

    Sources: Lafferty, McCallum, Pereira 2001, "Conditional random fields"; on an LSTM Huang, Xu, Yu
    2015, arXiv:1508.01991, and Lample et al. 2016, arXiv:1603.01360.
    """

    features: int
    dtype: Any = None
    forbidden: Sequence[Pair] = ()

    def __post_init__(self):
        pairs = tuple(tuple(pair) for pair in self.forbidden)
        for pair in pairs:
            ends = [k for k in pair if k is not None]
            if len(pair) != 2 or not ends or not all(0 <= k < self.features for k in ends):
                raise ValueError(
                    "forbidden must hold pairs of classes (i, j) in 0..K-1 = "
                    f"0..{self.features - 1}, one of which may be None, got {pair}"
                )
        object.__setattr__(self, "forbidden", pairs)  # lists are allowed; tuples are hashable
        nn.Module.__post_init__(self)

    @nn.compact
    def __call__(self, inputs: Array, *, seq_lengths: Any = None) -> CRFOutputs:
        """Return the scores of sequences `[*batch, T, H]`; `seq_lengths` `[*batch]` are in them."""
        if inputs.ndim < 2:
            raise ValueError(f"CRFHead needs inputs [*batch, T, H], got shape {inputs.shape}")
        size, zeros = self.features, nn.initializers.zeros_init()
        logits = linear_map(inputs, size, seq_lengths=seq_lengths, dtype=self.dtype)
        scores = {
            "transitions": self.param("transitions", zeros, (size, size)),
            "start": self.param("start", zeros, (size,)),
            "end": self.param("end", zeros, (size,)),
        }
        ruled_out = np.zeros((size + 1, size + 1), bool)  # None counts as class K
        for i, j in self.forbidden:
            ruled_out[size if i is None else i, size if j is None else j] = True
        places = {"transitions": np.s_[:size, :size], "start": np.s_[size, :size]}
        places["end"] = np.s_[:size, size]
        for name, place in places.items():
            scores[name] = jnp.where(ruled_out[place], -jnp.inf, scores[name])
        lengths = None if seq_lengths is None else jnp.asarray(seq_lengths)
        return CRFOutputs(logits, **scores, seq_lengths=lengths)

    @staticmethod
    def loss(outputs: CRFOutputs, targets: Int[Array, "*batch T"]) -> Float[Array, "*batch"]:
        """Return -ln p(targets), in nats, of each sequence.

        Targets in the padding may be anything. Another target that is no class is an error where
        its value is known; under `jax.jit`, where it is not, the loss is NaN. Targets that are
        ruled out have an infinite loss and no gradient.

        Raises:
            ValueError: the shapes do not fit, or a target, where it is known, is not in 0..K-1.
            TypeError: the targets are not integers.
        """
        targets, wrong = _checked(outputs, targets)
        total = linear_chain.log_partition(outputs)
        score = linear_chain.path_score(outputs, targets)
        never = jnp.isneginf(total) | jnp.isneginf(score)
        loss = jnp.where(never, 0, total) - jnp.where(never, 0, score)
        # Where the path is almost certain, the difference is rounded to less than zero.
        loss = jnp.where(never, jnp.inf, jnp.maximum(loss, 0))
        return jnp.where(wrong, jnp.nan, loss)

    @staticmethod
    def mode(outputs: CRFOutputs) -> Int[Array, "*batch T"]:
        """Return the most probable path, with zeros in the padding, as `viterbi` does."""
        return linear_chain.viterbi(outputs)[0]

    @staticmethod
    def sample(outputs: CRFOutputs, *, key: Array) -> Int[Array, "*batch T"]:
        """Draw a path, with zeros in the padding."""
        return linear_chain.sample_path(outputs, key)

    @staticmethod
    def viterbi(outputs: CRFOutputs) -> tuple[Int[Array, "*batch T"], Float[Array, "*batch"]]:
        """Return the most probable path and its score; less `log_partition`, its log probability.

        Of equally good paths the one with the lowest last class is chosen, and so on backwards. If
        all paths are ruled out, the score is -inf.
        """
        return linear_chain.viterbi(outputs)

    @staticmethod
    def marginals(outputs: CRFOutputs) -> Float[Array, "*batch T K"]:
        """Return the probability of each class at each step, over all paths; 0 in the padding."""
        return linear_chain.marginals(outputs)

    @staticmethod
    def log_partition(outputs: CRFOutputs) -> Float[Array, "*batch"]:
        """Return the log of the sum over all paths of exp(score)."""
        return linear_chain.log_partition(outputs)


def bio_forbidden(labels: Sequence[str]) -> tuple[Pair, ...]:
    """Return what BIO labels rule out: I-x follows B-x or I-x alone, and begins no sequence.

        CRFHead(len(labels), forbidden=bio_forbidden(labels))

    Args:
        labels: the names of the classes: O, B-x and I-x, for any kinds x.

    Raises:
        ValueError: a label is none of these, is repeated, or is an I-x without its B-x.

    Source: Ramshaw, Marcus 1995, "Text chunking using transformation-based learning", with B at
    the beginning of every chunk.
    """
    for label in labels:
        if label != "O" and (label[:2] not in ("B-", "I-") or len(label) < 3):
            raise ValueError(f"labels must be O, B-x or I-x, got {label!r}")
        if list(labels).count(label) > 1:
            raise ValueError(f"labels must not repeat a label, but {label!r} appears twice")
        if label.startswith("I-") and f"B{label[1:]}" not in labels:
            raise ValueError(f"labels must hold B{label[1:]} if they hold {label}, got {labels}")
    inside = [(j, label[1:]) for j, label in enumerate(labels) if label.startswith("I-")]
    pairs: list[Pair] = [(None, j) for j, _ in inside]
    pairs += [(i, j) for j, kind in inside for i, label in enumerate(labels) if label[1:] != kind]
    return tuple(pairs)


def check_answers_alone(head: Any) -> None:
    """Check that a head answers each step, or each sequence, by itself.

    Raises:
        TypeError: it is a `CRFHead`.
    """
    if isinstance(head, CRFHead):
        raise TypeError(
            "a CRFHead answers whole sequences: it is the head of ManyToMany, and cannot run step "
            "by step"
        )


def _checked(outputs, targets):
    """Return targets that are classes, and which sequences had others `[*batch]`."""
    shape, classes = outputs.logits.shape[:-1], outputs.logits.shape[-1]
    given, targets = known(targets), jnp.asarray(targets)
    if not jnp.issubdtype(targets.dtype, jnp.integer):
        raise TypeError(f"targets must be integers, got {targets.dtype}")
    if targets.shape != shape:
        raise ValueError(f"targets must have shape [*batch, T] = {shape}, got {targets.shape}")
    valid = valid_steps(outputs.seq_lengths, shape)
    there = True if valid is None else known(valid)
    wrong = (targets < 0) | (targets >= classes)
    if given is not None and there is not None:
        found = given[((given < 0) | (given >= classes)) & there]
        if found.size:
            raise ValueError(f"targets must lie in 0..K-1 = 0..{classes - 1}, got {found[0]}")
    wrong = wrong if valid is None else wrong & valid
    return jnp.clip(targets, 0, classes - 1), wrong.any(-1)
