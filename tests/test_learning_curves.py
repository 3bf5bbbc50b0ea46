"""Learning curves against draws of data, against formulas for one agent, and what is refused."""

import math

import numpy as np
import pytest
import sympy as sp

import ntkdyn as nd
from ntkdyn.errors import InputError
from ntkdyn.theory import learning_curve, learning_curves, population_of, spectrum_of
from ntkdyn.theory.learning_curves import circle, curves, modes, skewed as skewed_agents

MODES = 250
SPECTRUM = np.arange(1, MODES + 1) ** -1.2
TARGET = np.random.default_rng(0).normal(size=MODES) * np.arange(1, MODES + 1) ** -0.8
TARGET /= np.sqrt((TARGET**2).sum())
COUNTS = [15, 25, 40, 20, 30]
NOISE = 0.3

GRAPHS = {
    "path": nd.graphs.metropolis(nd.graphs.path(5)),
    "complete": nd.graphs.metropolis(nd.graphs.complete(5)),
    "unlinked": nd.graphs.isolated(5),
    "directed ring": nd.graphs.uniform(nd.graphs.directed_ring(5)),
}

ONE_WAY = np.diag([0.95, 0.3, 0.3, 0.9]) + np.diag([0.7, 0.7, 0.1], -1)
ONE_WAY[0, 3] = 0.05
GRAPHS_OF_FIVE = list(GRAPHS)
GRAPHS["one way"] = nd.graphs.mixing(ONE_WAY)


# --- agents as one would explain them, each with its own points, over many draws at once --------


class Agents:
    """Iterates (draws, modes, 2) per agent, without label noise and with it."""

    def __init__(
        self, W, draws, seed, spectra=None, targets=None, counts=COUNTS, lengths=lambda rng, n: 1
    ):
        rng = np.random.default_rng(seed)
        self.W, self.everyone = np.asarray(W), range(len(counts))
        spectra = [SPECTRUM] * len(counts) if spectra is None else spectra
        targets = [TARGET] * len(counts) if targets is None else targets
        self.points, self.labels = [], []
        for count, spectrum, target in zip(counts, spectra, targets, strict=True):
            inputs = rng.normal(size=(draws, count, len(spectrum))) * np.sqrt(spectrum)
            inputs *= lengths(rng, (draws, count, 1))
            clean = inputs @ (target / np.sqrt(spectrum))
            noisy = clean + NOISE * rng.normal(size=clean.shape)
            self.points.append(inputs)
            self.labels.append(np.stack([clean, noisy], axis=-1))
        self.x = [np.zeros((draws, len(SPECTRUM), 2)) for _ in counts]
        self.memory = {}

    def gradient(self, i, at):
        missed = self.points[i] @ at - self.labels[i]
        return self.points[i].swapaxes(1, 2) @ missed / self.points[i].shape[1]

    def heard(self, sent):
        """What every agent makes of the messages."""
        return [
            sum(self.W[i, j] * sent[j] for j in self.everyone if self.W[i, j])
            for i in self.everyone
        ]

    def gradients(self, at):
        return [self.gradient(i, at[i]) for i in self.everyone]


def dgd(a, eta):
    a.x = [v - eta * g for v, g in zip(a.heard(a.x), a.gradients(a.x), strict=True)]


def cta(a, eta):
    v = a.heard(a.x)
    a.x = [each - eta * g for each, g in zip(v, a.gradients(v), strict=True)]


def atc(a, eta):
    a.x = a.heard([x - eta * g for x, g in zip(a.x, a.gradients(a.x), strict=True)])


def diging(a, eta):
    g = a.gradients(a.x)
    y, old = a.memory.get("y", [0 * each for each in g]), a.memory.get("g", [0 * e for e in g])
    y = [v + new - before for v, new, before in zip(a.heard(y), g, old, strict=True)]
    a.memory = {"y": y, "g": g}
    a.x = [v - eta * each for v, each in zip(a.heard(a.x), y, strict=True)]


def extra(a, eta):
    g, mixed = a.gradients(a.x), a.heard(a.x)
    if a.memory:
        half = [(x + v) / 2 for x, v in zip(a.memory["x"], a.memory["mixed"], strict=True)]
        new = [
            x + v - h - eta * (now - before)
            for x, v, h, now, before in zip(a.x, mixed, half, g, a.memory["g"], strict=True)
        ]
    else:
        new = [v - eta * each for v, each in zip(mixed, g, strict=True)]
    a.memory = {"x": a.x, "mixed": mixed, "g": g}
    a.x = new


def exact_diffusion(a, eta):
    psi = [x - eta * g for x, g in zip(a.x, a.gradients(a.x), strict=True)]
    before = a.memory.get("psi", a.x)
    sent = [p + x - old for p, x, old in zip(psi, a.x, before, strict=True)]
    a.x = [(s + v) / 2 for s, v in zip(sent, a.heard(sent), strict=True)]
    a.memory = {"psi": psi}


