"""The explorables: their numbers are Python's, nothing is fetched, and they answer at once."""

import contextlib

import jax.numpy as jnp
import numpy as np
import pytest
from browser import least_answer
from cases import quick_if
from ntkdyn.figures import interactive

import ntkdyn as nd
from ntkdyn import records

NAMES = [module.__name__.rsplit(".")[-1] for module in interactive.PAGES]
CLOSE = {"rtol": 1e-6, "atol": 1e-6}


def circle_problem(agents, heterogeneity):
    """The task of the pages on DGD and on methods, written once more in NumPy."""
    owner = np.repeat(np.arange(agents), 4)
    a = np.arange(4 * agents)
    arc = (owner + (a % 4 + 0.5) / 4) / agents
    spread = a * (np.sqrt(5) - 1) / 2 % 1
    u = 2 * np.pi * ((1 - heterogeneity) * spread + heterogeneity * arc)
    features = np.stack(
        [
            np.ones_like(u),
            np.cos(u) / 2**0.5,
            np.sin(u) / 2**0.5,
            np.cos(2 * u) / 2,
            np.sin(2 * u) / 2,
        ]
    ).T
    targets = np.sin(u) + 0.5 * np.cos(2 * u) + 0.3 * np.cos(5 * u)
    return features, targets + 0.5 * heterogeneity * np.sin(2.4 * (owner + 1)), owner


def topology(name, agents):
    return nd.graphs.metropolis(nd.graphs.TOPOLOGIES[name](agents))


@pytest.mark.parametrize(
    "agents, graph, step, heterogeneity, rounds",
    quick_if(
        [(8, "ring", -1.0, 0.5, 100), (11, "star", -0.5, 1.0, 40),
         (16, "exponential", 0.3, 0.0, 20),
         (4, "path", -2.0, 0.25, 400), (6, "complete", -0.3, 0.9, 60)],
        lambda agents, *_: agents in (8, 11, 4),
    ),
)  # fmt: skip
def test_dgd_page_computes_what_predict_computes(read, agents, graph, step, heterogeneity, rounds):
    page = read("dgd_on_a_graph")
    page.set(agents=agents, topology=graph, step=step, heterogeneity=heterogeneity, rounds=rounds)
    features, targets, owner = circle_problem(agents, heterogeneity)
    problem = nd.KernelProblem(features @ features.T, targets[:, None], owner)
    W, method = topology(graph, agents), nd.methods.dgd(step_size=10**step)
    times = [int(time) for time in page.ask("explorable.result.times")]
    record = nd.predict(problem, method, W, times)
    np.testing.assert_allclose(page.ask("explorable.result.seen"), record["global_loss"], **CLOSE)
    limit = nd.step_size_limit(problem, method, W)
    assert page.readout("limit") == pytest.approx(limit, rel=1e-6)
    assert page.readout("gap") == pytest.approx(W.spectral_gap, abs=1e-6)
    curvature = [f.T @ f / 4 for f in np.split(features, agents)]
    round_of_dgd = np.kron(np.asarray(W), np.eye(5))
    for i, block in enumerate(curvature):
        round_of_dgd[5 * i : 5 * i + 5, 5 * i : 5 * i + 5] -= 10**step * block
    spectrum = np.linalg.eigvalsh(round_of_dgd)
    np.testing.assert_allclose(page.ask("explorable.models.values.data.y"), spectrum, **CLOSE)
    unstable = 10**step > limit
    status = page.page.inner_text("#status")
    assert status.startswith("Unstable" if unstable else "Stable")
    assert unstable == (spectrum[0] < -1)


def plain_rollout(name, grad, mix, eta, start, rounds):
    """The six methods as papers write them, on a matrix of agents' iterates."""
    x, seen, memory = start, [start], None
    for _ in range(rounds):
        g = grad(x)
        if name == "dgd":
            x = mix(x) - eta * g
        elif name == "cta":
            x = mix(x) - eta * grad(mix(x))
        elif name == "atc":
            x = mix(x - eta * g)
        elif name == "diging":
            y = g if memory is None else mix(memory[1]) + g - memory[0]
            x, memory = mix(x) - eta * y, (g, y)
        elif name == "extra":
            if memory is None:
                x, memory = mix(x) - eta * g, (x, g)
            else:
                before, old = memory
                x, memory = x + mix(x) - (before + mix(before)) / 2 - eta * (g - old), (x, g)
        elif name == "exact_diffusion":
            psi = x - eta * g
            phi = psi + x - (x if memory is None else memory)
            x, memory = (phi + mix(phi)) / 2, psi
        seen.append(x)
    return np.array(seen)


