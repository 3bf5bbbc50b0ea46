"""Figures are drawn from records, and show what the records hold."""

import shutil
import subprocess

import numpy as np
import pytest
import xarray as xr
from cases import MIXINGS, method

import ntkdyn as nd
from ntkdyn import figures


@pytest.fixture(scope="module")
def runs(small):
    W = MIXINGS["directed_ring"]
    problem, _ = small(8)
    predicted = nd.predict(problem, method("dgd", 0.15), W, 30)
    observed = nd.train(problem, method("dgd", 0.15), W, 30)
    return predicted, observed, nd.compare(predicted, observed)


def test_overlay_draws_every_agents_two_curves(runs, tmp_path):
    predicted, observed, _ = runs
    figure = figures.overlay.draw(*runs)
    panels = {axes.get_title(loc="left"): axes for axes in figure.axes}
    axes = panels["loss on own points"]
    lines = [line for line in axes.lines if line.get_linestyle() == "-"]
    marks = [line for line in axes.lines if line.get_marker() == "o"]
    assert len(lines) == len(marks) == 8
    for agent, (line, mark) in enumerate(zip(lines, marks, strict=True)):
        assert np.allclose(line.get_ydata(), predicted["train_loss"][:, agent])
        rounds = mark.get_xdata()
        assert np.allclose(mark.get_ydata(), observed["train_loss"].sel(round=rounds, agent=agent))
        assert line.get_color() == mark.get_markeredgecolor()
    paths = figures.style.save(figure, tmp_path / "overlay.png", formats=("png", "pdf", "svg"))
    assert [p.suffix for p in paths] == [".png", ".pdf", ".svg"]
    assert all(p.stat().st_size > 10_000 for p in paths)


def test_overlay_shows_what_agents_differ_in_and_wrong_explanations(runs):
    comparison = runs[2]
    figure = figures.overlay.draw(*runs)
    panels = {axes.get_title(loc="left").split("\n")[0]: axes for axes in figure.axes}
    axes = panels["deviation from the mean agent"]
    assert axes.get_title(loc="left").endswith("dashed: another agent's curve")
    solid, marked, dashed = ([], [], [])
    for line in axes.lines:
        kinds = {"-": solid, "--": dashed}
        kinds.get(line.get_linestyle(), marked).append(line.get_ydata())
    assert len(solid) == len(marked) == len(dashed) == 8
    wrong = comparison["null_deviation"].sel(explanation="another agent's curve")
    for agent in range(8):
        np.testing.assert_array_equal(solid[agent], comparison["predicted_deviation"][:, agent])
        np.testing.assert_array_equal(dashed[agent], wrong[:, agent])
    said = [text.get_text() for text in panels["deviation gap at the end"].texts]
    ours = float(comparison["deviation_gap_of_all"][-1])
    assert said[0] == f"the prediction: {100 * ours:.3g} %" and "nothing moves: 100 %" in said
    assert [bar.get_width() for bar in panels["deviation gap at the end"].patches][0] == ours


def test_overlay_of_regression_without_test_points():
    problem = nd.KernelProblem(np.eye(4), np.arange(4.0)[:, None], [0, 1, 2, 3])
    W = nd.graphs.metropolis(nd.graphs.path(4))
    record = nd.predict(problem, method("atc", 0.5), W, 10)
    figure = figures.overlay.draw(record, record, nd.compare(record, record))
    assert "UNSTABLE" not in figure.get_suptitle()


def test_width_figure_fits_the_slopes():
    widths, rng = np.array([64, 256, 1024]), np.random.default_rng(0)
    gap = (widths[:, None] ** -0.5 * rng.uniform(0.99, 1.01, (3, 4)))[None, :, :, None]
    coordinates = {"kernel": ["infinite"], "width": widths, "seed": range(4)}
    sweep = xr.Dataset(
        {"gap": (("kernel", "width", "seed", "agent"), gap)}, coordinates, {"rounds": 9}
    )
    axes = figures.width.draw(sweep).axes[0]
    assert axes.get_legend().get_texts()[0].get_text() == "infinite kernel, slope -0.50"
    assert "9 rounds" in axes.get_title(loc="left")