ROUND = {"dgd": dgd, "cta": cta, "atc": atc, "diging": diging, "extra": extra}
ROUND["exact_diffusion"] = exact_diffusion
STEP = {name: 0.1 if name == "diging" else 0.25 for name in ROUND}


def losses(name, W, rounds, draws, seed, **problem):
    """Half squared test errors (draws, noise, rounds, agents + 1), by blocks of a few draws.

    The last are those of the average of all agents.
    """
    spectrum, target = problem.pop("test", (SPECTRUM, TARGET))
    truth, found = (target / np.sqrt(spectrum))[:, None], []
    for block in range(0, draws, 10):
        agents, seen = Agents(W, min(10, draws - block), (*seed, block), **problem), []
        for t in range(max(rounds) + 1):
            if t in rounds:
                every = [*agents.x, sum(agents.x) / len(agents.x)]
                seen.append([np.einsum("k,dkn->dn", spectrum, (x - truth) ** 2) for x in every])
            ROUND[name](agents, STEP[name])
        found.append(np.array(seen).transpose(2, 3, 0, 1) / 2)
    return np.concatenate(found)


def z_scores(curve, seen):
    expected = np.c_[curve.test_loss.values, curve.mean_test_loss.values]
    error = seen.std(axis=0, ddof=1) / np.sqrt(len(seen))
    return (expected - seen.mean(axis=0)) / np.maximum(error, 1e-12)


def method(name):
    return getattr(nd.methods, name)(step_size=STEP[name])


def check_against_draws(name, graph, rounds, draws, counts=COUNTS):
    W = GRAPHS[graph]
    seed = list(ROUND).index(name), list(GRAPHS).index(graph)
    seen = losses(name, W, rounds, draws, seed, counts=counts)
    for number, noise in enumerate((0.0, NOISE)):
        curve = learning_curve(SPECTRUM, TARGET, method(name), W, counts, rounds, noise=noise)
        z = z_scores(curve, seen[:, number])
        print(f"{name:16} {graph:14} noise {noise}: largest |z| {np.abs(z).max():.2f}")
        assert np.abs(z).max() <= 3.5
        assert curve.attrs["residual"] <= 1e-7


@pytest.mark.parametrize(
    "name, graph", [("dgd", "directed ring"), ("cta", "path"), ("extra", "path")]
)
def test_curves_are_means_over_draws(name, graph):
    check_against_draws(name, graph, [1, 5, 20, 60], 40)


LONG = [60, pytest.param(600, marks=pytest.mark.slow)]


@pytest.mark.parametrize("last", LONG)
@pytest.mark.parametrize("name", ["dgd", "cta", "atc"])
def test_who_hears_whom_matters(name, last):
    check_against_draws(name, "one way", [1, 20, last], 60, [20, 60, 10, 20])


@pytest.mark.slow
@pytest.mark.parametrize("graph", GRAPHS_OF_FIVE)
@pytest.mark.parametrize("name", ROUND)
def test_curves_are_means_over_two_hundred_draws(name, graph):
    if name in ("extra", "exact_diffusion") and graph == "directed ring":
        pytest.skip("needs a symmetric W")
    check_against_draws(name, graph, [1, 3, 10, 30, 100, 300, 1000], 200)


@pytest.mark.parametrize("last", LONG)
def test_agents_may_have_inputs_and_targets_of_their_own(last):
    scale, counts = np.random.default_rng(2).uniform(0.8, 1.2, (3, MODES)), COUNTS[:3]
    scale *= np.array([[2.0], [0.1], [1.0]])
    spectra = SPECTRUM * scale
    targets = np.sqrt(spectra / SPECTRUM) * (TARGET + 0.2 * np.sqrt(SPECTRUM) * (scale - 1))
    W = nd.graphs.uniform(nd.graphs.directed_ring(3))
    settings = method("atc"), W, counts, [1, 20, last]
    drawn = {"spectra": spectra, "targets": targets, "counts": counts}
    seen = losses("atc", W, [1, 20, last], 60, (3,), **drawn)[:, 1]
    own = learning_curve(spectra, targets, *settings, noise=NOISE, test=(SPECTRUM, TARGET))
    assert np.abs(z_scores(own, seen)).max() <= 3.5
    same = learning_curve(SPECTRUM, TARGET, *settings, noise=NOISE)
    assert np.abs(z_scores(same, seen)).max() > 5


# --- agents whose inputs have other means, or other directions ------------------------------------

ROTATED = 12
SHARES = np.array([[0.8, 0.1, 0.1], [0.1, 0.8, 0.1], [0.1, 0.3, 0.6]])
FEWER = [20, 40, 30]


def skewed():
    """Three classes, Gaussian around means of their own, in shares of every agent's own."""
    rng = np.random.default_rng(0)
    roots = [np.linalg.qr(rng.normal(size=(ROTATED, ROTATED)))[0] for _ in range(3)]
    roots = [turned * np.arange(1, ROTATED + 1) ** -0.6 for turned in roots]
    means = rng.normal(size=(3, ROTATED)) / 3
    target = rng.normal(size=ROTATED) / 3
    return roots, means, target


