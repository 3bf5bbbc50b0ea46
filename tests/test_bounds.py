"""Bounds hold where their assumptions do, and say rightly where these do not."""

import collections
import dataclasses
import itertools

import numpy as np
import pytest
from cases import quick_if
from theory_cases import AGENTS, drawn, method, taking_turns

import ntkdyn as nd
from ntkdyn import graphs
from ntkdyn.dynamics import Stability
from ntkdyn.methods import mixing, objectives, updates
from ntkdyn.methods.method import Needs
from ntkdyn.theory import bounds, constants, table, theorems
from ntkdyn.theory.theorems import linear

PROBLEMS, ROUNDS = 200, 40


def predicted(case, made, rounds=ROUNDS, every=1, save=nd.SaveOptions(), **more):
    """The linear run itself; its stability is not asked for."""
    known = Stability(made, True, None)
    return nd.predict(
        case.problem,
        made,
        case.weights,
        rounds,
        save=save._replace(record_every=every),
        stability=known,
        **more,
    )


@pytest.fixture(scope="module")
def sweep():
    """(problem, method, record, bounds) of 200 random problems, methods taking turns.

    DIGing's own range is so small that half of its problems take a small step.
    """
    made = []
    for seed in range(PROBLEMS):
        one = drawn(seed)
        by = taking_turns(seed, one.weights, one.step_size)
        if by.name == "diging" and seed % 4 > 1:
            one = one._replace(step_size=one.step_size / 200)
            by = by.with_step_size(one.step_size)
        case = theorems.case(one.problem, by, one.weights)
        made.append((one, by, predicted(one, by), theorems.bounds_of(case)))
    return made


@pytest.fixture(scope="module")
def verdicts(sweep):
    return [[bound.check(record) for bound in found] for _, _, record, found in sweep]


@pytest.mark.slow
def test_no_bound_whose_assumptions_hold_is_violated(verdicts):
    tally = collections.Counter()
    for of_one in verdicts:
        bounds.demand(of_one)
        for verdict in of_one:
            assert verdict.state in ("holds", "assumption not met", "promises nothing")
            assert verdict.state != "holds" or verdict.tightness >= 1 - 1e-6
            tally[verdict.bound.name, verdict.state] += 1
    names = {name for name, _ in tally}
    assert len(names) == 21
    for name in names:
        assert tally[name, "holds"] >= 3, (name, tally)
        assert tally[name, "assumption not met"] >= 2, (name, tally)


@pytest.mark.slow
def test_some_bounds_are_nearly_attained(verdicts):
    """The sweep would notice constants that are too small by a few percent."""
    tightest = collections.defaultdict(lambda: np.inf)
    for of_one in verdicts:
        for verdict in of_one:
            if verdict.state == "holds":
                name = verdict.bound.name
                tightest[name] = min(tightest[name], verdict.tightness)
    assert tightest["averaging"] < 1.001 and tightest["flow"] < 1.001
    assert tightest["centralized"] < 1.02 and tightest["descent"] < 1.02
    assert tightest["linear rate"] < 1.2 and tightest["step size"] < 1.1
    assert tightest["disagreement"] < 1.5 and tightest["exact diffusion"] < 3
    assert tightest["disagreement, any W"] < 4 and tightest["neighbourhood, any W"] < 20


class Slow:
    """The constants again, from explicit Hessians in the space of the features."""

    def __init__(self, one):
        span = np.linalg.svd(one.features, full_matrices=False)
        inside = span[2][span[1] > 1e-9].T
        rows = [one.features[one.owner == i] @ inside for i in range(AGENTS)]
        targets = [one.targets[one.owner == i, 0] for i in range(AGENTS)]
        self.hessians = [r.T @ r / len(r) for r in rows]
        self.slopes = [-r.T @ y / len(r) for r, y in zip(rows, targets, strict=True)]
        self.mean = sum(self.hessians) / AGENTS
        self.best = np.linalg.solve(self.mean, -sum(self.slopes) / AGENTS)
        self.forces = np.array(
            [h @ self.best + g for h, g in zip(self.hessians, self.slopes, strict=True)]
        )
        spectra = [np.linalg.eigvalsh(h) for h in self.hessians]
        self.mean_mu = np.mean([s[0] if s[0] > 1e-9 else 0 for s in spectra])
        self.L, self.mu = max(s[-1] for s in spectra), min(s[0] for s in spectra)
        self.local = [
            np.mean((r @ np.linalg.lstsq(r, y, rcond=None)[0] - y) ** 2) / 2
            for r, y in zip(rows, targets, strict=True)
        ]
        self.start = [np.mean(y**2) / 2 for y in targets]


