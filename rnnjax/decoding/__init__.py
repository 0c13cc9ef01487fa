"""Reading sequences out of models: token by token from a step function, and from CTC outputs.

A model is a pure function `step(carry, token) -> (carry, logits)`: tokens `[B]`, int32; logits
`[B, V]`, unnormalised; the carry any pytree of arrays `[B, ...]`. Around a cell:

    ready = cell.prepare(params.cell)

    def step(carry, token):
        carry = cell.step(ready, carry, cell.project(ready, params.embedding[token]))
        return carry, cell.output(carry) @ params.head

Probabilities are computed in float32 or wider. Each function is one `lax.scan` with fixed shapes:
wrap it in `jax.jit`, otherwise each call compiles its loop again.

Axis letters: T time, B batch, V tokens of the vocabulary, W hypotheses of a beam.
"""

from rnnjax.decoding.beams import beam_search
from rnnjax.decoding.ctc import ctc_beam_search, ctc_greedy
from rnnjax.decoding.samples import sample_after, sample_from, translate
from rnnjax.decoding.sequences import Samples, generate, greedy, sample

__all__ = [
    "Samples",
    "beam_search",
    "ctc_beam_search",
    "ctc_greedy",
    "generate",
    "greedy",
    "sample",
    "sample_after",
    "sample_from",
    "translate",
]