def test_more_agents_than_named_colours_are_told_apart():
    assert len(set(figures.style.agent_colours(40))) == 40
    assert figures.style.agent_colours(3) == list(figures.style.OKABE_ITO[:3])


def sweep_of_starts(runs):
    loss = runs[0][["train_loss"]]
    return xr.concat([loss * factor for factor in (0.5, 1.0, 2.0)], "start")


ROUNDS = np.arange(0, 50, 5)
GROWING = ROUNDS[:, None] * np.array([1.0, 2.0])

WIDTHS = np.array([64, 256, 1024])
FALLING = WIDTHS[:, None, None] ** -0.5 * np.array([[0.9, 1.0], [1.0, 1.1]])


def swept(**more):
    """Of 3 graphs, 4 steps, 2 shares and 2 seeds; losses fall like 0.9^round, one is refused."""
    axes = {
        "graph.topology": ["ring", "star", "complete"],
        "method.step_size": [0.1, 0.2, 0.4, 0.8],
        "partition.alpha": [0.1, 1.0],
        "seed": [0, 1],
    }
    axes = {name: more.get(name, values) for name, values in axes.items()}
    axes |= {name: values for name, values in more.items() if name not in axes}
    shape, rounds = [len(values) for values in axes.values()], np.array([0, 1, 10, 100, 200])
    size = 1 + np.arange(np.prod(shape)).reshape(shape)[..., None, None]
    loss = size * 0.9 ** rounds[:, None] * [1.0, 1.5]
    dims = (*axes, "round", "agent")
    accuracy = 1 - loss / loss.max() / 2
    accuracy[0, 0, 0, 0] = np.nan
    flat = size[..., 0, 0]
    return xr.Dataset(
        {
            "global_loss": (dims, loss), "train_loss": (dims, loss), "test_loss": (dims, loss),
            "test_accuracy": (dims, accuracy),
            "floats_sent": (dims, rounds[:, None] * size * [1.0, 2.0]),
            "seconds": (dims[:-1], (rounds[:, None] * size)[..., 0]),
            "cost": (dims[:-2], 10.0 * flat), "trained_cost": (dims[:-2], 11.0 * flat**1.1),
            "sharp_cost": (dims[:-2], 12.0 * flat), "cost_to_best": (dims[:-2], 10.0 * flat),
            "best_seen": (dims[:-2], 1 - 1 / flat), "front": (dims[:-2], flat % 7 == 1),
        },
        axes | {"round": rounds, "agent": [0, 1]},
        {"axes": "; ".join(axes), "cost": "floats", "reach": "worst test_accuracy >= 0.9"},
    )  # fmt: skip


SWEPT = ("curves", "heterogeneity", "rates", "steady_error", "heat_map", "pareto", "confirmed")

