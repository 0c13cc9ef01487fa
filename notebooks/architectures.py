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
# # Every architecture of an introduction to recurrent networks, and what its gradient does
#
# An introduction draws boxes: one-to-one, many-to-one, deep, bidirectional, encoder and decoder,
# attention. Here each box is a line of code, and each claim about it is a number you can check. It
# runs in under a minute. [first_steps](first_steps.ipynb) shows what happens inside one cell.

# %%
import functools

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
import optax
from flax import nnx

from rnnjax import GRU, LSTM, Elman, decoding, word_vectors
from rnnjax.cells import identity
from rnnjax.cells.initializers import Orthogonal
from rnnjax.diagnostics import log_gradient_by_layer
from rnnjax.layers import (
    RNN,
    TCN,
    Bidirectional,
    DotProductAttention,
    Embed,
    LinearHead,
    SoftmaxHead,
    Stack,
    Transformer,
    pretrained,
)
from rnnjax.models import (
    EncoderDecoder,
    ManyToMany,
    ManyToOne,
    OneToMany,
    OneToOne,
    ctc_loss,
    shift_right,
)

B, T, D, H, V = 32, 60, 32, 32, 8  # examples, steps, input and hidden features, vocabulary
rng = np.random.default_rng(0)
xs = jnp.asarray(rng.standard_normal((B, T, D), np.float32))

# %% [markdown]
# ## 1. The shapes
#
# A model is a *layer* that reads, a *head* that answers, and perhaps an *embedding* in front. The
# models differ in when they read and when they answer:
#
# | shape | reads | answers | example |
# |---|---|---|---|
# | one-to-one | a vector | once | a picture and its class |
# | one-to-many | a vector | at every step | a picture and its caption |
# | many-to-one | a sequence | once, at the end | a review and its grade |
# | many-to-many, aligned | a sequence | at every step | the words of a text and their kinds |
# | many-to-many, unaligned | a sequence | afterwards, at every step | a text and its translation |

# %%
said = np.zeros((B, 10), np.int32)


def reader():
    return RNN(LSTM(H))


def writer():
    return OneToMany(RNN(LSTM(H)), SoftmaxHead(V), Embed(V, D))


shapes = {
    "one-to-one": (OneToOne(SoftmaxHead(3), hidden=(H,)), xs[:, 0]),
    "one-to-many": (writer(), xs[:, 0], said),
    "many-to-one": (ManyToOne(reader(), SoftmaxHead(3)), xs),
    "many-to-many, aligned": (ManyToMany(reader(), SoftmaxHead(3)), xs),
    "many-to-many, unaligned": (EncoderDecoder(reader(), writer()), xs, said),
}


def sizes(model, *inputs):
    """Return the shape of the answers and the number of parameters. Nothing is computed."""
    answers, variables = jax.eval_shape(model.init_with_output, jax.random.key(0), *inputs)
    return answers.shape, sum(a.size for a in jax.tree.leaves(variables["params"]))


counts = {}
for name, (model, *inputs) in shapes.items():
    shape, counts[name] = sizes(model, *inputs)
    print(f"{name:24} {inputs[0].shape!s:12} -> {shape!s:12} {counts[name]:6} parameters")

# %% [markdown]
# You can check the counts by hand. An LSTM has four gates, each with a matrix for the input, a
# matrix for the hidden state and a bias. A head is a matrix and a bias.

# %%
by_hand = 4 * (D * H + H * H + H) + (H * 3 + 3)
print("many-to-one, by hand:", by_hand)
assert by_hand == counts["many-to-one"]

# %% [markdown]
# A writer reads the token it wrote one step earlier, the argument `said`. In training that is the
# correct token, shifted by one step: *teacher forcing*.
#
# The layer can be exchanged. Here are seven in the same many-to-one model:

# %%
layers = {
    "Elman": RNN(Elman(H)),
    "GRU": RNN(GRU(H)),
    "LSTM": RNN(LSTM(H)),
    "LSTM, two directions": Bidirectional(RNN(LSTM(H)), RNN(LSTM(H))),
    "LSTM, three layers": Stack([RNN(LSTM(H)) for _ in range(3)]),
    "causal CNN": TCN(H, num_blocks=3),
    "causal Transformer": Transformer(H),
}
for name, layer in layers.items():
    _, counts[name] = sizes(ManyToOne(layer, SoftmaxHead(3)), xs)
    print(f"{name:24} {counts[name]:6} parameters")