@pytest.mark.parametrize("step, graph", [(-1.0, "ring"), (-0.4, "star")])
def test_methods_page_computes_what_the_papers_write(read, step, graph):
    agents, rounds, heterogeneity = 6, 140, 0.7
    page = read("methods_side_by_side")
    page.set(agents=agents, topology=graph, step=step, heterogeneity=heterogeneity, rounds=rounds)
    features, targets, owner = circle_problem(agents, heterogeneity)
    H = np.stack([features[owner == i].T @ features[owner == i] / 4 for i in range(agents)])
    b = np.stack([features[owner == i].T @ targets[owner == i] / 4 for i in range(agents)])
    best = np.linalg.solve(H.sum(0), b.sum(0))
    W = np.asarray(topology(graph, agents))
    names = page.ask("Object.keys(dynamics.METHODS)")
    assert set(names) >= {"dgd", "cta", "atc", "diging", "extra", "exact_diffusion"}
    for name in names:
        x = plain_rollout(
            name, lambda x: np.einsum("ikl,il->ik", H, x) - b, lambda x: W @ x, 10**step,
            np.zeros((agents, 5)), rounds,
        )  # fmt: skip
        far = np.sqrt(((x - best) ** 2).sum(-1).mean(1)) / np.linalg.norm(best)
        apart = x - x.mean(1, keepdims=True)
        spread = np.sqrt((apart**2).sum(-1).mean(1)) / np.linalg.norm(best)
        np.testing.assert_allclose(page.ask(f"explorable.result.runs.{name}.far"), far, **CLOSE)
        np.testing.assert_allclose(
            page.ask(f"explorable.result.runs.{name}.apart"), spread, **CLOSE
        )
    grown = "Unstable" in page.page.inner_text("#status")
    assert grown == (max(page.ask(f"explorable.result.runs.{n}.far.at(-1)") for n in names) > 3)


@pytest.mark.parametrize("name", ["dgd", "cta", "atc", "diging", "extra", "exact_diffusion"])
def test_methods_page_agrees_with_predict(read, name):
    """Every method of the page, on what both can measure: outputs at the points."""
    page = read("methods_side_by_side")
    assert name in page.ask("Object.keys(dynamics.METHODS)")
    features, targets, owner = circle_problem(8, 0.7)
    problem = nd.KernelProblem(features @ features.T, targets[:, None], owner)
    method = nd.methods.METHODS[name](step_size=0.1)
    known = nd.dynamics.Stability(method, True, None)
    record = nd.predict(problem, method, topology("ring", 8), [0, 30], stability=known)
    theirs = page.ask(
        f"""(() => {{ const p = circle.problem(8, 0.7);
            const W = dynamics.metropolis(dynamics.GRAPHS.ring(8), 8); let last;
            dynamics.rollout("{name}", dynamics.runOn(p, W, 0.1, 30), (_, x) => last = x);
            return dynamics.commonLoss(p, last); }})()"""
    )
    np.testing.assert_allclose(theirs, record["global_loss"][-1], **CLOSE)


@pytest.mark.parametrize("step, rounds, decay, w", [(1.9, 10, 1, 1), (2.5, 30, 0.5, -0.2)])
def test_flow_page_computes_powers_and_exponentials(read, step, rounds, decay, w):
    page = read("flow_and_steps")
    page.set(step=step, rounds=rounds, decay=decay, w=w)
    s = step * np.arange(1, 13.0) ** -decay
    np.testing.assert_allclose(
        page.ask("explorable.models.left.data.y"), np.abs(w - s) ** rounds, rtol=1e-6, atol=1e-290
    )
    assert page.readout("steps") == pytest.approx((w - step) ** rounds, rel=1e-6)
    assert page.readout("flow") == pytest.approx(np.exp(-rounds * (1 - w + step)), rel=1e-6)
    assert ("Unstable" in page.page.inner_text("#status")) == (np.abs(w - s).max() > 1)


