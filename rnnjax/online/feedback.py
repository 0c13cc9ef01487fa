"""A readout whose gradient comes back through fixed weights of its own."""

import jax
from jaxtyping import Array, Inexact


@jax.custom_vjp
def random_feedback(
    x: Inexact[Array, "*batch H"], kernel: Inexact[Array, "H K"], feedback: Inexact[Array, "K H"]
) -> Inexact[Array, "*batch K"]:
    """Return x kernel, with dl/dx = dl/dy feedback in the place of dl/dy kernel^T.

    The gradient of `kernel` is the exact one, and that of `feedback` is zero. So a network need not
    know the weights of its readout (Lillicrap et al. 2016, "Random synaptic feedback weights
    support error backpropagation for deep learning", Nature Communications 7).
    """
    del feedback
    return x @ kernel


def _forward(x, kernel, feedback):
    return x @ kernel, (x, kernel, feedback)


def _backward(kept, slope):
    x, kernel, feedback = kept
    of_kernel = jax.vjp(lambda kernel: x @ kernel, kernel)[1](slope)[0]
    return slope @ feedback, of_kernel, jax.numpy.zeros_like(feedback)


random_feedback.defvjp(_forward, _backward)