def by_class(rng, count, shares, gaussian):
    """Points of an agent; Gaussian ones have the same second moment and no means."""
    roots, means, _ = skewed()
    kind = rng.choice(3, count, p=shares)
    inputs = np.stack([means[k] + roots[k] @ rng.normal(size=ROTATED) for k in kind])
    if not gaussian:
        return inputs
    return rng.normal(size=inputs.shape) @ np.linalg.cholesky(second_moment(shares)).T


def second_moment(shares):
    roots, means, _ = skewed()
    each = [np.outer(mean, mean) + root @ root.T for root, mean in zip(roots, means, strict=True)]
    return np.einsum("c,cab->ab", shares, np.array(each))


def skewed_losses(W, rounds, draws, gaussian):
    """Of CTA, (draws, rounds, agents + 1)."""
    _, _, target = skewed()
    test, found = second_moment(np.full(3, 1 / 3)), []
    for draw in range(draws):
        rng, x, seen = np.random.default_rng((9, draw)), np.zeros((3, ROTATED)), []
        points = [by_class(rng, n, s, gaussian) for n, s in zip(FEWER, SHARES, strict=True)]
        labels = [inputs @ target + NOISE * rng.normal(size=len(inputs)) for inputs in points]
        for t in range(max(rounds) + 1):
            if t in rounds:
                off = np.vstack([x, x.mean(axis=0)]) - target
                seen.append(np.einsum("ia,ab,ib->i", off, test, off) / 2)
            x = W @ x
            x = x - STEP["cta"] * np.stack(
                [X.T @ (X @ v - y) / len(X) for X, y, v in zip(points, labels, x, strict=True)]
            )
        found.append(seen)
    return np.array(found)


@pytest.mark.parametrize("gaussian", [True, False])
def test_agents_may_have_shares_of_classes_of_their_own(gaussian):
    """Second moments that do not commute, from means and directions that differ by class."""
    _, _, target = skewed()
    moments, test = np.stack([second_moment(each) for each in SHARES]), second_moment([1 / 3] * 3)
    rounds, W = [1, 5, 20, 60], GRAPHS_OF_THREE["one way"]
    rest = target, method("cta"), W, FEWER, rounds
    curve = learning_curve(moments, *rest, noise=NOISE, test=(test, target))
    seen = skewed_losses(W.matrix, rounds, 150, gaussian)
    z = z_scores(curve, seen)
    print(np.round(z, 1))
    assert np.abs(z).max() <= (3.5 if gaussian else 5)
    # the same of all agents on average
    alike = np.stack([moments.mean(axis=0)] * 3)
    blurred = learning_curve(alike, *rest, noise=NOISE, test=(test, target))
    assert np.abs(z_scores(blurred, seen)).max() > 6


GRAPHS_OF_THREE = {"one way": nd.graphs.mixing([[0.9, 0.1, 0], [0, 0.7, 0.3], [0.4, 0, 0.6]])}


def test_second_moments_that_commute_give_the_curve_of_their_spectra():
    spectra = SPECTRUM[:15] * np.random.default_rng(0).uniform(0.5, 2, (3, 15))
    theta, test = np.random.default_rng(1).normal(size=15), SPECTRUM[:15]
    rest = method("atc"), GRAPHS_OF_THREE["one way"], [5, 10, 15], [1, 10, 100, math.inf]
    settings = {"noise": NOISE, "ridge": 1e-2}
    plain = learning_curve(
        spectra, theta * np.sqrt(spectra), *rest, test=(test, theta * np.sqrt(test)), **settings
    )
    turn = np.linalg.qr(np.random.default_rng(2).normal(size=(15, 15)))[0]
    moments = np.einsum("ak,jk,bk->jab", turn, spectra, turn)
    turned = turn @ theta
    whole = learning_curve(
        moments, turned, *rest, test=((turn * test) @ turn.T, turned), **settings
    )
    for name in ("bias", "sampling", "label_noise", "graph_cost", "mean_test_loss"):
        assert np.allclose(plain[name], whole[name], rtol=1e-6, atol=1e-9)


def test_inputs_that_are_no_gaussian_may_have_other_curves():
    """Of random lengths, with the same covariance: what a prediction from the spectrum misses."""
    lengths = lambda rng, size: np.sqrt(np.where(rng.random(size) < 0.5, 0.1, 1.9))
    W, rounds = GRAPHS["path"], [10, 60]
    seen = losses("atc", W, rounds, 60, (4,), lengths=lengths)
    curve = learning_curve(SPECTRUM, TARGET, method("atc"), W, COUNTS, rounds, noise=NOISE)
    assert (z_scores(curve, seen[:, 1])[1] < -5).all()
    assert np.allclose(curve.test_loss[1] / seen[:, 1, 1, :-1].mean(axis=0), 0.88, atol=0.05)


