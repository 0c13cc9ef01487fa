"""How sequences are read out of models: token by token from a step, and from the outputs of CTC.

A model is a pure function `step(carry, token) -> (carry, logits)` of tokens `[B]`, int32, logits
`[B, V]`, unnormalised, and a carry, any pytree of arrays `[B, ...]`. Around a cell:

    def step(carry, token):
        carry = cell.step(params.cell, carry, cell.project(params.cell, params.embedding[token]))
        return carry, cell.output(carry) @ params.head

Probabilities are computed in float32 or wider. Each function is one `lax.scan`, pure and of fixed
shapes: wrap it in `jax.jit`, or else each call compiles its loop anew.

Axis letters: T time, B batch, V tokens of the vocabulary, W hypotheses of a beam.
"""

from rnnjax.decoding.beams import beam_search
from rnnjax.decoding.ctc import ctc_beam_search, ctc_greedy
from rnnjax.decoding.sequences import generate, greedy, sample

__all__ = ["beam_search", "ctc_beam_search", "ctc_greedy", "generate", "greedy", "sample"]