@pytest.mark.slow
def test_constants_are_those_of_the_explicit_hessians(sweep):
    for one, _, _, found in sweep[:40]:
        constants, slow = found[0].case.constants, Slow(one)
        curvatures = np.linalg.eigvalsh(slow.mean)
        heterogeneity = np.mean(np.sum(slow.forces**2, axis=1))
        energy = np.linalg.eigvals(
            np.linalg.solve(slow.mean @ slow.mean, sum(h @ h for h in slow.hessians) / AGENTS)
        ).real
        for ours, theirs in (
            (constants.smoothness, slow.L),
            (constants.convexity, slow.mu if slow.mu > 1e-9 else 0),
            (constants.mean_smoothness, curvatures[-1]),
            (constants.mean_convexity, curvatures[0]),
            (constants.distance, np.linalg.norm(slow.best)),
            (constants.heterogeneity, heterogeneity if heterogeneity > 1e-16 else 0),
            (constants.growth, energy.max()),
            (
                constants.gradient_bound,
                np.sqrt(2 * slow.L * (np.sum(slow.start) - sum(slow.local))),
            ),
        ):
            assert np.isclose(ours, theirs, rtol=1e-6, atol=1e-10), (ours, theirs)


def expected(one, name, by):
    """Whether each bound's assumptions are met, worked out again."""
    slow, W, eta = Slow(one), one.weights.matrix, one.step_size
    mean = np.full((AGENTS, AGENTS), 1 / AGENTS)
    symmetric = np.allclose(W, W.T)
    doubly = np.allclose(W.sum(axis=0), 1)
    beta = np.sqrt(np.linalg.eigvalsh((W - mean).T @ (W - mean)).max())
    least = np.linalg.eigvals(W).real.min()
    curvature = np.linalg.eigvalsh(slow.mean)
    p, order = 1 - beta**2, (1.0 if by == "dgd" else beta**2)
    positive = least > -1e-10
    descends = symmetric and (
        eta * slow.L <= 1 + least if by == "dgd" else positive and eta * slow.L <= 2
    )
    rho = max(abs(1 - eta * curvature[0]), abs(1 - eta * curvature[-1]))
    L = slow.L
    small_gains = np.array(
        [[beta + eta * L, L * (2 + eta * L), eta * L**2], [eta, beta, 0], [0, eta * L, rho]]
    )
    tracks = doubly and np.abs(np.linalg.eigvals(small_gains)).max() < 1
    growth = np.linalg.eigvals(
        np.linalg.solve(slow.mean @ slow.mean, sum(h @ h for h in slow.hessians) / AGENTS)
    ).real.max()

    def below(times, cap):
        return doubly and eta * L <= min(cap, p / max(times * np.sqrt(order), 1e-300))

    interpolates = np.abs(slow.forces).max() < 1e-7
    steps = {
        "dgd": symmetric,
        "atc": doubly,
        "cta": doubly,
        "extra": symmetric,
        "exact_diffusion": symmetric,
        "diging": doubly,
    }
    rates = {
        "dgd": symmetric,
        "atc": doubly,
        "cta": doubly,
        "exact_diffusion": symmetric and eta * L <= 2,
        "diging": tracks,
        "extra": symmetric and 2 * eta * L <= 1 + least,
    }
    kappa = L / slow.mean_mu if slow.mean_mu else np.inf
    own = 0.5 * (1 - beta) ** 2 / (L * (1 + 4 * np.sqrt(AGENTS * kappa)))
    return {
        "averaging": doubly,
        "descent": descends,
        "disagreement": descends,
        "neighbourhood": descends,
        "disagreement, any W": doubly and eta * slow.L <= 2,
        "neighbourhood, any W": doubly and eta * slow.L <= 2,
        "flow": doubly,
        "non-expansion": descends and interpolates,
        "D-SGD, convex": below(12, 1 / 4),
        "D-SGD, strongly convex": below(17, 1 / 4),
        "D-SGD, non-convex": below(max(4, 8 * np.sqrt(growth)), 1),
        "centralized": by != "dgd" and np.allclose(W, mean),
        "tracking, mean": tracks,
        "tracking, disagreement": tracks,
        "EXTRA, energy": symmetric and eta * L <= 1 + least,
        "EXTRA, rate": symmetric and eta * L <= 1 + least,
        "EXTRA, linear": symmetric and 2 * eta * L <= 1 + least,
        "DIGing's own rate": doubly and slow.mean_mu > 0 and eta <= own,
        "exact diffusion": symmetric and eta * L <= 2,
        "step size": steps.get(by, symmetric and positive),
        "linear rate": rates.get(by),
    }[name]


