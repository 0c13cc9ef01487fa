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
# A recurrent network reads a sequence one step at a time and keeps a summary of it, the *carry*.
# This notebook takes one step by hand, unrolls it over a sequence, measures how much the end of the
# sequence depends on its beginning, and shows why a vanilla (Elman) network forgets. It runs in
# under a minute.

# %%
import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np

import rnnjax
from rnnjax import GRU, LSTM, Elman, online
from rnnjax.diagnostics import adjoints, gradient_profile, gradient_quality

# %% [markdown]
# ## One step
#
# A cell is a value: a few hyperparameters and pure functions. Its parameters are a pytree of their
# own. For the Elman network a step is
#
# $$h' = \tanh(W x + U h + b).$$
#
# rnnjax splits it in two: `project` needs only the input, `step` needs the carry too.

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
# Take a loss of the last output only. How does it depend on the carry $s_t$ that enters
# step $t$? That is the *adjoint* $a_t = \partial L / \partial s_t$, through every step in between.


# %%
def loss(outputs):
    return outputs[-1].sum()


a = adjoints(cells["Elman"], params["Elman"], xs, loss)
for t in (199, 190, 150, 100, 0):
    print(f"t = {t:3}: ||dL/dh_t|| = {np.linalg.norm(a.h[t, 0]):.3g}")

# %% [markdown]
# After about a hundred steps the number is too small for a 32-bit float, which holds zero instead.
# That is a limit of the arithmetic, not of the mathematics. `gradient_profile` renormalises the
# gradient at every step and returns the *logarithm* of its norm, which does not underflow, by lag
# $k = T - t$.

# %%
profiles = {}
for name, cell in cells.items():
    profiles[name] = gradient_profile(cell, params[name], xs, loss)
    print(f"{name:5} ln ||dL/ds_0|| = {profiles[name].median()[-1]:.1f}")

# %% [markdown]
# ## The figure
#
# On a logarithmic axis exponential decay is a straight line, and its slope gives a half-life: the
# number of steps over which the gradient halves. The band is the middle half of the sequences.

# %%
figure, ax = plt.subplots(figsize=(6, 3.6), layout="constrained")
for (name, profile), style in zip(profiles.items(), ("-", "--", "-."), strict=True):
    band = {key: value / np.log(10) for key, value in profile.quartiles().items()}
    label = f"{name}, half-life {profile.half_life():.1f} steps"
    (line,) = ax.plot(profile.lags, band["median"], style, label=label)
    ax.fill_between(profile.lags, band["q25"], band["q75"], color=line.get_color(), alpha=0.2)
ax.set(xlabel="lag k (steps before the end)", ylabel="log10 of the gradient's norm")
ax.legend()
plt.show()

# %% [markdown]
# Before training all three gradients vanish, each at its own rate. The LSTM differs in that you can
# choose its rate: along `c` the gradient shrinks by the forget gate, $\sigma(b_f)$ per step while
# the weights are small, so a larger bias remembers longer. (At a bias of 5 the gradient no longer
# decays: the recurrent weights add as much as the forget gate takes away.)

# %%
lives = {}
for forget_bias in (0.0, 1.0, 3.0, 5.0):
    cell = LSTM(H, forget_bias=forget_bias)
    profile = gradient_profile(cell, cell.init(jax.random.key(2), D), xs, loss)
    lives[forget_bias] = float(profile.half_life())
    print(f"forget bias {forget_bias}: half-life {lives[forget_bias]:.1f} steps")

# %% [markdown]
# ## The same gradient, without going back
#
# Back-propagation keeps all states and walks back over them. A method of `rnnjax.online` walks
# forward with the states and carries traces instead. `gradient_quality` says which share of the
# true gradient of the weights a method keeps, lag by lag. Real-time recurrent learning (`RTRL`)
# keeps all of it, in an array for every pair of a state and a weight. `SnAp(1)` keeps how a weight
# moves its own unit, in an array as large as the weights.

# %%
small = LSTM(8)
weights, short = small.init(jax.random.key(2), D), xs[:40, :4]
methods = {
    "RTRL": (online.RTRL(), "-"),
    "SnAp(1)": (online.SnAp(1), "--"),
    "truncated at 10 steps": (online.Truncated(10), "-."),
}
shares = {}
figure, ax = plt.subplots(figsize=(6, 3.6), layout="constrained")
for name, (method, style) in methods.items():
    quality = gradient_quality(method, small, weights, short, jnp.sum)
    shares[name] = np.asarray(quality["all"].share)
    ax.plot(np.arange(1, 41), shares[name], style, label=name)
ax.set(xlabel="lag k (steps before the end)", ylabel="share of the gradient that is kept")
ax.legend()
plt.show()

# %% [markdown]
# An LSTM carries much of its state along `c`, where each unit sees only itself, and there `SnAp(1)`
# misses nothing. What it misses are the paths that lead through other units, and at long lags
# nearly every path does. `experiments/online_quality.py` draws this picture for five cells and six
# methods.

# %% [markdown]
# Next: `python experiments/vanishing_gradients.py` measures the same profiles before, during and
# after training, and shows which networks learn.