@pytest.mark.parametrize("width, start, step", [(0, 0, "1"), (3, 2, "0"), (6, 1, "1")])
def test_width_page_predicts_as_predict_does(read, width, start, step):
    page = read("width")
    page.set(width=width, start=start, step=step)
    record = records.read(interactive.page.HERE / "widths.nc")
    chosen = record.isel(width=width, start=start, step=int(step))
    y, f0 = (chosen[name].values.reshape(-1, 2) for name in ("targets", "initial"))
    problem = nd.KernelProblem(chosen["kernel"].values, y, chosen["owner"].values, f0)
    method = nd.methods.dgd(step_size=float(chosen["step_size"]))
    rounds = chosen["round"].values.tolist()
    predicted = nd.predict(problem, method, chosen["mixing"].values, rounds)
    losses = np.array(page.ask("explorable.result.losses"))[rounds]
    np.testing.assert_allclose(losses, predicted["train_loss"], rtol=1e-6, atol=1e-9)
    assert page.readout("gap") == pytest.approx(100 * float(chosen["gap"]), rel=1e-3)
    assert page.readout("drift") == pytest.approx(100 * float(chosen["kernel_drift"][-1]), rel=1e-6)
    gaps = record["gap"].isel(start=start, step=int(step))
    slope = np.polyfit(np.log(record["width"]), np.log(gaps), 1)[0]
    assert page.readout("slope") == pytest.approx(slope, abs=1e-3)
    assert slope < -0.5


@pytest.mark.parametrize("s, w", [(0.3, 0.8), (1.7, 0.4), (0.2, 1.0), (2.4, -0.9)])
def test_mode_page_shows_the_recursion_of_the_method(read, s, w):
    page = read("one_mode")
    page.set(s=s, w=w, rounds=30)
    for name in page.ask("Object.keys(dynamics.METHODS)"):
        page.set(method=name)
        x = plain_rollout(name, lambda x: s * x, lambda x: w * x, 1.0, np.ones(1), 30)[:, 0]
        np.testing.assert_allclose(page.ask("explorable.result.errors"), x, rtol=1e-6, atol=1e-9)
        a, b = page.readout("a"), page.readout("b")
        np.testing.assert_allclose(x[2:], a * x[1:-1] - b * x[:-2], rtol=1e-6, atol=1e-9)
        radius = np.abs(np.linalg.eigvals([[a, -b], [1, 0]])).max()
        assert page.readout("radius") == pytest.approx(radius, abs=1e-6)
        assert ("Unstable" in page.page.inner_text("#status")) == (radius > 1 + 1e-9)


def tanh_problem(start, width):
    """The task and network of the page on linearizing anew, from the page's start."""
    u = 2 * np.pi * (np.arange(12) + 0.5) / 12
    inputs = np.stack([np.cos(u), np.sin(u)], axis=1).astype(np.float32)
    targets = (np.sin(u) + 0.5 * np.cos(2 * u)).astype(np.float32)[:, None]
    none = np.empty((0, 2), np.float32), np.empty((0, 1), np.float32)
    data = nd.data.Dataset("circle", inputs, targets, *none, None, "none")
    partition = nd.data.Partition(data, np.repeat(np.arange(6), 2), 6, "given")
    w, v, b, readout = np.split(np.array(start, np.float32), 4)
    parameters = {"w": np.stack([w, v]), "b": b, "readout": readout}

    def apply(p, x):
        return (jnp.tanh(x @ p["w"] + p["b"][None]) @ p["readout"] / width**0.5)[:, None]

    return nd.Problem(nd.networks.wrap(apply, lambda key, _: parameters, 1), partition)


def its_names(method):
    """What explanations are called in the page, by what `nulls` calls them."""
    other = "atc" if method == "dgd" else "dgd"
    return {
        "linear around the start": "start", "step size 10 % smaller": "smaller",
        "step size 10 % larger": "larger", f"{other} in its place": "method",
        "agents permuted": "permuted", "complete graph": "complete",
        "another agent's curve": "neighbour", "nothing moves": "nothing",
    }  # fmt: skip


ARRAYS = "(rounds) => rounds.map((agents) => agents.map((outputs) => [...outputs]))"