# --- one agent: formulas that share nothing with circles or loops -------------------------------

ALONE = nd.graphs.isolated(1)


def ridge_loss(count, ridge, noise):
    """Of ridge regression: n = sum lambda/(lambda + kappa) + n ridge/kappa (Bach 2024)."""
    low, high = 1e-12, 1e6
    for _ in range(200):
        kappa = np.sqrt(low * high)
        taken = (SPECTRUM / (SPECTRUM + kappa)).sum() + count * ridge / kappa
        low, high = (kappa, high) if taken > count else (low, kappa)
    gamma = (SPECTRUM**2 / (SPECTRUM + kappa) ** 2).sum() / count
    bias = (TARGET**2 * kappa**2 / (SPECTRUM + kappa) ** 2).sum()
    return (bias + noise**2 * gamma) / (1 - gamma) / 2


@pytest.mark.parametrize("ridge", [0.0, 1e-3, 0.1])
@pytest.mark.parametrize("noise", [0.0, NOISE])
def test_one_agent_ends_where_ridge_regression_does(ridge, noise):
    for count in (30, 100):
        curve = learning_curve(
            SPECTRUM, TARGET, method("dgd"), ALONE, [count], [math.inf], noise=noise, ridge=ridge
        )
        assert curve.test_loss.item() == pytest.approx(ridge_loss(count, ridge, noise), rel=1e-6)


def kappa_of(x, count):
    """kappa (1 - 1/n sum lambda/(lambda + kappa)) = -x, followed from |x| = 100 on by Newton."""
    kappa = None
    for scale in np.append(np.geomspace(100, 1, 60), [1] * 10):
        here = CENTRE + scale * (x - CENTRE)
        kappa = SPECTRUM.sum() / count - here if kappa is None else kappa
        share = SPECTRUM / (SPECTRUM + kappa[:, None])
        miss = kappa * (1 - share.sum(axis=1) / count) + here
        kappa = kappa - miss / (1 - (share**2).sum(axis=1) / count)
    return kappa


CENTRE, RADIUS, POINTS = 0.95, 1.0, 1000


def descent_loss(count, step, rounds, noise):
    """Of gradient descent: functions of the sample covariance by contours in its own plane."""
    turned = np.exp(2j * np.pi * (np.arange(POINTS) + 0.5) / POINTS)
    x = CENTRE + RADIUS * turned
    kappa = kappa_of(x, count)
    left = kappa[:, None] / (SPECTRUM + kappa[:, None])
    taken = SPECTRUM / (SPECTRUM + kappa[:, None])
    gamma = taken @ taken.T / count
    bias, spread = (left * TARGET**2) @ left.T / (1 - gamma), gamma / (1 - gamma)
    weight, found = RADIUS * turned / POINTS / x, []
    for t in rounds:
        forgot, learned = weight * (1 - step * x) ** t, weight * (1 - (1 - step * x) ** t)
        found.append(forgot @ bias @ forgot + noise**2 * learned @ spread @ learned)
    return np.real(found) / 2


def test_one_agent_descends_as_functions_of_its_covariance_do():
    spectrum_edge = 1.9
    rng = np.random.default_rng(0)
    sample = rng.normal(size=(100, MODES)) * np.sqrt(SPECTRUM)
    assert np.linalg.eigvalsh(sample.T @ sample / 100)[-1] < spectrum_edge < CENTRE + RADIUS
    rounds = [0, 1, 2, 5, 17, 60, 200]
    curve = learning_curve(SPECTRUM, TARGET, method("dgd"), ALONE, [100], rounds, noise=NOISE)
    expected = descent_loss(100, STEP["dgd"], rounds, NOISE)
    assert np.allclose(curve.test_loss[:, 0], expected, rtol=1e-6)


def zero(expression):
    return sp.numer(sp.together(expression)).expand() == 0


def test_one_agents_equations_are_those_of_ridge_regression():
    """In kappa = rho / s at ridge rho = 1 / H = (z - 1) / eta, at one point and at two."""
    rho, rho_, s, s_, n, sigma, E = sp.symbols("rho rho_ s s_ n sigma E", positive=True)
    spectrum, theta = sp.symbols("lambda:2", positive=True), sp.symbols("theta:2", real=True)
    kappa, kappa_ = rho / s, rho_ / s_
    G = [1 / rho / (1 + each * s / rho) for each in spectrum]  # H / (1 + lambda s H)
    G_ = [1 / rho_ / (1 + each * s_ / rho_) for each in spectrum]
    own = sum(each * g for each, g in zip(spectrum, G, strict=True)) / n
    ridge = kappa * (1 - sum(each / (each + kappa) for each in spectrum) / n) - rho
    assert zero(s * ridge + rho * (s * (1 + own) - 1))
    gamma = sum(each**2 / ((each + kappa) * (each + kappa_)) for each in spectrum) / n
    spread = sum(each**2 * g * g_ for each, g, g_ in zip(spectrum, G, G_, strict=True))
    assert zero(spread * s * s_ / n - gamma)
    for each, g, g_ in zip(spectrum, G, G_, strict=True):
        left = (1 - each * g * s) * (1 - each * g_ * s_)
        assert zero(left - kappa * kappa_ / ((each + kappa) * (each + kappa_)))
    bias = sum(each * a**2 for each, a in zip(spectrum, theta, strict=True))
    (solved,) = sp.solve(E - bias - gamma * (E + sigma**2), E)
    assert zero(solved - (bias + sigma**2 * gamma) / (1 - gamma))