@pytest.mark.slow
def test_every_assumption_is_judged_rightly(sweep):
    for one, by, _, found in sweep:
        for bound in found:
            right = expected(one, bound.name, by.name)
            assert (not bound.missing) == right, (bound.name, by.name, bound.missing)


@pytest.mark.slow
def test_a_violated_bound_is_loud(sweep):
    one, by, record, found = next(s for s in sweep if s[1].name == "dgd" and not s[3][1].missing)
    broken = record.copy()
    broken["train_loss"] = record["train_loss"] + 10 * (record["round"] == 7)
    verdict = found[1].check(broken)
    assert verdict.bound.name == "descent" and verdict.state == "violated"
    assert verdict.violated_at == 7 and verdict.tightness < 1
    with pytest.raises(bounds.BoundViolated, match="descent: sum of own losses .* in round 7"):
        bounds.demand([found[0].check(record), verdict])


@pytest.mark.parametrize("wrong", ["columns do not sum to one", "too large a step", "another sign"])
def test_a_wrong_method_is_found(wrong):
    """A run by an update with a usual mistake breaks a bound that the right one keeps."""
    one = next(one for one in map(drawn, range(50)) if one.features.shape[1] == 2)
    W = graphs.lazy(graphs.metropolis(graphs.ring(AGENTS)))
    known = constants.problem_constants(one.problem)
    right = method("exact_diffusion", 0.9 / known.smoothness)
    run = {
        "columns do not sum to one": (
            dataclasses.replace(right, needs=Needs()),
            graphs.uniform(graphs.star(AGENTS)),
        ),
        "too large a step": (method("exact_diffusion", 2.2 / known.smoothness), W),
        "another sign": (method("dgd", 0.9 / known.smoothness), W),
    }[wrong]
    (promise,) = (
        b
        for b in theorems.bounds_of(theorems.case(one.problem, right, W))
        if b.name == "exact diffusion"
    )
    good = predicted(one._replace(weights=W), right, rounds=2000, every=100)
    assert promise.check(good).state == "holds"
    bad = predicted(one._replace(weights=run[1]), run[0], rounds=2000, every=100)
    claimed = bad.assign_attrs(good.attrs).assign(mixing=good["mixing"])
    assert promise.check(claimed).state == "violated", promise.check(claimed).tightness


def test_minibatches_and_other_losses_are_no_test(small):
    one = drawn(3)
    by = method("dgd", one.step_size)
    record = predicted(one, by, rounds=3, batch_size=1, batch_seed=0)
    verdicts = [
        b.check(record) for b in theorems.bounds_of(theorems.case(one.problem, by, one.weights))
    ]
    for found in verdicts:
        (*own, last) = found.assumptions
        batches = not last.holds and last.found == "the run takes batches of 1"
        assert batches == found.bound.of_run and (
            not batches or tuple(own) == found.bound.assumptions
        )
    assert any(v.bound.of_run for v in verdicts)
    states = {v.bound.name: v.state for v in verdicts}
    assert states.pop("averaging") != "violated" and states.pop("linear rate") != "violated"
    assert states.pop("flow") != "violated"
    assert states.pop("step size") != "violated" and set(states.values()) == {"assumption not met"}
    problem, _ = small(8, "cross_entropy")
    W = graphs.metropolis(graphs.ring(8))
    by = method("dgd", 0.5 / constants.problem_constants(problem).smoothness)
    record = nd.predict(problem, by, W, 30, stability=Stability(by, True, None))
    verdicts = [b.check(record) for b in theorems.bounds_of(theorems.case(problem, by, W))]
    bounds.demand(verdicts)
    states = {v.bound.name: v.state for v in verdicts}
    assert states["descent"] == states["disagreement"] == "holds"
    assert states["neighbourhood"] == "assumption not met"


