"""Lesson 4: breaking the prediction, by a small width and by a large step.

Run it as a notebook, `marimo edit analysis/lessons/breaking_the_prediction.py`, or as a script.
"""

import marimo

app = marimo.App(width="medium")


@app.cell
def _():
    import functools

    import marimo as mo

    import ntkdyn as nd

    mo.md(
        """
        # Breaking the prediction

        The prediction keeps the kernel of the start. Two things move the kernel: too few neurons,
        each of which must then move far; and steps so large that the linear model itself grows.
        """
    )
    return functools, mo, nd


@app.cell
def _(functools, nd):
    data = nd.data.load("digits", train=24, test=8, seed=0)
    shares = nd.data.partition(data, agents=3, by="dirichlet", alpha=0.5, min_points=6, seed=0)
    W = nd.graphs.metropolis(nd.graphs.ring(3))

    @functools.cache
    def problem(width):
        return nd.Problem(nd.networks.mlp((width,), outputs=10), shares, seed=1)

    @functools.cache
    def limit(width):
        return nd.step_size_limit(problem(width), nd.methods.dgd(step_size=1.0), W)

    def gap(width, share, rounds=60):
        """The largest gap of a run with `share` of the stability limit."""
        method = nd.methods.dgd(step_size=share * limit(width))
        predicted = nd.predict(problem(width), method, W, [rounds])
        observed = nd.train(problem(width), method, W, [rounds])
        return nd.compare(predicted, observed).attrs["largest_gap"]

    return (gap,)


@app.cell
def _(gap, mo):
    narrow, wide = gap(16, 0.5), gap(1024, 0.5)
    assert wide < 0.5 * narrow
    mo.md(
        f"""
        ## Small width

        With half the stable step, a width of 16 misses by **{100 * narrow:.0f} %** of the distance
        travelled, a width of 1024 by {100 * wide:.1f} %.
        """
    )
    return (wide,)


@app.cell
def _(gap, mo, wide):
    too_large = gap(1024, 1.2)
    assert too_large > 1 > wide
    mo.md(
        f"""
        ## Large step

        A fifth above the limit the linear model diverges, and the gap is
        **{too_large:.1e}**. The real network need not: it may run into a flatter place,
        where the kernel is smaller and the same step is stable. No theory with a fixed kernel
        can follow it there, which is why every record says whether it is `stable`.

        A rule of thumb for one's own problems: predict at two widths. Where the two differ, neither
        is to be trusted.
        """
    )
    return


if __name__ == "__main__":
    app.run()