def test_many_linked_agents_become_one_with_all_points_as_the_step_goes_to_zero():
    apart = []
    for step in (0.2, 0.1, 0.05):
        rounds, descent = [round(10 / step)], nd.methods.dgd(step_size=step)
        shared = learning_curve(
            SPECTRUM, TARGET, descent, GRAPHS["complete"], [20] * 5, rounds, noise=NOISE
        )
        alone = learning_curve(SPECTRUM, TARGET, descent, ALONE, [100], rounds, noise=NOISE)
        apart.append(shared.test_loss.values[0, 0] - alone.test_loss.item())
    slopes = np.diff(np.log(np.abs(apart))) / np.log(0.5)
    assert np.abs(slopes - 1).max() < 0.25, slopes
    assert abs(apart[-1]) < 0.01 * alone.test_loss.item()


FEW = {"path": nd.graphs.metropolis(nd.graphs.path(3)), "unlinked": nd.graphs.isolated(3)}
FEW["complete"] = nd.graphs.metropolis(nd.graphs.complete(3))
SMALL = SPECTRUM[:60], TARGET[:60], method("dgd")


# --- the parts, the far rounds, the sums over modes ---------------------------------------------


def test_parts_add_up_and_what_they_are_is_so():
    rounds, counts = [0, 1, 30, 300], [10, 20, 30]
    loud, quiet = (
        learning_curve(*SMALL, FEW["path"], counts, rounds, noise=noise) for noise in (NOISE, 0.0)
    )
    parts = loud.bias + loud.sampling + loud.label_noise
    assert np.allclose(parts, loud.test_loss, rtol=1e-12)
    assert np.allclose(quiet.test_loss, loud.bias + loud.sampling, rtol=1e-12)
    assert np.allclose(loud.test_loss[0], (SMALL[1] ** 2).sum() / 2, rtol=1e-6)
    complete = learning_curve(*SMALL, FEW["complete"], counts, rounds, noise=NOISE)
    assert np.allclose(loud.test_loss - complete.test_loss, loud.graph_cost, atol=1e-12)
    assert not complete.graph_cost.any() and np.abs(loud.graph_cost[2]).max() > 1e-3
    # the first round moves every agent by eta times the mean of its own gradient, whatever the draw
    mean = ((1 - STEP["dgd"] * SMALL[0]) ** 2 * SMALL[1] ** 2).sum() / 2
    assert np.allclose(loud.bias[1], mean, rtol=1e-6)


def test_a_graph_has_no_cost_where_the_complete_one_is_not_stable():
    steep = learning_curve(
        SPECTRUM, TARGET, nd.methods.dgd(step_size=0.6), GRAPHS["one way"], [90, 10, 10, 20], [5]
    )
    assert np.isnan(steep.graph_cost).all() and np.isfinite(steep.test_loss).all()


def test_far_rounds_approach_the_limit_and_circles_agree():
    given = SPECTRUM, TARGET, method("dgd"), nd.graphs.metropolis(nd.graphs.path(2)), [40, 60]
    far = learning_curve(*given, [10, 10**6, math.inf], noise=NOISE)
    near = learning_curve(*given, [10], noise=NOISE)
    assert np.allclose(far.test_loss[0], near.test_loss[0], rtol=1e-6)
    assert np.allclose(far.test_loss[1], far.test_loss[2], rtol=1e-4)
    assert far["round"].values.tolist() == [10, 10**6, math.inf]


def test_circles_give_back_powers_once_they_resolve_them():
    poles = np.array([0.9, 0.99, -0.5, 0.3 + 0.6j, 0.98 * np.exp(2j)])
    rounds, around, halvings = np.array([0.0, 1, 7, 50, 400]), circle.Circle.up_to(400.0), 0
    while True:
        z = 1 + around.shifts[:, None]
        values = z / (z - poles) + z / (z - poles.conj())
        found = 2 * (around.weights(rounds) @ values).real
        miss = np.abs(found - 2 * (poles ** rounds[:, None]).real).max()
        resolved = around.resolved(values)
        if resolved.all():
            break
        around, halvings = around.halved(~resolved), halvings + 1
        assert miss > 1e-7 or halvings > 1
    assert miss < 1e-7 and 2 <= halvings < circle.HALVINGS