def test_refusals():
    one = drawn(0)
    by = method("dgd", 0.1)
    record = predicted(one, by, rounds=2)
    bound = theorems.bounds_of(theorems.case(one.problem, method("dgd", 0.2), one.weights))[0]
    with pytest.raises(nd.InputError, match="bounds: the record has step_size 0.1"):
        bound.check(record)
    case = theorems.case(one.problem, by, graphs.metropolis(graphs.star(AGENTS)))
    with pytest.raises(nd.InputError, match="other mixing weights"):
        theorems.bounds_of(case)[0].check(record)
    bare = predicted(one, by, rounds=2, save=nd.SaveOptions(outputs=False))
    (bound,) = (
        b
        for b in theorems.bounds_of(theorems.case(one.problem, by, one.weights))
        if b.name == "neighbourhood"
    )
    with pytest.raises(nd.InputError, match="holds no outputs"):
        bound.check(bare)


def test_records_of_another_run_are_refused():
    """The same method, step size, weights and loss, and yet not what the theorem is about."""
    one = drawn(0)
    by = method("dgd", 0.1)
    record = predicted(one, by, rounds=2)
    (bound, *_) = theorems.bounds_of(theorems.case(one.problem, by, one.weights))
    train = (record["split"] == "train").values
    for name, off in (("initial_outputs", 0.3), ("targets", 2)):
        said = f"of another run than the bound: its {name} are off by up to {off} at"
        with pytest.raises(nd.InputError, match=said):
            bound.check(record.assign({name: record[name] + off}))
    swapped = record.assign_coords(owner=("point", record["owner"].values[::-1]))
    with pytest.raises(nd.InputError, match="other owners of the training points"):
        bound.check(swapped)
    with pytest.raises(nd.InputError, match="training points 11, and the bound is for 12"):
        bound.check(record.isel(point=np.flatnonzero(train)[1:]))
    with pytest.raises(nd.InputError, match="has kernel infinite, and the bound is for given"):
        bound.check(record.assign_attrs(kernel="infinite"))
    with pytest.raises(nd.InputError, match="has loss cross_entropy, and the bound is for mse"):
        bound.check(record.assign_attrs(loss="cross_entropy"))
    with pytest.raises(nd.InputError, match="other mixing weights"):
        bound.check(record.assign_attrs(spectral_gap=0.123))
    real = record.assign_attrs(kernel="none", space="network")
    assert bound.check(real).state in ("holds", "assumption not met")


def lost(record, name, rounds):
    """The record, without a finite number in these rounds."""
    return record.assign({name: record[name].where(~record["round"].isin(rounds), np.inf)})


def small_steps(name, rounds=20, every=1):
    """A run in the range of all theorems about its method."""
    one = drawn(1)
    W = graphs.lazy(graphs.metropolis(graphs.ring(AGENTS)))
    by = method(name, 1e-3 / constants.problem_constants(one.problem).smoothness)
    made = theorems.case(one.problem, by, W)
    return made, predicted(one._replace(weights=W), by, rounds, every)


def test_what_is_not_finite_has_diverged():
    made, record = small_steps("dgd")
    found = {bound.name: bound for bound in theorems.bounds_of(made)}
    verdict = found["descent"].check(lost(record, "train_loss", [7, 9]))
    assert verdict.state == "diverged" and verdict.diverged_at == 7
    assert verdict.violated_at is None and 1 <= verdict.tightness < 2
    with pytest.raises(bounds.BoundViolated, match="own losses is not finite in round 7, and"):
        bounds.demand([verdict])
    beyond = dataclasses.replace(found["descent"], at=lambda t: np.full_like(t, np.inf))
    bounds.demand([beyond.check(lost(record, "train_loss", [7]))])
    above = record.assign(train_loss=record["train_loss"] + 10 * (record["round"] == 5))
    verdict = found["descent"].check(lost(above, "train_loss", [7]))
    assert verdict.state == "violated" and verdict.violated_at == 5 and verdict.tightness < 1
    rows = table.rows(made, record, lost(record, "train_loss", [7]))
    (row,) = (each for each in rows if each.predicted.bound.name == "descent")
    assert table.cells(row)[-1] == "holds, ratio 1\nobserved: diverged at round 7"
    far = made._replace(method=method("dgd", 10 * made.step_size / 1e-3))
    apart = lost(record, "train_loss", [7]).assign_attrs(step_size=far.step_size)
    beside = next(r for r in table.rows(far, apart) if r.predicted.bound.name == "descent")
    assert table.cells(beside)[-1] == "assumption not met; diverged at round 7"
    kept = table.record(made, [row])
    assert kept["observed_state"].item() == "diverged" and np.isnan(kept["observed"][0, 7])