# %% [markdown]
# From here on we need parameters, not only their number. Most of this notebook's time goes into
# compiling programs that run once. So `draw` returns what `model.init` returns without running the
# model, and `jit` tells XLA to skip optimisations. Neither changes a result by more than rounding.


# %%
def draw(model, seed, *inputs):
    """Return parameters, as `model.init` does, for inputs of these shapes."""
    shapes = (jax.ShapeDtypeStruct(a.shape, a.dtype) for a in inputs)
    return model.lazy_init(jax.random.key(seed), *shapes)


jit = functools.partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})


# %% [markdown]
# ## 2. Why there is an activation at all
#
# A unit computes $\phi(z)$. On its way back the gradient is multiplied by the slope $\phi'(z)$.

# %%
activations = {
    "tanh": jnp.tanh,
    "ReLU": jax.nn.relu,
    "logistic": jax.nn.sigmoid,
    "identity": identity,
}
z = np.linspace(-4, 4, 400)
figure, axes = plt.subplots(1, 4, figsize=(9, 2.6), sharey=True, layout="constrained")
for ax, (name, phi) in zip(axes, activations.items(), strict=True):
    value, slope = map(np.asarray, jax.vmap(jax.value_and_grad(phi))(z))
    ax.plot(z, value, label=r"$\phi(z)$")
    ax.plot(z, slope, "--", label=r"$\phi'(z)$")
    ax.set(title=name, xlabel="z", ylim=(-1.5, 2))
    print(f"{name:8} slopes from {slope.min():.4f} to {slope.max():.4f}")
axes[0].legend()
plt.show()

# %% [markdown]
# The slope of tanh is 1 at zero and almost nothing beyond 3: a saturated unit passes no gradient.
# The slope of the logistic function never exceeds 1/4. ReLU passes everything or nothing.
#
# The identity always passes everything. Why not use it? Because then depth is lost. With
# $\phi(z) = z$ and zero biases the network is a product of matrices,
#
# $$y = x\,W_1 W_2 \cdots W_L,$$
#
# which is a matrix. Five layers compute what one computes. (Vectors are rows here, as in the code.)


# %%
def deep(phi):
    return OneToOne(LinearHead(1), hidden=(H,) * 4, activation_fn=phi)


x = np.asarray(xs).reshape(B * T, D)
params = draw(deep(identity), 1, x)["params"]
kernels = [params[f"hidden_{i}"]["kernel"] for i in range(4)] + [params["head"]["dense"]["kernel"]]
product = np.linalg.multi_dot([np.asarray(kernel) for kernel in kernels])  # [D, 1]

differences = {}
for name, phi in (("identity", identity), ("tanh", jnp.tanh)):
    y = np.asarray(jit(deep(phi).apply)({"params": params}, x))
    differences[name] = np.abs(y - x @ product).max()
    best = np.linalg.lstsq(x, y)[0]
    rest = np.var(y - x @ best) / np.var(y)
    print(
        f"{name:8} largest difference to the product {differences[name]:.1e}, "
        f"variance that no matrix explains {rest:.1e}"
    )
assert differences["identity"] < 1e-5 < differences["tanh"]

# %% [markdown]
# A linear *recurrent* network collapses in the same way, over time. Without biases
#
# $$h_T = \sum_{k=0}^{T-1} x_{T-k}\, W\, U^k,$$
#
# a weighted sum of the past, whose weights are powers of one matrix.

# %%
linear = RNN(Elman(H, activation_fn=identity, recurrent_kernel_init=Orthogonal(gain=0.9)))
variables = draw(linear, 2, xs)
W, U, _ = map(np.asarray, linear.cell_params(variables["params"]))

powers = [np.linalg.matrix_power(U, k) for k in range(T)]
past = np.asarray(xs)[:, ::-1]  # past[:, k] came k steps before the last
weighted_sum = sum(past[:, k] @ W @ powers[k] for k in range(T))
final = jit(linear.apply)(variables, xs)[:, -1]
difference = np.abs(final - weighted_sum).max()
print(f"{T} steps against one sum: largest difference {difference:.1e}")
assert difference < 1e-5
for k in (0, 10, 30, 59):
    print(f"k = {k:2}: ||U^k|| = {np.linalg.norm(powers[k], 2):.2e}, 0.9^k = {0.9**k:.2e}")

