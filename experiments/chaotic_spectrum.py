"""How chaotic is a chaotic network? Its whole Lyapunov spectrum, attractor dimension and entropy.

Claim: the random network x' = W tanh(x), W ~ N(0, g^2/N), has extensive chaos: for large N the
spectrum depends on i/N alone, so that the Kaplan-Yorke dimension and the sum of positive exponents
grow like N (Engelken, Wolf, Abbott 2023, "Lyapunov spectra of chaotic recurrent neural networks").
At g = 3 one network of N = 4,096 units has lambda_1 = .3096, a share of positive exponents of
.1526, an entropy rate of .02511 N nats per step and a dimension of .2872 N (Clark, "Lyapunov
spectrum of random neural networks", data of github.com/davidclark1/rnn-lyapunov). The mean of all
exponents is that of ln |det J| / N: ln g - 1/2 + E ln tanh'(x), x ~ N(0, Delta). For g < 1 the
state dies, J = W, and the circular law gives lambda(i/N) = ln g + ln(1 - i/N) / 2.

Quantities of networks of N units differ by O(1/N) from those of large ones. The allowance is c/N:
c = 5 for lambda_1, 3 for the share, .5 for the entropy rate, 3 for the dimension, 10 for the mean.

Verdict: `reproduced` if at the largest of --sizes the mean over seeds of each quantity is within
its allowance of the published number, or of theory for the mean; the dimensions per unit of the two
largest sizes agree within the allowance of the smaller; and below g = 1 the median over seeds of
the upper half of the spectrum is never further than .1 from the circular law. Else
`not reproduced`; `quick run only` if --seeds, --steps, --transient or the largest of --sizes is
below its default.

    python experiments/chaotic_spectrum.py
    python experiments/chaotic_spectrum.py --sizes 256 512 --seeds 4
"""

import dataclasses
import functools
import math

from rnnjax import diagnostics, experiment
from rnnjax.command_line import ArgumentError, at_least, progress, rising
from rnnjax.experiment import SeedOptions, Verdict, random_networks

import numpy as np

GAIN, CALM = 3.0, 0.8  # chaotic, contracting
PUBLISHED = {"lambda_1": 0.3096, "positive": 0.1526, "entropy_rate": 0.02511, "dimension": 0.2872}
ALLOWED = {"lambda_1": 5, "positive": 3, "entropy_rate": 0.5, "dimension": 3, "mean": 10}  # / N
WORDS = {
    "lambda_1": "the first exponent",
    "positive": "the share of positive exponents",
    "entropy_rate": "the entropy rate per unit",
    "dimension": "the Kaplan-Yorke dimension per unit",
    "mean": "the mean exponent",
}


@dataclasses.dataclass(frozen=True)
class Config(SeedOptions):
    """Measure all Lyapunov exponents of random networks, and what follows from them.

    Prints a table and writes figures (PNG, SVG), the numbers behind them (CSV) and summary.json.
    The default run takes about two minutes on two CPU cores.
    """

    sizes: tuple[int, ...] = (64, 128, 256)
    """Sizes N of the networks, in rising order."""
    steps: int = 2000
    """Steps that exponents are averaged over."""
    transient: int = 300
    """Steps before them, in which the state and Q settle."""
    seeds: int = 2

    def __post_init__(self):
        super().__post_init__()
        at_least(1, self, "steps")
        at_least(0, self, "transient")
        rising(self, "sizes")
        if len(self.sizes) < 2 or self.sizes[0] < 2:
            raise ArgumentError(f"--sizes must be two or more, each at least 2, got {self.sizes}")


def mean_theory(gain):
    """Return ln g - 1/2 + E ln tanh'(x): the mean of ln |singular values| of W is ln g - 1/2."""
    variance = gain**2
    for _ in range(10_000):
        variance = gain**2 * diagnostics.gaussian_mean(lambda x: np.tanh(x) ** 2, variance)
    slope = diagnostics.gaussian_mean(lambda x: -2 * np.log(np.cosh(x)), variance)
    return math.log(gain) - 0.5 + slope