def test_the_tightest_round_is_the_first_of_those_equal_to_nine_digits():
    made, record = small_steps("dgd", rounds=3)
    verdict = next(iter(theorems.bounds_of(made))).check(record)
    for apart, index in ((4e-9, 3), (4e-10, 2)):
        promised = np.array([1.0, 2.0, 1.0 + apart, 1.0])
        told = verdict._replace(promised=promised, seen=np.ones(4), resolution=np.zeros(4))
        assert told.tightest == index
    still = verdict._replace(seen=np.array([0.0, 1.0, 0.0, 2.0]), resolution=np.array([0, 0, 1, 1]))
    assert still.told.tolist() == [False, True, False, True]


def test_a_run_away_hides_no_disagreement():
    """Its last distances say nothing of what was rounding before."""
    made, record = small_steps("dgd")
    (bound,) = (b for b in theorems.bounds_of(made) if b.name == "disagreement")
    for away in (1e12, np.inf):
        grown = record.copy(deep=True)
        grown["displacement"][19:] = away
        grown["consensus_distance"][19:] = away
        grown["consensus_distance"][12] = 1e5
        grown["displacement"][12] = 2e5
        verdict = bound.check(grown)
        assert verdict.state == "violated" and verdict.violated_at == 12
    verdict = bound.check(lost(lost(record, "displacement", [19]), "consensus_distance", [19]))
    assert verdict.state == "diverged" and verdict.diverged_at == 19


STARTS = [
    *itertools.product((0.5, 50.0), ("anywhere", "at the minimiser", "solved", "nearly there"))
]
QUICK = {(50.0, "anywhere"), (0.5, "solved")}


@pytest.mark.filterwarnings("ignore:predict. errors that grow")
@pytest.mark.parametrize("share, start", quick_if(STARTS, lambda *case: case in QUICK))
def test_nothing_is_violated_by_overflow_or_rounding(share, start):
    """All is averaged, so that nothing keeps errors from growing; K is of rank two."""
    one = drawn(next(s for s in range(50) if drawn(s).features.shape[1] == 2))
    off = one.targets - one.features @ np.linalg.lstsq(one.features, one.targets, rcond=None)[0]
    y = {"anywhere": one.targets, "solved": 0 * off}.get(start, off)
    y = y + 1e-6 * one.features[:, :1] * (start == "nearly there")
    W = np.full((AGENTS, AGENTS), 1 / AGENTS)
    problem = nd.KernelProblem(one.problem.kernel().whole, y, one.owner)
    by = method("atc", share * 2 / constants.problem_constants(problem).smoothness)
    found = theorems.bounds_of(theorems.case(problem, by, W))
    record = predicted(one._replace(problem=problem, weights=W), by, rounds=300)
    verdicts = [bound.check(record) for bound in found]
    assert "violated" not in {verdict.state for verdict in verdicts}
    bounds.demand(verdicts)
    states = {verdict.bound.name: verdict.state for verdict in verdicts}
    assert states["centralized"] == ("diverged" if share > 1 and start != "solved" else "holds")
    assert verdicts[0].bound.case.constants.start_excess >= 0


def test_a_promise_of_nothing_can_be_broken():
    made, record = small_steps("dgd")
    (bound,) = (b for b in theorems.bounds_of(made) if b.name == "descent")
    nothing = dataclasses.replace(bound, at=np.zeros_like)
    with pytest.raises(bounds.BoundViolated, match="in round 0, by a factor inf"):
        bounds.demand([nothing.check(record)])