TABLES = {
    "sweep": xr.Dataset(
        {
            "gap": (("kernel", "width", "seed", "agent"), np.stack([FALLING, 2 * FALLING])),
            "deviation_gap": (
                ("kernel", "width", "seed", "agent"),
                np.stack([3 * FALLING, 4 * FALLING]),
            ),
            "deviation_gap_slope": (("kernel", "estimate"), [[-0.5, -0.7, -0.3]] * 2),
            "kernel_drift": (("width", "seed", "agent"), FALLING),
            "movement": (("width", "seed", "agent"), FALLING**2),
            "gap_slope": (("kernel", "estimate"), [[-0.5, -0.6, -0.4]] * 2),
            "kernel_drift_slope": ("estimate", [-0.5, -0.6, -0.4]),
            "movement_slope": ("estimate", [-1.0, -1.1, -0.9]),
        },
        {
            "kernel": ["empirical", "infinite"],
            "width": WIDTHS,
            "seed": [0, 1],
            "estimate": ["value", "low", "high"],
        },
        {"along": "width"},
    ),
    "accounting": xr.Dataset(
        {
            name: (("round", "agent"), size * GROWING)
            for name, size in {
                "arithmetic": 1e-8,
                "linearization": 1e-4,
                "minibatch_noise": 2e-3,
                "discretization": 1e-3,
                "finite_width": 3e-3,
                "gap": 5e-3,
            }.items()
        },
        {"round": ROUNDS},
    ),
    "kernel_map": xr.Dataset(
        {"kernel": (("point", "other_point"), np.diag([1.0, 2.0, 3.0, 4.0]))},
        {"owner": ("point", [1, 0, 1, 0])},
    ),
    "spectrum": xr.Dataset(
        {
            "eigenvalue_real": ("eigenvalue", [0.5, 0.5, -1.2]),
            "eigenvalue_imag": ("eigenvalue", [0.3, -0.3, 0.0]),
        }
    ),
    "stability_map": xr.Dataset(
        {"rate": (("spectral_gap", "step_size"), [[0.9, 1.2], [0.8, 1.1]])},
        {"spectral_gap": [0.2, 0.8], "step_size": [0.1, 1.0]},
    ),
    "common_minimum": xr.Dataset(
        {
            "distance": (
                ("algorithm", "run", "round"),
                [[[1.0, 0.3], [1.0, 0.31]], [[1.0, 0.01], [1.0, 0.02]]],
            )
        },
        {"algorithm": ["dgd", "extra"], "run": ["predicted", "observed"], "round": [1, 100]},
    ),
    "learning_curve": xr.Dataset(
        {
            "points": ("agent", [20, 400]),
            **{
                name: (("round", "agent"), [[0.5, 0.4], [0.3, 0.2], [0.1, 0.09], [0.1, 0.09]])
                for name in ("test_loss", "bias", "sampling", "label_noise", "graph_cost")
            },
        },
        {"round": [0, 1, 100, np.inf]},
    ),
    "samples": xr.Dataset(
        {"test_loss": (("graph", "points"), [[0.5, 0.4, 0.1], [0.4, 0.3, 0.09]])},
        {"graph": ["path", "complete"], "points": [5, 20, 80]},
        {"round": 30},
    ),
    "stopping": xr.Dataset(
        {
            "test_loss": (("round", "agent"), [[0.5, 0.4], [0.3, 0.2], [0.32, 0.19]]),
            "best_round": ("agent", [10, 100]),
            "best_loss": ("agent", [0.3, 0.19]),
            "points": ("agent", [20, 400]),
        },
        {"round": [0, 10, 100]},
    ),
    "split": xr.Dataset(
        {"points": ("agent", [20, 20, 20]), "best_points": ("agent", [14, 30, 16])},
        attrs={"loss": 0.3, "best_loss": 0.29, "last_round": 30},
    ),
    "profit": xr.Dataset({"effective_agents": ("agent", [1.4, 2.2, 1.5])}),
    "steps": xr.Dataset(
        {
            "mean_test_loss": ("step_size", [0.5, 0.3, 0.4, np.nan]),
            "best_step_size": 0.25,
            "best_loss": 0.29,
        },
        {"step_size": [0.1, 0.2, 0.4, 0.8]},
        {"step_size": 0.2, "last_round": 30},
    ),
    "price": xr.Dataset(
        {"price": (("graph", "round"), [[1.1, 1.3], [2.0, np.nan]])},
        {"graph": ["this graph", "unlinked"], "round": [3, 30]},
    ),
    "claim": xr.Dataset(
        {
            "x": (("problem", "value"), [[1.0, 2.0, 4.0], [16.0, 8.0, 4.0]]),
            "y": (("problem", "value"), [[3.0, 6.1, 12.0], [1.0, 0.5, 0.26]]),
            "law": 1.0,
            "low": 0.99,
            "high": 1.0,
        },
        attrs={"claim": "diffusion", "along": "step size", "verdict": "holds: slope 1"},
    ),
    "study": xr.Dataset(
        {
            "effect": (
                ("claim", "side", "of_seed"),
                [[[1.0, 2.0, 3.0]] * 2, [[np.nan] * 3, [-1.0, 0.0, 4.0]]],
            ),
            "mean": (("claim", "side"), [[2.0, 2.0], [np.nan, 1.0]]),
            "low": (("claim", "side"), [[-0.5, -0.5], [-np.inf, -5.6]]),
            "high": (("claim", "side"), [[4.5, 4.5], [np.inf, 7.6]]),
            "status": (("claim", "side"), [["open", "open"], ["open", "contradicted"]]),
            "bar": ("claim", [0.0, 10.0]),
            "below": ("claim", [0, 1]),
        },
        {
            "claim": ["one is more accurate than the other", "little is lost"],
            "unit": ("claim", ["points", "per cent"]),
            "side": ["predicted", "trained"],
            "of_seed": [0, 1, 2],
        },
    ),
    "bias": xr.Dataset(
        {"bias": (("method", "step_size"), [[0.01, 0.1], [1e-16, 1e-15]])},
        {"method": ["dgd", "extra"], "step_size": [0.1, 1.0]},
    ),
    "bounds": xr.Dataset(
        {
            "promised": (("bound", "round"), [[9.0, 4.0, 6.0], [1.0, 1.0, 1.0], [np.nan] * 3]),
            "seen": (("bound", "round"), [[9.0, 2.0, 1.0], [1.0, 2.0, 1.0], [1.0, 1.0, 1.0]]),
            "state": ("bound", ["holds", "violated", "not computed"]),
        },
        {"bound": ["loose", "wrong", "none"], "round": [0, 1, 2]},
    ),
}