# %% [markdown]
# So its gradient has no choice: $\partial h_T / \partial h_{T-k}$ is $U^k$, whatever the input. It
# vanishes if all eigenvalues of U are smaller than 1 and explodes if one is larger. (This U is 0.9
# times an orthogonal matrix, so the norm is exactly $0.9^k$.) In a nonlinear network slopes come in
# between, and gates can hold the product near 1.
#
# ## 3. Embeddings
#
# Words are numbers without an order. An embedding gives each a vector, a row of a table. To look up
# a row is to multiply with a one-hot vector, without the multiplications.

# %%
words = ["cat", "dog", "cow", "oak", "elm", "car", "bus"]
table = np.array(  # made by hand: alive, moves, large
    [[1, 1, 0.1], [1, 1, 0.2], [1, 0.6, 0.8], [1, 0, 1], [1, 0, 0.8], [0, 1, 0.4], [0, 1, 1]]
)
embed = Embed(len(words), 3, embedding_init=pretrained(table))
tokens = jnp.array([words.index(word) for word in ("dog", "car", "dog")])
variables = draw(embed, 0, tokens)
rows = embed.apply(variables, tokens)
print("look-up minus product:", np.abs(rows - np.eye(len(words))[tokens] @ table).max())

# %% [markdown]
# The gradient reaches the rows that were read, as often as they were read, and no others. A rare
# word learns slowly.

# %%
gradient = jax.grad(lambda v: embed.apply(v, tokens).sum())(variables)["params"]["embedding"]
print(dict(zip(words, np.asarray(gradient)[:, 0].tolist(), strict=True)))

# %% [markdown]
# Words that are used alike get rows that point alike. `word_vectors` asks a table for neighbours,
# by the cosine of the angle between rows.

# %%
try:
    vectors = word_vectors.from_table(words, variables["params"]["embedding"])
except ImportError as error:
    print(error)  # it needs gensim, and says how to get it
else:
    for word in ("cat", "oak", "car"):
        near = word_vectors.nearest(vectors, word, 2)
        print(f"{word}:", ", ".join(f"{other} {cosine:.3f}" for other, cosine in near))

# %% [markdown]
# ## 4. One step at a time
#
# A causal network can be fed as the data arrive. Its carry holds all it needs: for the LSTM c and
# h, for the CNN the last inputs of each convolution, for the Transformer the keys and values of
# earlier steps. Running it step by step gives the same result as the whole sequence at once. This
# model stacks one of each, so one loop tests all three.

# %%
mixed = Stack(
    [RNN(LSTM(H)), TCN(H, num_blocks=1), Transformer(H, num_layers=1, mlp_dim=H, window=T)]
)
model = ManyToMany(mixed, LinearHead(1))
variables = draw(model, 3, xs)


@jit
def step(carry, x):
    return model.apply(variables, carry, x, method="step")


carry, answers = None, []  # None: nothing was read yet
for t in range(20):
    carry, y = step(carry, xs[:, t])
    answers.append(y)
difference = np.abs(np.stack(answers, 1) - jit(model.apply)(variables, xs[:, :20])).max()
print(f"step by step against all at once: largest difference {difference:.1e}")
assert difference < 1e-5

# %% [markdown]
# Sequences of different lengths share one array, and `seq_lengths` gives the number of valid steps
# of each. Padding values, even NaN, change neither the answers nor the gradient. The direction that
# reads backwards starts at each sequence's own end.

# %%
model = ManyToOne(Bidirectional(RNN(Elman(H)), RNN(Elman(H)), merge_fn=jnp.add), LinearHead(1))
variables = draw(model, 4, xs)
lengths = np.arange(B) + 1  # 1, 2, ..., 32 steps
there = np.arange(T) < lengths[:, None]
padded = jnp.where(there[..., None], xs, jnp.nan)


@jit
@functools.partial(jax.grad, has_aux=True)
def ask(variables):
    answers = model.apply(variables, padded, seq_lengths=lengths)
    return answers.sum(), answers