@pytest.mark.parametrize("by", ["dgd", "extra"])
def test_means_over_rounds_need_every_round(by):
    """A sum over some rounds is no mean over all, and none is shown behind a gap."""
    made, record = small_steps(by)
    known = {r.predicted.bound.name: r for r in table.rows(made, record, record)}
    skipping = small_steps(by, every=4)[1]
    means = {"dgd": {"D-SGD, convex", "D-SGD, non-convex"}, "extra": {"EXTRA, rate"}}[by]
    for row in table.rows(made, skipping, skipping):
        verdict, name = row.predicted, row.predicted.bound.name
        assert known[name].predicted.state != "not computed"
        if name not in means:
            assert verdict.state == known[name].predicted.state
            continue
        assert verdict.state == row.observed.state == "not computed"
        *_, exact, observed, said = table.cells(row)
        assert exact == observed == ""
        assert said.startswith("not computed: needs the first rounds without a gap (record_every")
    begun = record.isel(round=[*range(7), 10, 20])
    for row in table.rows(made, begun, begun):
        verdict, whole = row.predicted, known[row.predicted.bound.name].predicted
        if verdict.bound.name in means:
            assert verdict.state == whole.state and (verdict.told[1:7] == whole.told[1:7]).all()
            assert np.array_equal(verdict.seen[:7], whole.seen[:7]) and not verdict.told[7:].any()


def test_tables_match_rounds_by_their_number():
    made, record = small_steps("dgd")
    for other, said in (
        (record.isel(round=slice(11)), "21 rounds from 0 to 20, the observed one 11 rounds from 0"),
        (record.isel(round=slice(1, None)), "the observed one 20 rounds from 1 to 20"),
    ):
        with pytest.raises(nd.InputError, match=f"must hold the same rounds.*{said}"):
            table.rows(made, record, other)


def test_theorems_are_found_by_what_the_update_is():
    """Whatever it is called, derived from or wrapped in."""
    one = drawn(0)
    W = graphs.lazy(graphs.metropolis(graphs.ring(AGENTS)))

    class Twice(updates.DGD):
        def step(self, state, grad, mix):
            return updates.Iterate(mix(mix(state.x)) - self.step_size * grad(state.x))

    class Renamed(updates.DGD):
        pass

    class Distracted(objectives.Local):
        def gradient(self, setting, batch):
            return lambda x, state=None, round=None: x

    def names(by, weights=W):
        return [b.name for b in theorems.bounds_of(theorems.case(one.problem, by, weights))]

    made = lambda update, objective=objectives.Local(): nd.methods.Method(
        "dgd", update, mixing.Fixed(), objective
    )
    dgd, extra, atc = (method(name, 0.1) for name in ("dgd", "extra", "atc"))
    assert names(made(updates.EXTRA(0.1))) == names(extra) != names(dgd)
    assert names(made(updates.DGD(0.1))) == names(made(Renamed(0.1))) == names(dgd)
    assert names(made(Twice(0.1))) == ["averaging"]
    assert names(made(updates.DGD(0.1), Distracted())) == ["averaging"]
    assert names(nd.methods.damped(atc, 0.5)) == names(nd.methods.periodic(atc, 1)) == names(atc)
    assert names(method("nids", 0.1)) == names(method("d2", 0.1))
    half = theorems.case(one.problem, nd.methods.damped(dgd, 0.25), W)
    lazier = theorems.case(one.problem, dgd, graphs.mixing(0.75 * np.eye(AGENTS) + W.matrix / 4))
    for by_rate, by_weights in zip(
        theorems.bounds_of(half), theorems.bounds_of(lazier), strict=True
    ):
        t = np.array([1.0, 7.0, 50.0])
        assert np.allclose(by_rate.at(t), by_weights.at(t), rtol=1e-12, equal_nan=True)

    class ByItself(mixing.BaseMixing):
        def bind(self, weights, round=0, scene=None):
            return lambda x: x

    own = nd.methods.Method("mine", updates.DGD(0.1), ByItself(), objectives.Local())
    with pytest.raises(nd.InputError, match="mine combines by a rule of its own, ByItself"):
        theorems.case(one.problem, own, W)
    with pytest.raises(nd.InputError, match="those of periodic"):
        theorems.case(one.problem, nd.methods.periodic(atc, 5), W)
    record = predicted(one._replace(weights=W), made(updates.EXTRA(0.1)), rounds=2)
    with pytest.raises(nd.InputError, match="the record has settings .*EXTRA.*for .*DGD"):
        theorems.bounds_of(theorems.case(one.problem, dgd, W))[0].check(record)