def circular_law(gain, place):
    """Return ln |mu| of the eigenvalue at i/N, of W as N grows."""
    return math.log(gain) + np.log1p(-place) / 2


def quantities(exponents):
    """Return what is claimed of the spectra `[S, N]`, for each seed."""
    size = exponents.shape[-1]
    return {
        "lambda_1": exponents[:, 0],
        "positive": (exponents > 0).mean(-1),
        "entropy_rate": np.asarray(diagnostics.entropy_rate(exponents).value) / size,
        "dimension": np.asarray(diagnostics.kaplan_yorke_dimension(exponents).value) / size,
        "mean": exponents.mean(-1),
    }


def measure(config, run):
    steps = {"transient": config.transient, "steps": config.steps}
    spectra = functools.partial(random_networks.spectra, config.members, num=None, **steps)
    rows, sizes = [], {}
    for size in progress(config.sizes, "networks"):
        found = run.cached(f"size {size}", spectra, size, GAIN)["exponents"]
        place = (np.arange(size) + 0.5) / size
        band = diagnostics.quartiles(found.T)
        rows.append({"gain": f"g = {GAIN:g}", "series": f"N = {size}", "place": place, **band})
        sizes[str(size)] = {
            name: {"mean": float(values.mean()), "of_seeds": values.tolist()}
            for name, values in quantities(found).items()
        }
        run.write_table("spectra", rows)
    size = config.sizes[-2]
    calm = run.cached(f"calm {size}", spectra, size, CALM)["exponents"]
    place = (np.arange(size) + 0.5) / size
    law, band = circular_law(CALM, place), diagnostics.quartiles(calm.T)
    upper = slice(0, size // 2)
    distance = np.abs(np.median(calm, 0) - law)[upper].max()
    rows.append({"gain": f"g = {CALM:g}", "series": f"N = {size}", "place": place, **band})
    law_band = {"median": law, "q25": law, "q75": law}
    rows.append({"gain": f"g = {CALM:g}", "series": "circular law", "place": place, **law_band})
    run.write_table("spectra", rows)
    theory = PUBLISHED | {"mean": mean_theory(GAIN)}
    return {"sizes": sizes, "expected": theory, "distance_to_circular_law": float(distance)}


def verdict(config, summary):
    *_, second, largest = config.sizes
    at, conditions = summary["sizes"], {}
    for name, expected in summary["expected"].items():
        off = abs(at[str(largest)][name]["mean"] - expected)
        conditions[f"N = {largest}: {WORDS[name]}"] = off <= ALLOWED[name] / largest
    apart = at[str(largest)]["dimension"]["mean"] - at[str(second)]["dimension"]["mean"]
    same = abs(apart) <= ALLOWED["dimension"] / second
    conditions["the dimension grows like N"] = same
    near = summary["distance_to_circular_law"] <= 0.1
    conditions["below g = 1 the spectrum is the circular law's"] = near
    sizes = (largest, Config.sizes[-1])
    return Verdict.judge(conditions).unless_quick(
        config, "seeds", "steps", "transient", sizes=sizes
    )


def show(summary):
    names = list(WORDS)
    rows = [[f"N = {n}", *(e[k]["mean"] for k in names)] for n, e in summary["sizes"].items()]
    rows.append(["expected", *(summary["expected"][name] for name in names)])
    experiment.print_table(["", *names], rows)


def draw(run):
    options = {"panel": "gain", "level": 0, "xlabel": "i / N"}
    options |= {"ylabel": "Lyapunov exponent, nats per step"}
    experiment.draw_curves(run, "spectra", "place", "series", **options)


run = experiment.Experiment("chaotic_spectrum", Config, measure, verdict, draw, show=show)

if __name__ == "__main__":
    run.main()