def test_few_nodes_stand_for_many_modes(monkeypatch):
    spectrum = np.arange(1, 401) ** -1.5
    W = nd.graphs.uniform(nd.graphs.directed_ring(2))
    given = spectrum, np.sqrt(spectrum), method("cta"), W, [30, 60], [1, 30, 100]
    assert len(modes.gathered(modes.Modes.shared(spectrum, spectrum, 2)).weights) < 80
    few = learning_curve(*given, noise=NOISE)
    monkeypatch.setattr(skewed_agents, "gathered", lambda modes: modes)
    monkeypatch.setattr(modes.Modes, "alike", False)  # so that every mode is inverted by itself
    every = learning_curve(*given, noise=NOISE)
    assert np.allclose(few.test_loss, every.test_loss, rtol=1e-7)


def test_a_tail_is_many_small_eigenvalues():
    given = TARGET, method("dgd"), ALONE, [30], [10, 100]
    tail = learning_curve(SPECTRUM, *given, noise=NOISE, tail=0.5)
    flat = np.append(SPECTRUM, np.full(2000, 0.5 / 2000))
    padded = np.append(TARGET, np.zeros(2000)), *given[1:]
    assert np.allclose(
        tail.test_loss, learning_curve(flat, *padded, noise=NOISE).test_loss, rtol=1e-2
    )
    none = learning_curve(SPECTRUM, *given, noise=NOISE)
    assert np.abs(tail.test_loss / none.test_loss - 1).max() > 0.02


def test_outputs_add_up():
    rest = method("dgd"), FEW["path"], [10, 20, 30], [3, 30]
    split = np.stack([SMALL[1] * np.sqrt(0.3), SMALL[1] * np.sqrt(0.7)], axis=1)
    two = learning_curve(SMALL[0], split, *rest, noise=NOISE)
    one = learning_curve(*SMALL[:2], *rest, noise=NOISE * np.sqrt(2))
    assert np.allclose(two.test_loss, one.test_loss, rtol=1e-12)


@pytest.mark.slow
def test_a_pool_tells_the_spectrum_of_all_inputs():
    """Pools of 300 points, an agent with 100: losses as shares of that at the start."""

    def left(spectrum, target):
        asked, W = curves.question(
            spectrum, target, method("dgd"), ALONE, [100], [0, 30, 300, 3000]
        )
        losses = asked.losses(method("dgd"), W)[:, 0]
        return losses[1:] / losses[0]

    truth, seen = left(SPECTRUM, TARGET), []
    for seed in range(20):
        inputs = np.random.default_rng(seed).normal(size=(300, MODES)) * np.sqrt(SPECTRUM)
        pool = inputs @ inputs.T, inputs @ (TARGET / np.sqrt(SPECTRUM))
        fitted = population_of(*pool)
        assert fitted.values.sum() == pytest.approx(np.trace(pool[0]) / 300, rel=0.01)
        assert (fitted.target**2).sum() == pytest.approx((pool[1] ** 2).mean(), rel=0.01)
        seen.append([left(*fitted), left(*spectrum_of(*pool))])
    miss = np.mean(seen, axis=0) - truth
    z = miss / np.std(seen, axis=0, ddof=1) * np.sqrt(len(seen))
    print("fits", miss[0] / truth, z[0], "pools", miss[1] / truth, z[1])
    assert np.abs(z[0]).max() < 3
    assert z[1, -1] < -10


def test_a_kernel_on_a_pool_has_the_spectrum_of_its_features():
    rng = np.random.default_rng(0)
    features = rng.normal(size=(30, 8)) * np.arange(1, 9) ** -1.0
    y = features @ rng.normal(size=(8, 2))
    found = spectrum_of(features @ features.T, y)
    covariance = features.T @ features / 30
    assert np.allclose(found.values[:8], np.linalg.eigvalsh(covariance)[::-1])
    assert np.allclose((found.target**2).sum(axis=0), (y**2).mean(axis=0))
    assert np.allclose(found.target[8:], 0, atol=1e-10)
    assert spectrum_of(features @ features.T, y[:, 0]).target.shape == (30, 1)


def test_what_changes_a_gradient_changes_the_curve():
    rest = FEW["path"], [10, 20, 30], [1, 30]
    of = lambda method, **settings: learning_curve(*SMALL[:2], method, *rest, **settings).test_loss
    decayed = nd.methods.weight_decay(method("dgd"), 0.05)
    assert np.allclose(of(decayed), of(method("dgd"), ridge=0.05), rtol=1e-9)
    unequal = nd.methods.weighted(method("dgd"), [1, 1, 4]), [0.5, 0.5, 2.0]
    assert np.allclose(of(unequal[0]), of(nd.methods.by_agent(method("dgd"), unequal[1])))
    assert np.abs(of(unequal[0]) / of(method("dgd")) - 1).max() > 0.02


# --- what follows ---------------------------------------------------------------------------------


