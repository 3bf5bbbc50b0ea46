"""Figures are drawn from records, and show what the records hold."""

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


def test_the_rate_map_leaves_what_is_unstable_blank():
    rate = [[0.9, 0.5, 1.2], [0.8, 0.4, 1.1]]
    table = xr.Dataset(
        {"rate": (("spectral_gap", "step_size"), rate)},
        {"spectral_gap": [0.1, 0.5], "step_size": [0.1, 0.5, 1.0]},
        {"method": "dgd"},
    )
    axes = figures.rate_map.draw(table).axes[0]
    shown = axes.collections[0].get_array()
    assert shown.mask.tolist() == [[False, False, True]] * 2
    assert np.allclose(shown[:, 0].filled(0), [0.1, 0.2])
    assert axes.get_xlabel() == "step size" and len(axes.collections) == 2