gradient, together = ask(variables)
alone = jit(model.apply)(variables, xs[10:11, :11])
difference = np.abs(together[10] - alone[0]).max()
print(f"padded, among others, against alone: largest difference {difference:.1e}")
finite = all(bool(np.isfinite(g).all()) for g in jax.tree.leaves(gradient))
print("gradient finite:", finite)
assert difference < 1e-5 and finite

# %% [markdown]
# ## 5. Under the microscope
#
# Let a network compute one number from a sequence of 60 steps. How much does that number depend on
# what each layer knew k steps before the end? `log_gradient_by_layer` returns, for every layer,
# step and example, the logarithm of
#
# $$\left\| \frac{\partial L}{\partial s_t} \right\|,$$
#
# where $s_t$ is what enters step t, at lag k = T - t: the carry of a recurrent layer, the input
# itself for "inputs", and for a block of the CNN or the Transformer its output at position t. All
# paths from there to the loss count, along time and up through the layers above. The weights are
# untrained. The loss is a sum over examples, so each example has a gradient of its own, and we look
# at the median of the 32.
#
# `ManyToOne` reads a layer out where it has read everything. With two directions that is the last
# step for one and the first step for the other. `ManyToMany` answers at every step, and the loss
# takes the last answer.


# %%
def both():
    return Bidirectional(RNN(Elman(H)), RNN(Elman(H)), merge_fn=jnp.add)


cnn = TCN(H, num_blocks=3)
networks = {
    "Elman, two layers": ManyToOne(Stack([RNN(Elman(H)) for _ in range(2)]), LinearHead(1)),
    "LSTM, two layers": ManyToOne(Stack([RNN(LSTM(H)) for _ in range(2)]), LinearHead(1)),
    "causal CNN": ManyToOne(cnn, LinearHead(1)),
    "causal Transformer": ManyToOne(Transformer(H, mlp_dim=H, window=T), LinearHead(1)),
    "two directions, read out at the last step": ManyToMany(Stack([both(), both()]), LinearHead(1)),
    "two directions, read out at both ends": ManyToOne(Stack([both(), both()]), LinearHead(1)),
}


def loss(answers):
    return answers[:, -1].sum()  # [B, T, 1]: the last step of each; [B, 1]: all there is


lags = (1, 2, 5, 11, 29, 30, 60)
print(f"{'log10 of the gradient at lag':30}", *(f"{k:5}" for k in lags))
profiles = {}
for name, model in networks.items():
    measure = jit(lambda v, model=model: log_gradient_by_layer(model, v, loss, xs))
    print(name)
    profiles[name] = {}
    for path, logs in measure(draw(model, 5, xs)).items():
        layer = path.removeprefix("layer/").removesuffix("/carry")
        profile = np.median(logs, axis=1)[::-1] / np.log(10)  # entry k - 1: lag k
        profiles[name][layer] = profile
        print(f"  {layer:28}", *(f"{profile[k - 1]:5.1f}" for k in lags))

# %%
figure, axes = plt.subplots(2, 3, figsize=(11, 6.4), sharex=True, sharey=True, layout="constrained")
for ax, (name, curves) in zip(axes.flat, profiles.items(), strict=True):
    for layer, profile in curves.items():
        size = 9 if np.isfinite(profile).sum() == 1 else 4  # one dot alone is easily missed
        ax.plot(range(1, T + 1), profile, ".-", label=layer, markersize=size, linewidth=1)
    ax.set_title(name, fontsize=10)
    ax.set_ylim(-13, 4)
    ax.legend(fontsize=7, loc="upper center", ncols=2)
figure.supxlabel("lag k = T - t (steps before the end)")
figure.supylabel("log10 of the gradient's norm")
plt.show()