def records_for(name, runs):
    """Records that the figure can be drawn from."""
    predicted, observed, comparison = runs
    accurate = predicted.assign(test_accuracy=predicted["train_loss"] / 10)
    given = {
        "overlay": [predicted, observed, comparison],
        "consensus": [predicted, observed],
        "errors_on_graph": [predicted],
        "tradeoff": [accurate, accurate.assign_attrs(method="diging")],
        "bands": [sweep_of_starts(runs), observed],
        "width": [
            xr.Dataset(
                {"gap": (("kernel", "width", "seed", "agent"), [[[[0.2]], [[0.1]]]])},
                {"kernel": ["infinite"], "width": [64, 256], "seed": [0]},
                {"rounds": 9},
            )
        ],
        "animation": [predicted],
        "speed_up": [swept(**{"partition.agents": [2, 4, 8, 16]})],
        "trajectories": [followed(predicted), followed(observed)],
    } | dict.fromkeys(SWEPT, [swept()])
    return given.get(name) or [TABLES[name]]


def followed(run):
    """With two kept parameters of two agents, the second moving more."""
    moved = np.array([[[0.0, 0.0], [0.0, 0.0]], [[1.0, 3.0], [2.0, 5.0]]])
    dims = ("parameter_round", "parameter_agent", "parameter")
    return run.assign(parameters=(dims, moved)).assign_coords(
        parameter_round=[0, 9], parameter_agent=[0, 3]
    )


STATIC = [name for name in figures.FIGURES if name != "animation"]