def test_the_best_round_of_every_agent_is_the_mean_at_the_end_all():
    found = learning_curves.best_rounds(*SMALL, FEW["path"], [5, 10, 15], 200, noise=1.0)
    every = learning_curve(*SMALL, FEW["path"], [5, 10, 15], range(201), noise=1.0).test_loss
    assert np.array_equal(found.best_round, every.argmin("round"))
    assert 0 < found.best_round.min() < found.best_round.max() < 200
    assert np.allclose(found.best_loss, every.min("round"), rtol=1e-9)
    assert np.allclose(found.last_loss, every[-1], rtol=1e-6)


@pytest.mark.slow
def test_the_best_step_has_worse_ones_on_both_sides():
    settings = FEW["path"], [5, 10, 15], 60
    step, loss = learning_curves.best_step_size(*SMALL, *settings, noise=1.5)
    beside = [
        learning_curve(
            *SMALL[:2], nd.methods.dgd(step_size=step * by), *settings[:2], [60], noise=1.5
        ).test_loss.mean()
        for by in (0.7, 1.0, 1.4)
    ]
    assert beside[1] == pytest.approx(loss) and loss < min(beside[0], beside[2])


@pytest.mark.slow
def test_the_best_split_is_even_where_agents_are_alike_and_not_on_a_path():
    even, _ = learning_curves.best_split(*SMALL, FEW["complete"], 31, 20, noise=0.5)
    assert even.sum() == 31 and np.ptp(even) == 1
    split, loss = learning_curves.best_split(*SMALL, FEW["path"], 30, 5, noise=0.5)
    losses = {
        tuple(each): learning_curve(*SMALL, FEW["path"], each, [5], noise=0.5).test_loss.mean()
        for each in (split, [10, 10, 10], split + [1, -2, 1], split + [-1, 2, -1])
    }
    assert split.sum() == 30 and tuple(split) != (10, 10, 10)
    assert losses[tuple(split)] == pytest.approx(loss) == min(losses.values())


@pytest.mark.slow
def test_agents_alone_profit_from_themselves_only():
    profit = [
        learning_curves.effective_agents(*SMALL, FEW[name], [12] * 3, 15, noise=0.5)
        for name in ("unlinked", "path", "complete")
    ]
    assert np.allclose(profit[0], 1, rtol=1e-3)
    assert (profit[0] < profit[1]).all() and (profit[1] < profit[2]).all()
    assert 2.5 < profit[2].min() < 3.2 and profit[1].argmax() == 1


@pytest.mark.slow
def test_a_sparse_graph_costs_samples():
    price = {
        name: learning_curves.price_in_samples(*SMALL, FEW[name], 20, 6, noise=0.5) for name in FEW
    }
    assert price["complete"] == pytest.approx(1, rel=1e-3)
    assert 1 < price["path"] < price["unlinked"]
    paid = round(20 * price["unlinked"])
    losses = learning_curves.against_samples(*SMALL, FEW, [20, paid], 6, noise=0.5, tail=0.0)
    assert losses.test_loss.sel(graph="unlinked", points=paid).item() == pytest.approx(
        losses.test_loss.sel(graph="complete", points=20).item(), rel=0.01
    )
    curve = learning_curve(*SMALL, FEW["path"], [20] * 3, [6], noise=0.5)
    assert losses.test_loss.sel(graph="path", points=20) == pytest.approx(curve.test_loss.mean())


def test_plans_refuse_what_is_none():
    with pytest.raises(InputError, match="topologies: must name at least one"):
        learning_curves.against_samples(*SMALL, {}, [20], 6)
    with pytest.raises(InputError, match="points: must be a whole number from 3 on, got 2"):
        learning_curves.best_split(*SMALL, FEW["path"], 2, 6)


# --- what is refused ----------------------------------------------------------------------------

GIVEN = {
    "spectrum": SPECTRUM, "target": TARGET, "method": method("dgd"), "weights": GRAPHS["path"],
    "counts": COUNTS, "rounds": [10],
}  # fmt: skip

