"""Gallery: every figure of the package, drawn from records made on the spot.

    .venv/bin/python analysis/gallery.py                 (about 2 minutes on 2 CPU cores)

It writes analysis/out/gallery/: the records, each figure as .pdf and .png, and index.html, which
shows them with the command that draws each; with --thumbnails also figures/gallery/, the small
pictures that the README shows. Eight agents learn digits, with networks small enough to train
while one waits. Names of figures after it draw these alone. That of the common minimum is of what
analysis/bias.py wrote.

    .venv/bin/python analysis/gallery.py --images        (about an hour)

runs demo and shipped specs instead, on MNIST, Fashion-MNIST and CIFAR-10, which are downloaded
unless NTKDYN_DATA holds them, draws an overlay of each, and writes analysis/results/NAME.nc, what
README tells of them. Runs in analysis/out/NAME already, by `ntkdyn run --out`, are taken.
"""

from __future__ import annotations

import argparse
import functools
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import jinja2
import numpy as np
import pandas as pd
import xarray as xr
from PIL import Image

import ntkdyn as nd
from ntkdyn import design, disk, dynamics, experiment, figures, records
from ntkdyn.validation.widths import width_sweep

HERE = Path(__file__).parent
OUT = HERE / "out" / "gallery"
THUMBNAILS = HERE.parent / "figures" / "gallery"
RESULTS = HERE / "results"
ROUNDS = 200


@functools.cache
def network(width: int) -> nd.networks.Network:
    """Two hidden layers; one object per width, so that JAX compiles it once."""
    return nd.networks.mlp((width, width), outputs=10)


def digits(width: int = 256, seed: int = 0) -> nd.Problem:
    """Eight agents with unequal shares of 160 digits, and a network of two hidden layers."""
    data = nd.data.load("digits", train=160, test=200, seed=0)
    shares = nd.data.partition(data, agents=8, by="dirichlet", alpha=0.3, min_points=10, seed=0)
    return nd.Problem(network(width), shares, seed=seed)


def circle(agents: int = 8) -> tuple[np.ndarray, nd.KernelProblem]:
    """Features and the problem of the explorables on methods: five modes, targets with a misfit."""
    owner = np.repeat(np.arange(agents), 4)
    u = 2 * np.pi * (owner + (np.arange(4 * agents) % 4 + 0.5) / 4) / agents
    modes = [np.ones_like(u), np.cos(u), np.sin(u), np.cos(2 * u), np.sin(2 * u)]
    features = np.stack(modes, axis=1) * [1, 0.5**0.5, 0.5**0.5, 0.5, 0.5]
    y = np.sin(u) + 0.5 * np.cos(2 * u) + 0.3 * np.cos(5 * u) + 0.5 * np.sin(2.4 * (owner + 1))
    return features, nd.KernelProblem(features @ features.T, y[:, None], owner)


def runs(problem: nd.Problem, W: nd.graphs.MixingMatrix) -> tuple[xr.Dataset, ...]:
    """Predicted, observed, compared."""
    method = nd.methods.dgd(step_size=nd.of_limit(0.5))
    predicted = nd.predict(problem, method, W, ROUNDS)
    observed = nd.train(problem, method, W, ROUNDS)
    wrong = nd.validation.nulls(problem, method, W, observed)
    return predicted, observed, nd.compare(predicted, observed, wrong)


def starts(W: nd.graphs.MixingMatrix) -> tuple[xr.Dataset, xr.Dataset]:
    """Twelve starts predicted, three of them trained."""
    method = nd.methods.dgd(step_size=0.1)
    save = nd.SaveOptions(outputs=False)
    each = [digits(512, seed) for seed in range(12)]
    predicted = [nd.predict(one, method, W, ROUNDS, save=save)[["train_loss"]] for one in each]
    observed = [nd.train(one, method, W, ROUNDS, save=save)[["train_loss"]] for one in each[:3]]
    return xr.concat(predicted, "start"), xr.concat(observed, "start")


def bias_table(W: nd.graphs.MixingMatrix) -> xr.Dataset:
    """Distance of the outputs from those of the common optimum after 20,000 rounds."""
    features, problem = circle()
    steps = np.geomspace(0.01, 0.32, 6)
    best = features @ np.linalg.lstsq(features, problem.task.targets, rcond=None)[0]
    known = [name for name in figures.style.METHODS if name in nd.methods.METHODS]
    table = np.array([[_bias(problem, name, step, W, best) for step in steps] for name in known])
    return xr.Dataset(
        {"bias": (("method", "step_size"), table)}, {"method": known, "step_size": steps}
    )