@pytest.mark.parametrize("name", STATIC)
def test_every_figure_is_drawn_and_nothing_overlaps_or_is_cut(name, runs, tmp_path):
    figure = figures.draw(name, records_for(name, runs))
    path = figures.write(figure, tmp_path / f"{name}.svg")
    assert path.read_text().startswith("<?xml")
    figure.draw_without_rendering()
    page = figure.bbox
    for axes in figure.axes:
        for text in [axes.title, axes.xaxis.label, axes.yaxis.label, axes._left_title]:
            box = text.get_window_extent()
            if text.get_text() and text.get_visible() and axes.axison:
                assert page.x0 - 1 <= box.x0 and box.x1 <= page.x1 + 1, text.get_text()
        for axis in (axes.xaxis, axes.yaxis):
            labels = [t.label1 for t in axis.get_major_ticks() if t.label1.get_visible()]
            boxes = [t.get_window_extent() for t in labels if t.get_text() and axes.axison]
            visible = [b for b in boxes if b.overlaps(axes.bbox.padded(40))]
            pairs = zip(visible, visible[1:], strict=False)
            assert not any(a.overlaps(b) for a, b in pairs), (name, axis)
    for legend in figure.legends:
        box = legend.get_window_extent()
        assert box.x0 >= page.x0 - 1 and box.x1 <= page.x1 + 1 and box.y0 >= page.y0 - 1


@pytest.mark.parametrize("name", figures.FIGURES)
def test_a_record_without_what_a_figure_needs_is_refused_by_name(name, runs):
    given = records_for(name, runs)
    for missing in figures.FIGURES[name].NEEDS[0]:
        lacking = given[0].drop_vars(missing, errors="ignore").drop_vars(missing, errors="ignore")
        if missing in lacking.variables or missing in lacking.dims:
            continue
        with pytest.raises(nd.InputError, match=f"figure {name}: .* lacks .*{missing}"):
            figures.draw(name, [lacking, *given[1:]])


def test_figures_refuse_wrong_names_counts_and_endings(runs, tmp_path):
    with pytest.raises(nd.InputError, match="did you mean 'consensus'"):
        figures.draw("concensus", [runs[0]])
    with pytest.raises(nd.InputError, match="takes records for predicted, observed, comp.* got 1"):
        figures.draw("overlay", [runs[0]])
    with pytest.raises(nd.InputError, match="got 0"):
        figures.draw("consensus", [])
    with pytest.raises(nd.InputError, match="got 0"):
        figures.draw("tradeoff", [])
    figure = figures.draw("consensus", [runs[0]])
    with pytest.raises(nd.InputError, match="must end in .pdf, .svg, .png, got a.bmp"):
        figures.write(figure, tmp_path / "a.bmp")
    (tmp_path / "file").touch()
    with pytest.raises(nd.InputError, match="cannot write"):
        figures.write(figure, tmp_path / "file" / "a.pdf")


def test_consensus_and_graph_show_what_the_record_holds(runs):
    predicted = runs[0]
    axes = figures.draw("consensus", [predicted]).axes[0]
    for agent, line in enumerate(axes.lines):
        seen = predicted["consensus_distance"][1:, agent]
        np.testing.assert_array_equal(line.get_ydata()[1:], seen)
    figure = figures.draw("errors_on_graph", [predicted])
    nodes = figure.axes[0].collections[-1]
    np.testing.assert_array_equal(nodes.get_array(), predicted["global_loss"][-1])


def test_kernel_map_puts_an_agents_points_together():
    image = figures.draw("kernel_map", [TABLES["kernel_map"]]).axes[0].images[0]
    np.testing.assert_array_equal(np.diag(image.get_array()), [2, 4, 1, 3])


def test_bounds_are_ordered_by_how_tight_they_are():
    axes = figures.draw("bounds", [TABLES["bounds"]]).axes[0]
    assert [t.get_text() for t in axes.get_yticklabels()] == ["none", "loose", "wrong"]
    said = {text.get_text() for text in axes.texts}
    assert said == {"not computed", "×2", "×0.5"}