# %% [markdown]
# How to read it:
#
# - **Elman.** A straight line on a logarithmic axis is exponential decay. Both layers lose at the
#   same rate: depth adds layers, not memory.
# - **LSTM.** It decays, too, but much more slowly: over 59 steps it loses about two orders of
#   magnitude where the Elman network loses nine.
# - **CNN.** Within its window, the receptive field, there is little decay. Beyond it the gradient
#   is not small but zero, because no path leads there: -inf in the table, and the curve ends. Of
#   the blocks the loss reaches only some steps, through the gaps of the dilations above them, and
#   of the last block only lag 1, a single dot.
# - **Transformer.** Flat. Every earlier step is one attention away, and untrained attention gives
#   each of 60 steps about 1/60, which is $10^{-1.8}$. The last step itself (lag 1) also has the
#   direct way past the attention. Above the last block nothing mixes steps: a single dot again.
# - **Two directions, read out at the last step.** There the backward layer on top has read one
#   input, so its only dot is at lag 1. What is older comes by the forward layer and vanishes as
#   above.
# - **Two directions, read out at both ends.** On top, each direction decays from where it is read
#   out. So the network sees both ends of the sequence well, and the middle least.
#
# The zeros are easier to check than to see:

# %%
profile = profiles["causal CNN"]["inputs"]
print("the CNN's receptive field:", cnn.receptive_field, "steps")
print("lags with a gradient:     ", np.isfinite(profile).sum())
assert np.isfinite(profile[: cnn.receptive_field]).all()
assert np.isneginf(profile[cnn.receptive_field :]).all()

# %% [markdown]
# ## 6. Encoder, decoder, attention
#
# Read six tokens, then write them backwards. The encoder's final state starts the decoder. At
# every step t the decoder also looks at all outputs $m_1, \dots, m_S$ of the encoder. It mixes
# them by how well they match its own state $h_t$:
#
# $$c_t = \sum_s a_{ts}\, m_s, \qquad
# a_{ts} = \mathrm{softmax}_s\left(\frac{(h_t W) \cdot (m_s U)}{\sqrt F}\right).$$
#
# There are eight tokens. Number 0 only starts the decoder.

# %%
S = 6
model = EncoderDecoder(
    encoder=Bidirectional(RNN(Elman(H)), RNN(Elman(H)), merge_fn=jnp.add),
    decoder=OneToMany(RNN(Elman(H)), SoftmaxHead(V), Embed(V, D), DotProductAttention(H)),
    embed=Embed(V, D),
)
optimizer = optax.adam(0.01)


def loss_fn(variables, source):
    target = source[:, ::-1]
    outputs = model.apply(variables, source, shift_right(target, 0))  # teacher forcing
    return SoftmaxHead.loss(outputs, target).mean()


@jit
def train(variables, batches):
    def train_step(state, source):
        variables, opt_state = state
        loss, gradient = jax.value_and_grad(loss_fn)(variables, source)
        updates, opt_state = optimizer.update(gradient, opt_state)
        return (optax.apply_updates(variables, updates), opt_state), loss

    state = variables, optimizer.init(variables)
    (variables, _), losses = jax.lax.scan(train_step, state, batches)
    return variables, losses


batches = rng.integers(1, V, (500, 64, S), np.int32)
source = rng.integers(1, V, (200, S), np.int32)  # for the questions below
target = source[:, ::-1]
variables, losses = train(draw(model, 6, source, target), batches)
print(f"loss: {losses[0]:.3f} at first, {losses[-1]:.3f} after {len(losses)} updates")

# %% [markdown]
# Now without teacher forcing: the model reads its own output. `greedy` takes the most
# probable token at each step. `beam_search` keeps several beginnings and finds sequences that are
# more probable as a whole. Both want a function of one step, and the state to start from.


# %%
def step(state, said):
    return model.apply(variables, state, said, method="step")


@jit
def decode(source):
    start = model.apply(variables, source, method="start")
    tokens, log_p = decoding.greedy(step, start, 0, length=S)
    beams, log_ps, _ = decoding.beam_search(step, start, 0, length=S, beam_width=3)
    return tokens, log_p, beams, log_ps


tokens, log_p, beams, log_ps = map(np.asarray, decode(source))
right = tokens == target
print(f"tokens right: {right.mean():.1%}, whole sequences right: {right.all(1).mean():.1%}")
assert right.mean() > 0.95
print(f"greedy and the best beam agree on {(tokens == beams[:, 0]).all(1).mean():.1%}")
for i in range(3):
    print(source[i], "-> greedy", tokens[i], "best beam", beams[i, 0])
print("three beams of the first:")
for i in range(3):
    print(" ", beams[0, i], f"p = {np.exp(log_ps[0, i]):.4f}")

# %% [markdown]
# Where did it look? The weights $a_{ts}$ are among the "intermediates". And what does its gradient
# do? For each token written we measure how much its logit depends on the vector of each token read:
# `outputs_of=(Embed,)` includes the embeddings in the measurement.