def _bias(
    problem: nd.KernelProblem, name: str, step: float, W: nd.graphs.MixingMatrix, best
) -> float:
    method = nd.methods.METHODS[name](step_size=float(step))
    end = nd.predict(problem, method, W, [20_000])["outputs"].values[0]
    share = np.linalg.norm(end - best) / np.linalg.norm(np.broadcast_to(best, end.shape))
    return float(share) if share < 1 else np.nan


def rates(W: nd.graphs.MixingMatrix) -> xr.Dataset:
    """The factor per round of DGD on lazy and on faster versions of the graph."""
    features, problem = circle()
    own = [features[problem.task.owner == i] for i in range(W.agents)]
    H = _block_diagonal(np.stack([phi.T @ phi / len(phi) for phi in own]))
    steps, gaps = np.geomspace(0.02, 3, 160), np.linspace(0.02, 1, 50)
    table = np.array([[_radius(W, gap, step, H) for step in steps] for gap in gaps])
    return xr.Dataset(
        {"rate": (("spectral_gap", "step_size"), table)},
        {"spectral_gap": gaps, "step_size": steps}, {"method": "dgd"},
    )  # fmt: skip


def _radius(W: nd.graphs.MixingMatrix, gap: float, step: float, H: np.ndarray) -> float:
    """W = I + share (V - I) up to the graph's own gap, then towards the average of all."""
    agents, average = W.agents, np.full((W.agents, W.agents), 1 / W.agents)
    own = W.spectral_gap
    slow = np.eye(agents) + gap / own * (W.matrix - np.eye(agents))
    fast = average + (1 - gap) / (1 - own) * (W.matrix - average)
    mixed = np.kron(slow if gap <= own else fast, np.eye(len(H) // agents))
    return float(np.abs(np.linalg.eigvalsh(mixed - step * H)).max())


def bound_table(W: nd.graphs.MixingMatrix, step: float = 0.1) -> xr.Dataset:
    """Three textbook promises about DGD on the circle, beside the run.

    With z the stacked iterates, z* the fixed point, A = W (x) I - step H and beta = |W - 11'/m|:
    |z - z*| <= |A|^t |z_0 - z*|; the disagreement is at most step G / (1 - beta) and at most
    step G sum_s beta^s, where G is the largest norm of all agents' gradients in the run.
    """
    features, problem = circle()
    owner, y, agents = problem.task.owner, problem.task.targets[:, 0], W.agents
    own = [owner == i for i in range(agents)]
    H = np.stack([features[k].T @ features[k] / k.sum() for k in own])
    b = np.stack([features[k].T @ y[k] / k.sum() for k in own])
    A = np.kron(W.matrix, np.eye(5)) - step * _block_diagonal(H)
    fixed = np.linalg.solve(np.eye(len(A)) - A, step * b.ravel()).reshape(b.shape)
    x, seen, forces = np.zeros_like(b), [], []
    for _ in range(ROUNDS + 1):
        seen.append((np.linalg.norm(x - fixed), np.linalg.norm(x - x.mean(axis=0))))
        force = np.einsum("ikl,il->ik", H, x) - b
        forces.append(np.linalg.norm(force))
        x = W.matrix @ x - step * force
    far, apart = np.array(seen).T
    rounds, G, beta = np.arange(ROUNDS + 1), max(forces), W.contraction
    promised = [
        np.linalg.norm(A, 2) ** rounds * far[0],
        np.full(len(rounds), step * G / (1 - beta)),
        step * G * (1 - beta**rounds) / (1 - beta),
    ]
    held = [np.all(a <= b * (1 + 1e-9)) for a, b in zip((far, apart, apart), promised, strict=True)]
    return xr.Dataset(
        {
            "promised": (("bound", "round"), promised),
            "seen": (("bound", "round"), [far, apart, apart]),
            "state": ("bound", ["holds" if each else "violated" for each in held]),
        },
        {
            "bound": ["contraction to the fixed point", "disagreement, uniform", "disagreement"],
            "round": rounds,
        },
    )


def _block_diagonal(blocks: np.ndarray) -> np.ndarray:
    count, size, _ = blocks.shape
    whole = np.zeros((count, size, count, size))
    whole[np.arange(count), :, np.arange(count)] = blocks
    return whole.reshape(count * size, count * size)


@functools.cache
def widths(W: nd.graphs.MixingMatrix) -> xr.Dataset:
    """Gaps at three widths, two starts each."""
    method = nd.methods.dgd(step_size=nd.of_limit(0.5))
    return width_sweep(digits, method, W, 60, widths=(64, 256, 1024), seeds=range(2))


def tradeoff_runs(problem: nd.Problem) -> list[xr.Dataset]:
    """DGD and ATC on a ring, and DGD on denser graphs, half the limit each."""
    chosen = [("dgd", "ring"), ("atc", "ring"), ("dgd", "exponential"), ("dgd", "complete")]
    found = []
    for name, topology in chosen:
        W = nd.graphs.metropolis(nd.graphs.TOPOLOGIES[topology](8))
        method = nd.methods.METHODS[name](step_size=nd.of_limit(0.5))
        record = nd.predict(problem, method, W, ROUNDS, save=nd.SaveOptions(record_every=4))
        found.append(record.drop_vars("outputs").assign_attrs(graph=topology))
    return found


SWEPT = """
title = "Eight agents that learn digits"
kernel = "infinite"
[network]
widths = [256]
[data]
name = "digits"
train = 160
test = 200
[partition]
agents = 8
by = "dirichlet"
alpha = 0.3
min_points = 5
[graph]
topology = "ring"
[method]
name = "dgd"
step_size = { of_limit = 0.5 }
[run]
rounds = 500
"""


@functools.cache
def swept(*over: str, more: tuple[tuple[str, object], ...] = (), spec: str = SWEPT) -> xr.Dataset:
    """What `ntkdyn sweep` writes of the spec along these axes, with other settings."""
    base = experiment.parse(spec, "gallery")
    base = design.varied(base, dict(more))
    study = design.Study(experiment.Experiment(base), [*map(design.axis, over)], dtype="float32")
    found = design.check_any(study.predict())
    found["seconds"] = design.costs(found, "seconds")
    return study.gridded(found)


SEEDS = "seed=0,1,2,3"
GRAPHS = "graph.topology=ring,star,complete"
STEPS = "method.step_size.of_limit=0.1:1.02:13"
SMALL_STEPS = "method.step_size.of_limit=0.02:0.9:7:log"
MORE_AGENTS = "partition.agents+data.train=2+20,4+40,8+80,16+160,32+320"
EVEN = (("partition.alpha", 100.0), ("partition.min_points", 1))
HOUSES = """
title = "Prices of houses in eight towns, affine in four features"
kernel = "empirical"
data = {{ file = "{file}", target = "price", owner = "town" }}
partition.by = "given"
network.widths = []
graph.topology = "ring"
method = {{ name = "dgd", step_size = {{ of_limit = 0.5 }} }}
run.rounds = 50_000
"""


def at_rest() -> xr.Dataset:
    """Of towns whose prices follow rules of their own, so that no model fits all."""
    draw = np.random.default_rng(0)
    towns = np.repeat(np.arange(8), 20)
    features, rules = draw.standard_normal((160, 4)), 1 + draw.standard_normal((8, 4)) / 2
    table = pd.DataFrame(features, columns=["size", "age", "garden", "noise"])
    table = table.assign(town=towns, price=(features * rules[towns]).sum(axis=1))
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "houses.csv"
        table.to_csv(file, index=False)
        spec = HOUSES.format(file=file.as_posix())
        return swept("method.name=dgd,cta,diging,exact_diffusion", SMALL_STEPS, spec=spec)


def followed(problem: nd.Problem, W: nd.graphs.MixingMatrix) -> list[xr.Dataset]:
    """Predicted and observed, with parameters of some rounds."""
    method = nd.methods.dgd(step_size=nd.of_limit(0.5))
    save = nd.SaveOptions(parameter_rounds=[*range(0, ROUNDS + 1, 10)], outputs=False)
    return [run(problem, method, W, ROUNDS, save=save) for run in (nd.predict, nd.train)]


def images() -> None:
    """The overlay of demo and shipped specs, its small picture, what is kept of its comparison."""
    specs = {"demo": experiment.demo()} | {
        name: experiment.load(name) for name in experiment.shipped()
    }
    for name, spec in specs.items():
        work = experiment.Experiment(spec)
        files = experiment.files(HERE / "out" / name)
        pair = []
        for path, run in ((files.predicted, work.predict), (files.observed, work.train)):
            record = work.finished(path)
            if record is None:
                record = run()
                records.write(record, path)
            pair.append(record)
        told = work.finished(files.comparison)
        if told is None:
            told = experiment.compare(*pair, files, nulls=work.nulls(*pair))
        sides = zip(("predicted", "observed"), pair, strict=True)
        accuracies = {f"{side}_test_accuracy": each["test_accuracy"] for side, each in sides}
        accuracies["observed_consensus_test_accuracy"] = pair[1]["consensus_test_accuracy"]
        records.write(told.assign(accuracies), RESULTS / f"{name}.nc")
        picture = "overlay" if name == "demo" else f"overlay-{name}"
        thumbnail(files.overlay, THUMBNAILS / f"{picture}.png")
        print(f"{name}: {told.attrs['verdict']}", flush=True)


def pictures(wanted: Sequence[str]) -> Iterator[tuple[str, list[xr.Dataset]]]:
    """The wanted figures' names, each with its records."""
    for name, make in recipes().items():
        if not wanted or name in wanted:
            yield name, make()


def recipes() -> dict[str, Callable[[], list[xr.Dataset]]]:
    """Figure -> what makes its records."""
    W = nd.graphs.metropolis(nd.graphs.ring(8))
    star = nd.graphs.metropolis(nd.graphs.star(8))
    problem = digits()
    three = functools.cache(lambda: runs(problem, W))
    half = nd.methods.dgd(step_size=nd.of_limit(0.5))
    on_star = functools.cache(lambda: nd.predict(problem, half, star, 40))
    _, small = circle()
    unstable = nd.methods.dgd(step_size=nd.of_limit(1.1))
    directed = nd.graphs.uniform(nd.graphs.directed_exponential(8))
    return {
        "overlay": lambda: list(three()),
        "consensus": lambda: list(three()[:2]),
        "errors_on_graph": lambda: [on_star()],
        "kernel_map": lambda: [dynamics.kernel_table(problem)],
        "spectrum": lambda: [dynamics.spectrum(small, unstable, directed)],
        "stability_map": lambda: [rates(W)],
        "bias": lambda: [bias_table(W)],
        "bounds": lambda: [bound_table(W)],
        "tradeoff": lambda: tradeoff_runs(problem),
        "bands": lambda: list(starts(W)),
        "width": lambda: [widths(W)],
        "sweep": lambda: [widths(W)],
        "claim": lambda: [nd.theory.claims.run("linear-speed-up-of-each")],
        "learning_curve": lambda: [plan("losses")],
        "samples": lambda: [samples()],
        **{name: functools.partial(lambda each: [plan(each)], name) for name in PLANNED},
        "accounting": lambda: [nd.validation.account(problem, half, W, ROUNDS)],
        "curves": lambda: [swept("method.name=dgd,diging,exact_diffusion", SEEDS)],
        "heterogeneity": lambda: [swept(GRAPHS, "partition.alpha=0.05:20:7:log", SEEDS)],
        "rates": lambda: [swept(GRAPHS, STEPS)],
        "heat_map": lambda: [swept(GRAPHS, STEPS)],
        "speed_up": lambda: [swept("graph.topology=ring,complete", MORE_AGENTS, SEEDS, more=EVEN)],
        "steady_error": lambda: [at_rest()],
        "pareto": lambda: [records.read(RESULTS / "design-ranks.nc")],
        "confirmed": lambda: [records.read(RESULTS / "design-ranks.nc")],
        "trajectories": lambda: followed(problem, W),
        "animation": lambda: [on_star()],
        "common_minimum": lambda: [records.read(HERE / "out" / "bias.nc")],
        "study": lambda: [records.read(HERE.parent / "papers" / "drt-diffusion" / "study.nc")],
    }


PLANNED = ("stopping", "split", "profit", "steps", "price")


def curves() -> tuple[np.ndarray, np.ndarray, nd.methods.Method]:
    """A power law's spectrum, a target in it, and DGD."""
    modes = np.arange(1, 301)
    return modes**-1.3, modes**-0.8, nd.methods.dgd(step_size=0.25)


def plan(name: str) -> xr.Dataset:
    """What `ntkdyn curve --what` gives, of eight agents on a path."""
    W, counts = nd.graphs.metropolis(nd.graphs.path(8)), [10, 20, 40, 60, 60, 40, 20, 10]
    rounds = np.unique(np.geomspace(1, 300, 60).astype(int)).tolist()
    return nd.theory.learning_curves.PLANS[name](*curves(), W, counts, rounds, noise=1.5, tail=0.0)


def samples() -> xr.Dataset:
    """Mean losses of several graphs against points per agent."""
    topologies = nd.graphs.path, nd.graphs.ring, nd.graphs.exponential, nd.graphs.complete
    named = {each.__name__: nd.graphs.metropolis(each(8)) for each in topologies}
    points = [10, 20, 50, 100, 200]
    return nd.theory.learning_curves.against_samples(
        *curves(), named, points, 30, noise=0.5, tail=0.0
    )


def thumbnail(picture: Path, path: Path) -> None:
    """The picture, 720 pixels wide, in 256 colours; of an animation, one from its first third."""
    with Image.open(picture) as image:
        image.seek(getattr(image, "n_frames", 1) // 3)
        height = round(720 * image.height / image.width)
        small = image.convert("RGB").resize((720, height), Image.Resampling.LANCZOS)
    with disk.whole_file(path) as unfinished:
        small.quantize(256).save(unfinished, format="png", optimize=True)


def show(name: str, given: list[xr.Dataset], thumbnails: bool) -> dict[str, str]:
    """Write records and figure; say how the command line draws it."""
    paths = [records.write(one, OUT / f"{name}-{n}.nc") for n, one in enumerate(given, 1)]
    drawn = figures.draw(name, given)
    if name == "animation":
        picture = figures.write(drawn, OUT / f"{name}.gif")
    else:
        figures.write(drawn, OUT / f"{name}.pdf")
        picture = figures.write(drawn, OUT / f"{name}.png")
    if thumbnails and name != "overlay":
        thumbnail(picture, THUMBNAILS / f"{name}.png")
    options = " ".join(f"--record {path.name}" for path in paths)
    command = f"ntkdyn figure {name} {options} --out {picture.name}"
    return {"name": name, "picture": picture.name, "summary": figures.summary(name),
            "command": command}  # fmt: skip


PAGE = jinja2.Template(
    """<!doctype html><html lang="en"><meta charset="utf-8"><title>ntkdyn figures</title>
<meta name="viewport" content="width=device-width, initial-scale=1">
<style>body { font: 16px/1.5 system-ui, sans-serif; max-width: 75rem; margin: 2rem auto;
  padding: 0 1rem; columns: 2 26rem; column-gap: 2rem; background: #fdfdfb; color: #1c2024; }
figure { break-inside: avoid; margin: 0 0 2rem; } img { width: 100%; background: white; }
h1 { column-span: all; } code { font-size: .8rem; overflow-wrap: anywhere; color: #5a626b; }
</style><h1>Figures</h1>
{% for each in shown %}<figure><img src="{{ each.picture }}" alt="{{ each.summary }}">
<figcaption><b>{{ each.name }}</b>: {{ each.summary }}<br><code>{{ each.command }}</code>
</figcaption></figure>
{% endfor %}</html>
""",
    autoescape=True,
)


def main() -> None:
    """Draw everything and write the page."""
    parser = argparse.ArgumentParser(description="Draw every figure.")
    parser.add_argument("--thumbnails", action="store_true", help="renew figures/gallery/ too")
    parser.add_argument("--images", action="store_true", help="the shipped specs instead")
    parser.add_argument("figures", nargs="*", help="these alone")
    wanted = parser.parse_args()
    if wanted.images:
        images()
        return
    shown = []
    for name, given in pictures(wanted.figures):
        shown.append(show(name, given, wanted.thumbnails))
        print(shown[-1]["command"], flush=True)
    with disk.whole_file(OUT / "index.html") as unfinished:
        unfinished.write_text(PAGE.render(shown=shown), encoding="utf-8")
    print(OUT / "index.html")


if __name__ == "__main__":
    main()