def test_accounting_draws_the_mean_of_every_source_that_is_there():
    accounts = TABLES["accounting"].drop_vars("minibatch_noise")
    axes = figures.draw("accounting", [accounts]).axes[0]
    shown = {line.get_label(): line.get_ydata() for line in axes.lines}
    assert list(shown) == [
        "arithmetic", "linearization", "discretization", "finite width", "whole gap"
    ]  # fmt: skip
    np.testing.assert_allclose(shown["finite width"], 3e-3 * GROWING[1:].mean(axis=1))
    np.testing.assert_allclose(shown["whole gap"], 5e-3 * GROWING[1:].mean(axis=1))


def test_spectrum_tells_inside_from_outside():
    figure = figures.draw("spectrum", [TABLES["spectrum"]])
    said = [text.get_text() for text in figure.legends[0].get_texts()]
    assert said == ["2 inside", "1 outside: errors grow"]


def test_tradeoff_counts_vectors_sent(runs):
    ring = runs[0]
    assert figures.tradeoff.sent_per_round(ring) == 1
    assert figures.tradeoff.sent_per_round(ring.assign_attrs(method="diging")) == 2


def test_bands_hold_the_share_of_starts_that_they_say(runs):
    predicted = sweep_of_starts(runs)
    axes = figures.draw("bands", [predicted]).axes[0]
    outer = axes.collections[0].get_paths()[0].vertices[:, 1]
    last = predicted["train_loss"].isel(agent=0)
    assert outer.max() == pytest.approx(float(last.quantile(0.95, "start").max()))


def test_animation_is_a_gif_of_many_rounds(runs, tmp_path):
    short = runs[0].isel(round=slice(0, 4))
    path = figures.write(figures.draw("animation", [short]), tmp_path / "a.gif")
    from PIL import Image

    with Image.open(path) as image:
        assert image.n_frames == 4
    with pytest.raises(nd.InputError, match="must end in .gif or .mp4"):
        figures.write(figures.draw("animation", [short]), tmp_path / "a.png")


@pytest.mark.skipif(shutil.which("ffmpeg") is None, reason="ffmpeg is not installed")
def test_animation_is_an_mp4_of_as_many_frames(runs, tmp_path):
    short = runs[0].isel(round=slice(0, 4))
    path = figures.write(figures.draw("animation", [short]), tmp_path / "a.mp4")
    count = ["ffprobe", "-v", "error", "-count_frames", "-select_streams", "v:0"]
    shown = ["-show_entries", "stream=codec_name,nb_read_frames", "-of", "csv=p=0", path]
    said = subprocess.run([*count, *shown], capture_output=True, text=True, check=True).stdout
    assert said.strip() == "h264,4"


def test_without_ffmpeg_an_mp4_is_refused_and_a_gif_is_not(runs, tmp_path, monkeypatch):
    monkeypatch.setattr("ntkdyn.figures.style.FFMpegWriter.isAvailable", lambda: False)
    with pytest.raises(nd.InputError, match=".mp4 needs ffmpeg, which is not installed; .gif does"):
        figures.write(figures.draw("animation", [runs[0]]), tmp_path / "a.mp4")
    assert not list(tmp_path.iterdir())


def test_sweep_draws_every_run_and_says_the_slopes():
    found = TABLES["sweep"]
    axes = figures.draw("sweep", [found]).axes
    assert [len(panel.lines) for panel in axes] == [4, 4, 2, 2]
    for panel, name in zip(axes, ("deviation_gap", "gap"), strict=False):
        means = found[name][0].mean("agent").values.reshape(-1)
        np.testing.assert_allclose(panel.lines[0].get_ydata(), means)
    line = axes[3].lines[1]
    np.testing.assert_allclose(np.diff(np.log(line.get_ydata())) / np.log(4), -1.0)
    said = figures.sweep.slopes(found)
    assert "gap with the infinite kernel: slope -0.50 [-0.60, -0.40]" in said.values()
    assert "deviation gap with the empirical kernel: slope -0.50 [-0.70, -0.30]" in said.values()
    assert len(said) == 6
    bare = found.drop_vars([name for name in found if name.endswith("_slope")])
    assert figures.sweep.slopes(bare) == {} and figures.draw("sweep", [bare])