def run_as_the_page_does(page, **settings):
    """What the page computes of these settings; observed and predicted by the package."""
    page.set(**settings)
    run = page.ask("(({ method, step, start, width }) => ({ method, step, start, width }))"
                   "(explorable.result.run)")  # fmt: skip
    start = page.ask(f"[...network.start({run['width']}, {run['start']})]")
    problem = tanh_problem(start, run["width"])
    W, method = page.ask("explorable.result.run.W"), nd.methods.METHODS[run["method"]]
    asked = problem, method(step_size=run["step"]), np.array(W)
    times, anchors = (
        [int(each) for each in page.ask(f"explorable.result.{name}")]
        for name in ("times", "anchors")
    )
    assert anchors[0] == 0 and times[-1] == settings["rounds"]
    observed = nd.train(*asked, times, precision="float64")
    return asked, observed, nd.predict(*asked, times, anchors=anchors), anchors


def close(mine, theirs):
    """Equal to 1e-6; what JSON has no number for is NaN."""
    np.testing.assert_allclose(np.array(mine, dtype=float), theirs, **CLOSE)


def plainly(start, width, W, step, method, anchors, rounds):
    """Outputs (round, agent, point) of agents whose networks are linear around their mean.

    In parameters, with the Jacobian written out. Without anchors they are trained: linear around
    every agent in every round.
    """
    u = 2 * np.pi * (np.arange(12) + 0.5) / 12
    x = np.float32(np.stack([np.cos(u), np.sin(u), np.ones(12)], axis=1)).astype(float)
    y = np.float32(np.sin(u) + 0.5 * np.cos(2 * u))

    def linear(a):
        hidden, readout = np.tanh(x @ a[:-width].reshape(3, -1)), a[-width:]
        bent = x[:, :, None] * (readout * (1 - hidden**2))[:, None]
        J = np.concatenate([bent.reshape(12, -1), hidden], axis=1) / width**0.5
        return lambda theta: hidden @ readout / width**0.5 + J @ (theta - a), J

    theta, seen = np.tile(np.array(start), (6, 1)), []
    for t in range(rounds + 1):
        if anchors is None:
            models = [linear(own) for own in theta]
        elif t in anchors:
            models = [linear(theta.mean(axis=0))] * 6
        seen.append([f(own) for (f, _), own in zip(models, theta, strict=True)])
        missed = np.where(np.arange(12) // 2 == np.arange(6)[:, None], seen[-1] - y, 0) / 2
        g = np.array([own @ J for (_, J), own in zip(models, missed, strict=True)])
        theta = W @ (theta - step * g) if method == "atc" else W @ theta - step * g
    return np.array(seen)


@pytest.mark.parametrize("kernels, method, graph", [(5, "dgd", "star"), (2, "atc", "ring")])
def test_anew_page_trains_and_is_linear_around_the_mean_agent(read, kernels, method, graph):
    page = read("linearized_anew")
    page.set(kernels=kernels, method=method, topology=graph, width=3, rounds=60, start=1)
    anchors = [int(each) for each in page.ask("explorable.result.anchors")]
    assert anchors[0] == 0 and len(anchors) == kernels
    start, W = page.ask("[...network.start(8, 1)]"), np.asarray(topology(graph, 6))
    for name, rounds in {
        "explained.prediction": anchors,
        "explained.start": [0],
        "observed": None,
    }.items():
        truth = plainly(start, 8, W, 10**-0.7, method, rounds, 60)
        close(page.ask(f"({ARRAYS})(explorable.result.{name})"), truth[::3])


@pytest.mark.slow
@pytest.mark.parametrize("kernels, method", [(3, "dgd"), (1, "atc")])
def test_anew_page_trains_and_predicts_as_the_package_does(read, kernels, method):
    page = read("linearized_anew")
    settings = {"kernels": kernels, "method": method, "topology": "star", "width": 3, "rounds": 40}
    (_, _, W), observed, predicted, anchors = run_as_the_page_does(page, **settings)
    np.testing.assert_allclose(W, topology("star", 6), rtol=1e-12)
    assert len(anchors) == kernels
    compared = nd.compare(predicted, observed)
    for mine, theirs in (("observed", observed), ("explained.prediction", predicted)):
        close(page.ask(f"({ARRAYS})(explorable.result.{mine})"), theirs["outputs"].values[..., 0])
    for name in ("observed", "predicted"):
        close(page.ask(f"explorable.result.differing.{name}"), compared[f"{name}_deviation"])
    for mine, theirs in (("common", "common_gap"), ("deviation", "deviation_gap_of_all")):
        close(page.ask(f"explorable.result.right.map((r) => r.{mine})"), compared[theirs])
    assert page.readout("share") == pytest.approx(100 * compared.attrs["final_gap"], rel=1e-5)
    assert page.readout("loss") == pytest.approx(float(observed["train_loss"][-1].mean()), rel=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize(
    "kernels, width, step, graph, method, start, rounds",
    [(6, 4, -0.7, "path", "dgd", 0, 200), (4, 5, -0.4, "star", "atc", 1, 60),
     (12, 3, -1.0, "complete", "dgd", 2, 40), (1, 4, -0.7, "ring", "dgd", 0, 200)],
)  # fmt: skip
def test_anew_page_judges_as_the_package_does(
    read, kernels, width, step, graph, method, start, rounds
):
    page = read("linearized_anew")
    settings = {"kernels": kernels, "width": width, "step": step, "topology": graph}
    settings |= {"method": method, "start": start, "rounds": rounds}
    asked, observed, predicted, anchors = run_as_the_page_does(page, **settings)
    wrong = nd.validation.nulls(*asked, observed, anchors=anchors)
    compared = nd.compare(predicted, observed, wrong)
    called, final = its_names(method), page.ask("explorable.result.final")
    last = compared.isel(round=-1)
    names = last["explanation"].values
    assert {called[name] for name in names} | {"prediction"} == set(final)
    for name in names:
        shown, null = final[called[name]], last.sel(explanation=name)
        close(shown["deviation"], null["null_deviation_gap_of_all"])
        close(shown["common"], null["null_common_gap"])
        close(shown["gap"], null["null_gap"])
    check_verdict(page, compared, called)


def check_verdict(page, compared, called):
    """The page says what `compare` says: the gaps, and what is not told from the prediction."""
    said, verdict = page.page.inner_text("#status"), compared.attrs["verdict"]
    assert ("Cannot tell" in said) == verdict.startswith("cannot tell")
    assert page.ask("explorable.result.nearest") == called[compared.attrs["nearest_null"]]
    words = page.ask("explorable.data.names")
    alike = verdict.partition("not told from it")[2]
    for name, shown in called.items():
        if name not in ("linear around the start", "another agent's curve"):
            assert (name in alike) == (words[shown] in said.partition("Not told from it")[2])
    right = float(compared.attrs["deviation_gap"])
    assert page.readout("deviation") == pytest.approx(100 * right, rel=1e-5)


@pytest.mark.parametrize(
    "agents, graph, method, step, points, unequal, noise",
    quick_if(
        [(4, "path", "dgd", -0.3, 1.5, 0.5, 1.0), (3, "star", "atc", -0.1, 1.2, 1.0, 0.5),
         (6, "ring", "dgd", -0.6, 0.8, 0.2, 0.0), (2, "none", "atc", -0.5, 2.4, 0.0, 2.0),
         (5, "complete", "dgd", -0.42, 2.0, 0.7, 0.3), (4, "path", "dgd", -0.1, 2.7, 0.5, 1.0)],
        lambda agents, *_: agents in (3, 4),
    ),
)  # fmt: skip
def test_curves_page_computes_what_learning_curve_does(
    read, agents, graph, method, step, points, unequal, noise
):
    page = read("learning_curves")
    page.set(agents=agents, topology=graph, method=method, step=step, points=points)
    page.set(unequal=unequal, noise=noise)
    place = 2 * np.arange(agents) / (agents - 1) - 1
    counts = np.maximum(1, np.floor(10**points * 4 ** (unequal * place) + 0.5)).astype(int)
    close(page.ask("explorable.result.counts"), counts)
    W = nd.graphs.isolated(agents) if graph == "none" else topology(graph, agents)
    octave = np.repeat(np.arange(10), np.ceil(2 ** (0.75 * np.arange(10))).astype(int))
    power = 2 ** (-octave / 2) / np.bincount(octave)[octave]
    target = np.sqrt(2 * power / power.sum())
    given = 2.0**-octave, target, nd.methods.METHODS[method](step_size=10**step), W, counts
    times = [int(t) for t in page.ask("explorable.result.times")]
    curve = nd.theory.learning_curve(*given, times, noise=noise, tail=0.0)
    close(page.ask("explorable.result.total"), curve.test_loss)
    last = curve.isel(round=-1).mean("agent")
    for mine, theirs in (("bias", "bias"), ("sampling", "sampling"), ("noise", "label_noise")):
        assert page.readout(mine) == pytest.approx(float(last[theirs]), rel=1e-5, abs=1e-7)
    assert page.page.inner_text("#status").startswith("Stable")


@pytest.mark.parametrize("step, stable", [(-0.26, True), (-0.12, False)])
def test_curves_page_has_no_curve_where_the_package_refuses(read, step, stable):
    page = read("learning_curves")
    page.set(topology="complete", step=step)
    assert page.page.inner_text("#status").startswith("Stable" if stable else "Unstable")
    counts = [int(each) for each in page.ask("explorable.result.counts")]
    octave = np.repeat(np.arange(10), np.ceil(2 ** (0.75 * np.arange(10))).astype(int))
    given = 2.0**-octave, 2.0**-octave, nd.methods.dgd(step_size=10**step)
    refused = pytest.raises(nd.InputError, match="not stable")
    with contextlib.nullcontext() if stable else refused:
        nd.theory.learning_curve(*given, topology("complete", 4), counts, [100], tail=0.0)


def test_curves_page_answers_its_own_exercises(read):
    page = read("learning_curves")
    answers = [each.answer for each in interactive.learning_curves.page().exercises]
    assert page.readout("best") == answers[0]
    linked = page.readout("noise")
    page.set(topology="none")
    assert page.readout("noise") / linked == pytest.approx(answers[1], abs=0.06)
    page.set(topology="path", noise=0)
    assert (page.readout("best") == 100) == (answers[2] == "no")


def test_anew_page_says_where_there_is_nothing_to_tell(read):
    page = read("linearized_anew")
    page.set(topology="complete", method="atc")
    assert page.page.inner_text("#status").startswith("Cannot tell: agents differ by less")
    assert page.ask("explorable.models.deviations.data.y") == []
    assert len(page.ask("explorable.models.shares.data.y")) == 7


def test_anew_page_answers_its_own_exercises(read):
    page = read("linearized_anew")
    page.set(topology="ring")
    wrong, right = (
        page.ask(f"explorable.result.final.{name}.deviation") for name in ("complete", "prediction")
    )
    assert round(wrong / right) == 10
    page.set(kernels=1)
    assert page.page.inner_text("#status").startswith("Cannot tell the prediction")
    page.set(kernels=2)
    assert page.page.inner_text("#status").startswith("The prediction misses")


@pytest.mark.parametrize("name", NAMES)
def test_keyboard_moves_a_slider_and_the_page_answers_within_50_ms(read, name):
    page = read(name)
    if "agents" in page.ask("explorable.settings()"):
        page.set(agents=12)
    slider = page.page.locator("input[type=range]").first
    control = slider.get_attribute("name")
    before = page.ask("explorable.settings()")[control]
    shown = page.page.inner_text(f"output[for=control-{control}]")
    slider.focus()
    taken = least_answer(page)
    page.page.keyboard.press("ArrowRight")
    page.page.wait_for_timeout(200)
    assert page.ask("explorable.settings()")[control] > before
    assert page.page.inner_text(f"output[for=control-{control}]") != shown
    assert 1 < taken < 50


def test_dragging_a_slider_changes_the_curves(read):
    page = read("dgd_on_a_graph")
    before = page.ask("explorable.models.curves.data.y[0]")
    box = page.page.locator("#control-step").bounding_box()
    middle = box["y"] + box["height"] / 2
    page.page.mouse.move(box["x"] + 0.3 * box["width"], middle)
    page.page.mouse.down()
    page.page.mouse.move(box["x"] + 0.95 * box["width"], middle, steps=5)
    page.page.mouse.up()
    page.page.wait_for_timeout(100)
    after = page.ask("explorable.models.curves.data.y[0]")
    assert "Unstable" in page.page.inner_text("#status")
    assert after[-1] > 1e3 * before[-1]


EXTREMES = {
    "dgd_on_a_graph": {"agents": 16, "step": 0.3, "heterogeneity": 1, "rounds": 400},
    "flow_and_steps": {"step": 3, "rounds": 200, "w": -0.5},
    "methods_side_by_side": {"step": 0.3, "rounds": 500, "heterogeneity": 1},
    "one_mode": {"s": 3, "w": -1, "rounds": 200},
    "linearized_anew": {"step": 0, "width": 8, "kernels": 12},
}


@pytest.mark.parametrize("name", EXTREMES)
def test_unstable_extremes_grow_on_a_log_axis_and_say_so(read, name):
    page = read(name)
    page.set(**EXTREMES[name])
    assert page.page.inner_text("#status").startswith("Unstable")
    plot = {
        "flow_and_steps": "loss", "methods_side_by_side": "distance", "one_mode": "error",
        "linearized_anew": "gaps",
    }.get(name, "errors")  # fmt: skip
    start, end = page.ask(f"[explorable.models.{plot}_y.start, explorable.models.{plot}_y.end]")
    assert 0 < start < end < 1e301 and end > 1e6
    assert page.page.evaluate(f"explorable.models.{plot}.left[0].type") == "LogAxis"
    drawn = page.ask(
        "Object.values(explorable.models).filter((m) => m.data && m.data.y).flatMap((m) => "
        "m.data.y).flat()"
    )
    assert all(value is not None for value in drawn)
    page.set(**dict.fromkeys(list(EXTREMES[name])[:1], 3))


@pytest.mark.parametrize("name", NAMES)
def test_every_exercise_knows_its_answer(read, name):
    page = read(name)
    forms = page.page.locator("form.exercise")
    assert forms.count() == 3
    module = interactive.PAGES[NAMES.index(name)]
    for number, exercise in enumerate(module.page().exercises):
        form = forms.nth(number)

        def answer(given, form=form, exercise=exercise):
            field = form.locator("[name=answer]")
            field.select_option(given) if exercise.options else field.fill(given)
            form.locator("button").click()
            return form.locator(".verdict").inner_text()

        wrong = next((v for v, _ in exercise.options if v != exercise.answer), "-7.5")
        assert answer(wrong).startswith("Not yet")
        assert answer("").startswith("Give an answer")
        assert answer(str(exercise.answer)).startswith("Right")


@pytest.mark.parametrize("name", NAMES)
def test_pages_fit_every_screen_and_have_a_dark_mode(read, pages, name):
    assert (pages / f"{name}.html").stat().st_size < 3_000_000
    reader = read(name)
    paper = "getComputedStyle(document.documentElement).backgroundColor"
    ink = "Object.values(explorable.models).at(-1).left[0].axis_label_text_color"
    colours = lambda: (reader.page.evaluate(paper), reader.page.evaluate(ink))
    light = colours()
    reader.page.emulate_media(color_scheme="dark")
    reader.page.wait_for_function("document.documentElement.dataset.theme === 'dark'")
    assert all(a != b for a, b in zip(light, colours(), strict=True))
    for width in (390, 1440):
        reader.page.set_viewport_size({"width": width, "height": 900})
        fits = f"document.documentElement.scrollWidth <= {width} && " + (
            "[...document.querySelectorAll('.formula')].every(e => e.scrollWidth <= e.clientWidth)"
        )
        reader.page.wait_for_function(fits, timeout=5000)
    reader.page.click("#theme")
    assert reader.page.get_attribute("#theme", "aria-pressed") == "false" and colours() == light
    reader.page.evaluate("localStorage.clear()")
    reader.page.emulate_media(color_scheme="light")


def test_settings_live_in_the_address(read):
    page = read("dgd_on_a_graph")
    page.open("#agents=5&topology=star")
    assert page.ask("explorable.settings().agents") == 5
    assert page.page.input_value("#control-topology") == "star"
    page.set(agents=12)
    assert "agents=12" in page.page.url
    page.reset()
    assert page.ask("explorable.settings().agents") == 8 and "agents" not in page.page.url


def test_eigenvalues_in_the_page_are_lapacks(read):
    page = read("one_mode")
    rng = np.random.default_rng(0)
    for size in (1, 2, 5, 30):
        A = rng.standard_normal((size, size))
        A = A + A.T
        A[0, 1:] = A[1:, 0] = 0
        values = page.ask(f"dynamics.eigenvalues({A.tolist()})")
        np.testing.assert_allclose(values, np.linalg.eigvalsh(A), rtol=1e-9, atol=1e-11)