REFUSED = {
    "negative": ({"spectrum": -SPECTRUM}, "spectrum: must not be negative, got -1"),
    "unsorted": ({"spectrum": SPECTRUM[::-1]}, "must be sorted, the largest first, but entry 1 is"),
    "zero": ({"spectrum": 0 * SPECTRUM}, "spectrum: is all zero"),
    "few": (
        {"spectrum": SPECTRUM[:100], "target": TARGET[:100]},
        "100 eigenvalues, which sum to .* for 130 points; give as many .* or say with `tail`",
    ),
    "tail": ({"tail": -1.0}, "tail: must be a finite number from 0 on, got -1.0"),
    "short": ({"target": TARGET[:9]}, "a coefficient for each of 250 modes, got 9"),
    "unstable": ({"method": nd.methods.dgd(step_size=3.0)}, "step size: 3 of dgd is not stable"),
    "share": ({"method": nd.methods.dgd(step_size=nd.of_limit(0.5))}, "give dgd a number"),
    "periodic": (
        {"method": nd.methods.local_sgd(step_size=0.1, tau=2)},
        "has no learning curve, as its rounds are not one and the same map",
    ),
    "scheduled": (
        {"method": nd.methods.scheduled(method("dgd"), {5: 0.1})},
        "has no learning curve, as its rounds are not one and the same map",
    ),
    "agents": ({"counts": [10, 10]}, "mixing matrix: is for 5 agents, the problem has 2"),
    "counts": ({"counts": [10, 10, 0, 10, 10]}, "counts: each must be a whole number from 1 on"),
    "rounds": ({"rounds": [0.5]}, "rounds: must be a list of whole numbers from 0 on"),
    "noise": ({"noise": -0.1}, "noise: must be a finite number from 0 on"),
    "ridge": ({"ridge": math.inf}, "ridge: must be a finite number from 0 on"),
    "test": ({"test": (SPECTRUM, TARGET)}, "test: is for agents with spectra of their own"),
    "no test": ({"spectrum": [SPECTRUM] * 5, "target": [TARGET] * 5}, "give .spectrum, target."),
    "no moments' test": ({"spectrum": [np.eye(250)] * 5}, "give .second moment, target."),
    "moments' shape": (
        {"spectrum": [np.eye(9)] * 5, "test": (np.eye(9), TARGET)},
        "second moments must be .* of 5 agents and 250 modes",
    ),
    "moments' size": (
        {"spectrum": [np.eye(250)] * 5, "test": (np.eye(250), TARGET)},
        "a matrix of 1250 rows; up to 400 are inverted, take fewer modes",
    ),
    "moments' target": (
        {"spectrum": [np.eye(9)] * 5, "target": TARGET[:9], "test": (np.eye(9), -TARGET[:9])},
        "test: must have the target that agents learn",
    ),
    "moments' symmetry": (
        {"spectrum": [np.triu(np.ones((9, 9)))] * 5, "target": TARGET[:9]}
        | {"test": (np.eye(9), TARGET[:9])},
        "second moments must be symmetric",
    ),
    "moments' signs": (
        {"spectrum": [-np.eye(9)] * 5, "target": TARGET[:9], "test": (np.eye(9), TARGET[:9])},
        "second moments must have no negative eigenvalues",
    ),
    "sequence": ({"weights": [np.full((5, 5), 0.2)] * 2}, "needs one mixing matrix"),
}


@pytest.mark.parametrize("changed, message", REFUSED.values(), ids=REFUSED)
def test_what_has_no_curve_is_refused(changed, message):
    with pytest.raises(InputError, match=message):
        learning_curve(**(GIVEN | changed))


def test_a_fixed_point_that_does_not_settle_is_refused(monkeypatch):
    monkeypatch.setattr(curves.Medium, "_sums", lambda self, H, s: (s + np.nan, H + np.nan))
    with pytest.raises(InputError, match="the fixed point at z = .* does not settle"):
        learning_curve(**GIVEN)


@pytest.mark.parametrize(
    "kernel, targets, message",
    [
        (np.ones((3, 2)), np.ones(3), r"kernel: must be \(N, N\) with N rows of targets"),
        (np.eye(3), np.ones(2), r"kernel: must be \(N, N\) with N rows of targets"),
        (np.triu(np.ones((3, 3))), np.ones(3), "kernel: must be symmetric"),
        (-np.eye(3), np.ones(3), "kernel: must not have negative eigenvalues, got -1"),
    ],
)
def test_kernels_that_are_none_have_no_spectrum(kernel, targets, message):
    with pytest.raises(InputError, match=message):
        spectrum_of(kernel, targets)


@pytest.mark.slow
def test_plans_are_what_planning_says():
    given = (*SMALL, FEW["path"], [8, 12, 16])
    plans = {
        name: make(*given, [1, 5, 15], noise=1.0) for name, make in learning_curves.PLANS.items()
    }
    least = plans["losses"].test_loss.min("round")
    assert (plans["stopping"].best_loss <= least + 1e-12).all()
    assert np.allclose(plans["stopping"].test_loss, plans["losses"].test_loss)
    assert plans["split"].best_points.sum() == 36
    assert plans["split"].attrs["best_loss"] <= plans["split"].attrs["loss"]
    assert plans["split"].attrs["loss"] == pytest.approx(mean_at_the_end(plans["losses"]))
    profit = learning_curves.effective_agents(*given, 15, noise=1.0)
    assert np.allclose(plans["profit"].effective_agents, profit)
    steps = plans["steps"]
    assert steps.best_loss <= np.nanmin(steps.mean_test_loss) * (1 + 1e-4)
    own = steps.mean_test_loss.sel(step_size=STEP["dgd"], method="nearest").item()
    assert own == pytest.approx(mean_at_the_end(plans["losses"]))
    price = learning_curves.price_in_samples(*given[:-1], 12, 15, noise=1.0)
    assert plans["price"].sel(graph="this graph", round=15).price == pytest.approx(price)


def mean_at_the_end(curve):
    """The mean loss over agents in the last round."""
    return curve.test_loss[-1].mean().item()