# %%
@jit
def look(source, target):
    said = shift_right(target, 0)
    _, seen = model.apply(variables, source, said, mutable=["intermediates"])

    def of_logit(t):
        def logit(outputs):
            return jnp.take_along_axis(outputs[:, t], target[:, t, None], axis=1).sum()

        found = log_gradient_by_layer(model, variables, logit, source, said, outputs_of=(Embed,))
        return found["embed/output"]

    (weights,) = seen["intermediates"]["decoder"]["attention"]["weights"]
    return weights, jax.vmap(of_logit)(jnp.arange(S))  # [B, T, S], [T, S, B]


weights, logs = map(np.asarray, look(source, target))
images = {
    "attention weight, one example": weights[1],
    "log10 of the gradient, median": np.median(logs, axis=2) / np.log(10),
}
figure, axes = plt.subplots(1, 2, figsize=(8, 3.2), layout="constrained")
for ax, (name, image) in zip(axes, images.items(), strict=True):
    figure.colorbar(ax.imshow(image, cmap="Greys"), ax=ax)
    ax.set(title=name, xlabel="step that was read", ylabel="step that is written")
axes[0].set_xticks(range(S), source[1].tolist())
axes[0].set_yticks(range(S), target[1].tolist())
axes[0].set(xlabel="token that was read", ylabel="token to be written")
plt.show()
place = np.arange(S)[::-1]  # where the right token stands
print(f"weight greatest at the right token:   {(place == weights.argmax(2)).mean():.1%}")
print(f"gradient greatest at the right token: {(place == logs.argmax(1).T).mean():.1%}")

# %% [markdown]
# Two anti-diagonals. To write the last token it looks at the first, and the gradient goes where the
# attention goes. By way of the carries it is eleven steps from the last token written to the first
# token read, by way of the attention it is one. (Six tokens can be learnt without attention, too:
# leave it out of `OneToMany` and see. With both ways open the model takes the short one.)
#
# ## 7. CTC
#
# A speech network answers at every step, with a letter or with a *blank*, and there are more steps
# than letters. Connectionist temporal classification reads a path of answers by merging repetitions
# and then dropping blanks. Many paths give the same labelling, and its probability is their sum. So
# the best path need not be the best labelling. Two steps, one letter a, p(blank) = 0.6 at each:
#
# | labelling | paths | probability |
# |---|---|---|
# | nothing | blank blank | 0.36 |
# | a | a blank, blank a, a a | 0.24 + 0.24 + 0.16 = 0.64 |

# %%
logits = np.log(np.array([[[0.6, 0.4], [0.6, 0.4]]], np.float32))  # [B, T, V]; 0 is the blank
_, number = jit(decoding.ctc_greedy)(logits)
search = functools.partial(decoding.ctc_beam_search, beam_width=2)
labels, log_p, numbers = map(np.asarray, jit(search)(logits))
best = labels[0, 0, : numbers[0, 0]]
print("labels on the best path:", number[0])
print(f"the best labelling: {best}, with probability {np.exp(log_p[0, 0]):.2f}")
(nats,) = jit(ctc_loss)(logits, np.array([[1]]))
print(f"the loss of the labelling a: {nats:.4f}, -ln 0.64 = {-np.log(0.64):.4f}")
assert number[0] == 0 and best == [1] and abs(nats + np.log(0.64)) < 1e-5

# %% [markdown]
# ## 8. For users of NNX
#
# The layers are Flax Linen modules. `ToNNX` makes an NNX module of any of them; `lazy_init` draws
# its parameters for the inputs it is shown.

# %%
layer = nnx.bridge.ToNNX(RNN(Elman(H)), rngs=nnx.Rngs(7))
layer = nnx.bridge.lazy_init(layer, xs)
optimizer = nnx.Optimizer(layer, optax.adam(0.01), wrt=nnx.Param)


@nnx.jit
def update(layer, optimizer):
    loss, gradient = nnx.value_and_grad(lambda layer: (layer(xs) ** 2).mean())(layer)
    optimizer.update(layer, gradient)
    return loss


print("loss, update by update:", *(f"{update(layer, optimizer):.4f}" for _ in range(3)))