def test_methods_keep_their_colour():
    colours = {name: figures.style.method_colour(name) for name in [*nd.methods.METHODS, "mine"]}
    assert len(set(colours.values())) == len(colours)
    assert figures.style.method_colour("mine") == colours["mine"]


def test_kernel_table_and_spectrum_are_those_of_the_problem(small):
    problem, jacobian = small(8)
    table = nd.dynamics.kernel_table(problem)
    rows = jacobian[: problem.task.train]
    per_output = np.einsum("ikp,jkp->ij", rows, rows) / rows.shape[1]
    np.testing.assert_allclose(table["kernel"], per_output, rtol=1e-10)
    assert table["owner"].values.tolist() == problem.task.owner.tolist()

    K, owner = np.diag([1.0, 2.0]), [0, 1]
    W = nd.graphs.metropolis(nd.graphs.path(2))
    bare = nd.KernelProblem(K, np.zeros((2, 1)), owner)
    found = nd.dynamics.spectrum(bare, method("dgd", 0.4), W)
    A = np.kron(W.matrix, np.eye(2)) - 0.4 * np.diag([1.0, 0, 0, 2.0])
    assert np.allclose(np.sort(found["eigenvalue_real"]), np.linalg.eigvalsh(A))
    assert np.allclose(found["eigenvalue_imag"], 0) and found.attrs["stable"]


def test_curves_of_a_sweep_are_means_with_their_range_over_seeds_and_the_rest():
    record = swept()
    one = [*figures.series.curves(record, figures.series.last(record["test_loss"].mean("agent")),
           "method.step_size")]  # fmt: skip
    assert [curve.label for curve in one] == ["ring", "star", "complete"]
    seen = record["test_loss"].values[1, :, :, :, -1].mean(axis=-1).reshape(4, 4)
    np.testing.assert_allclose(one[1].middle, seen.mean(axis=1))
    np.testing.assert_allclose(one[1].low, seen.min(axis=1))
    np.testing.assert_allclose(one[1].high, seen.max(axis=1))
    short = record["test_loss"].copy()
    short[0, 0, 0, 0, -2:] = np.nan
    assert figures.series.last(short)[0, 0, 0, 0, 0] == short[0, 0, 0, 0, 2, 0]


def test_figures_of_sweeps_show_what_the_record_holds():
    record = swept()
    np.testing.assert_allclose(figures.FIGURES["rates"].rate(record), 0.9)
    paid = figures.draw("curves", [record]).axes[1].lines[0].get_xdata()
    floats = (
        record["floats_sent"][0].sum("agent").mean(("method.step_size", "partition.alpha", "seed"))
    )
    np.testing.assert_allclose(paid[1:], floats[1:])
    best = figures.draw("heat_map", [record]).axes[0].images[0].get_array()
    seen = record["test_accuracy"].isel(round=-1).min("agent").max(("partition.alpha", "seed"))
    np.testing.assert_allclose(np.asarray(best), 100 * seen)
    agents = swept(**{"partition.agents": [2, 4, 8, 16]})
    line = figures.draw("speed_up", [agents]).axes[0].lines[3]
    x, y = line.get_data()
    np.testing.assert_allclose(y * x, y[0] * x[0])
    with pytest.raises(nd.InputError, match="must have an axis of numbers, agents; it has graph"):
        figures.draw("speed_up", [record])


def test_trajectories_show_the_parameters_that_move_most(runs):
    axes = figures.draw("trajectories", [followed(runs[0]), followed(runs[1])]).axes
    assert [line.get_ydata()[-1] for line in axes[0].lines] == [3, 3, 5, 5]
    assert [line.get_ydata()[-1] for line in axes[1].lines] == [1, 1, 2, 2]
