# ---
# jupyter:
#   jupytext:
#     formats: ipynb,py:percent
#     text_representation:
#       extension: .py
#       format_name: percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # From one step of a cell to the gradient through time
#
# A recurrent network reads a sequence one step at a time and keeps what it has seen in a *carry*.
# This notebook takes one step by hand, unrolls it, asks how much the end of a sequence depends on
# its beginning, and sees why a vanilla (Elman) network forgets. It runs in under a minute.

# %%
import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np

import rnnjax
from rnnjax import GRU, LSTM, Elman
from rnnjax.diagnostics import adjoints, half_life, log_gradient_profile

# %% [markdown]
# ## One step
#
# A cell is a value: a few hyperparameters and pure functions. Its parameters are a pytree of their
# own. For the Elman network a step is
#
# $$h' = \tanh(W x + U h + b).$$
#
# rnnjax splits it in two halves: `project` needs the input only, `step` is what has to wait for the
# carry.

# %%
cell = Elman(features=4)
params = cell.init(jax.random.key(0), input_size=2)
x = jnp.array([1.0, -1.0])

carry = cell.initial_carry(())  # no batch dimensions
u = cell.project(params, x)
carry = cell.step(params, carry, u)
print("one step:", cell.output(carry))
print("by hand: ", jnp.tanh(x @ params.input_kernel + params.bias))

# %% [markdown]
# The LSTM's carry has two parts with names: the cell state `c` and the hidden state `h`.

# %%
print(LSTM(features=2).initial_carry(()))

# %% [markdown]
# ## Many steps
#
# `rnnjax.unroll` repeats the step over the leading axis of `xs`, which is time. Further axes are
# the batch.

# %%
T, B, D, H = 200, 16, 2, 32
xs = jax.random.normal(jax.random.key(1), (T, B, D))
cells = {"Elman": Elman(H), "LSTM": LSTM(H), "GRU": GRU(H)}
params = {name: cell.init(jax.random.key(2), D) for name, cell in cells.items()}

final, outputs = rnnjax.unroll(cells["LSTM"], params["LSTM"], xs)
print("outputs", outputs.shape, "final c", final.c.shape)

# %% [markdown]
# ## Back through time
#
# Take a loss that looks at the last output only. How does it depend on the carry $s_t$ that enters
# step $t$? That is the *adjoint* $a_t = \partial L / \partial s_t$, through every step in between.


# %%
def loss(outputs):
    return outputs[-1].sum()


a = adjoints(cells["Elman"], params["Elman"], xs, loss)
for t in (199, 190, 150, 100, 0):
    print(f"t = {t:3}: ||dL/dh_t|| = {np.linalg.norm(a.h[t, 0]):.3g}")

# %% [markdown]
# After some hundred steps the number is so small that 32-bit floats hold only zeros: the arithmetic
# has given up, not the mathematics. `log_gradient_profile` renormalises at every step and returns
# the *logarithm* of the norm, which does not underflow.

# %%
profiles = {}
for name, cell in cells.items():
    final, _ = rnnjax.unroll(cell, params[name], xs)
    cotangent = jax.grad(lambda carry, cell=cell: cell.output(carry).sum())(final)
    profiles[name] = log_gradient_profile(cell, params[name], xs, cotangent)  # [T, B], natural log
    print(f"{name:5} ln ||dL/ds_0|| = {np.median(profiles[name][0]):.1f}")

# %% [markdown]
# ## The figure
#
# Against the lag $k = T - t$, on a logarithmic axis, exponential decay is a straight line, and its
# slope gives a half-life: the lag over which the gradient halves. The band is the middle half of
# the sequences.

# %%
figure, ax = plt.subplots(figsize=(6, 3.6), layout="constrained")
lag = np.arange(T, 0, -1)
for name, profile in profiles.items():
    low, middle, high = np.quantile(np.asarray(profile) / np.log(10), (0.25, 0.5, 0.75), axis=1)
    life = float(half_life(jnp.median(profile, axis=1)[::-1]))
    (line,) = ax.plot(lag, middle, label=f"{name}, half-life {life:.1f} steps")
    ax.fill_between(lag, low, high, color=line.get_color(), alpha=0.2)
ax.set(xlabel="lag k (steps back from the end)", ylabel="log10 of the gradient's norm")
ax.legend()
plt.show()

# %% [markdown]
# All three vanish before training, at their own rates. What sets the LSTM apart is that its rate is
# a number you can choose: along `c` the gradient shrinks by the forget gate, $\sigma(b_f)$ a step
# while the weights are small, so a larger bias remembers longer. (At a bias of 5 the decay is gone:
# what the recurrent weights add makes up for what the forget gate still takes.)

# %%
lives = {}
for forget_bias in (0.0, 1.0, 3.0, 5.0):
    cell = LSTM(H, forget_bias=forget_bias)
    p = cell.init(jax.random.key(2), D)
    final, _ = rnnjax.unroll(cell, p, xs)
    cotangent = jax.grad(lambda carry, cell=cell: cell.output(carry).sum())(final)
    profile = log_gradient_profile(cell, p, xs, cotangent)
    lives[forget_bias] = float(half_life(jnp.median(profile, axis=1)[::-1]))
    print(f"forget bias {forget_bias}: half-life {lives[forget_bias]:.1f} steps")

# %% [markdown]
# Next: `python experiments/vanishing_gradients.py` measures the same profiles before, during and
# after training, and shows who learns.