def test_a_factor_of_one_promises_nothing_and_others_are_speeds():
    one = drawn(next(s for s in range(50) if drawn(s).features.shape[1] == 20))
    W = graphs.lazy(graphs.metropolis(graphs.ring(AGENTS)))
    by = method("atc", one.step_size)
    case = theorems.case(one.problem, by, W)
    assert case.constants.convexity == 0
    (row,) = (
        r
        for r in table.rows(case, predicted(one._replace(weights=W), by, rounds=2))
        if r.predicted.bound.name == "linear rate"
    )
    assert row.predicted.state == "promises nothing"
    assert table.cells(row)[-1] == "promises nothing here: a factor of 1"
    kept = table.record(case, [row])
    assert kept["factor"].item() == 1 and kept["state"].item() == "promises nothing"
    promise = row.predicted.bound
    shown = lambda seen, told: dataclasses.replace(
        promise, at=lambda t: np.full_like(t, told), observe=lambda r: bounds.Observation(
            np.full(len(r["round"]), seen)
        ),
    ).check(predicted(one._replace(weights=W), by, rounds=2))  # fmt: skip
    assert np.isclose(shown(0.99**3, 0.99).tightness, 3) and shown(0.5, 0.6).state == "holds"
    broken = shown(0.999, 0.99)
    assert broken.state == "violated" and np.isclose(broken.tightness, np.log(0.999) / np.log(0.99))
    with pytest.raises(bounds.BoundViolated, match="by a factor 1.00909"):
        bounds.demand([broken])
    assert shown(1.1, 1.0).state == "violated"


def test_what_piles_up_where_no_training_reaches_is_of_coefficients():
    """Two points of one agent with one feature: what is left of the residual grows in c alone."""
    features = np.array([[1.0], [1.0], [2.0]])
    problem = nd.KernelProblem(features @ features.T, np.array([[1.0], [3.0], [0.0]]), [0, 0, 1])
    W = graphs.metropolis(graphs.path(2))
    case = theorems.case(problem, method("dgd", 0.1), W)
    record = nd.predict(problem, case.method, W, [0, 10, 20])
    noise = bounds._unreached(case, record)
    assert noise[0] == 0 < noise[1] and np.isclose(noise[2], 2 * noise[1])
    assert not bounds._unreached(case, record.assign_attrs(space="network")).any()


def test_the_mean_is_kept_where_columns_sum_to_one():
    problem = nd.KernelProblem(np.diag([1.0, 4.0]), np.ones((2, 1)), [0, 1])
    case = theorems.case(problem, method("dgd", 0.1), [[0.5, 0.5], [0.25, 0.75]])
    asked = bounds.doubly_stochastic(case)
    assert (asked.holds, asked.found) == (False, "columns are off one by 0.25")


def test_a_rate_is_promised_beyond_the_range_of_its_slow_branch():
    problem = nd.KernelProblem(np.ones((2, 2)), np.ones((2, 1)), [0, 1])
    W = np.array([[0.6, 0.4], [0.4, 0.6]])
    case = theorems.case(problem, method("diging", 2.0), W)
    fast = np.sqrt(2 / 1.5 * 3 * (1 + 4 * np.sqrt(2))) + 0.2
    assert np.isclose(linear.diging_rate(case).at(np.ones(1))[0], fast)


def test_guaranteed_steps_are_those_of_the_method():
    problem = nd.KernelProblem(np.diag([1.0, 4.0]), np.ones((2, 1)), [0, 1])
    W = graphs.lazy(graphs.metropolis(graphs.path(2)))
    asked = {
        "dgd": ("(1 + lambda_min(W)) / L", ["symmetric W"]),
        "atc": ("2 / L", ["doubly stochastic W"]),
        "cta": ("2 / L", ["doubly stochastic W"]),
        "d2": ("2 / L", ["symmetric W", "W >= 0"]),
        "diging": ("sup(rho(G) < 1)", ["doubly stochastic W", "beta < 1"]),
    }
    for by, wanted in asked.items():
        case = theorems.case(problem, method(by, 0.1), W)
        limit, formula, needs = linear.guaranteed_step(case)
        assert (formula, [each.name for each in needs]) == wanted
        assert limit > 0 and (by in ("dgd", "diging") or np.isclose(limit, 2 / 4))
