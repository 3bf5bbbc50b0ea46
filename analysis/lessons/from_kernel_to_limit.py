"""Lesson 5: from the kernel to the limit, one problem without training anything.

Run it as a notebook, `marimo edit analysis/lessons/from_kernel_to_limit.py`, or as a script.
"""

import marimo

app = marimo.App(width="medium")


@app.cell
def _():
    import marimo as mo

    import ntkdyn as nd

    mo.md(
        """
        # From the kernel to the limit

        Six agents on a ring share twelve points. The network is infinitely wide: it is its kernel.
        What will happen in round 10, in round a million, and where does it end?
        """
    )
    return mo, nd


@app.cell
def _(nd):
    import numpy as np

    rng = np.random.default_rng(0)
    x = rng.standard_normal((12, 3))
    y = np.sign(x[:, :1] * x[:, 1:2])
    network = nd.networks.mlp((64, 64), outputs=1)
    K = np.asarray(nd.kernels.infinite.ntk(network.kernel, x), float)
    problem = nd.KernelProblem((K + K.T) / 2, y, np.arange(12) % 6)
    W = nd.graphs.metropolis(nd.graphs.ring(6))
    return W, np, problem


@app.cell
def _(W, mo, nd, problem):
    limit = nd.step_size_limit(problem, nd.methods.dgd(step_size=1.0), W)
    method = nd.methods.dgd(step_size=limit / 2)
    mo.md(
        f"""
        ## How far may a step go?

        With a symmetric W the largest stable step size is the inverse of one eigenvalue, that of
        $(I+W)^{{-1}}$ and the kernel multiplied entry by entry: **{limit:.3f}**. We take half.
        """
    )
    return (method,)


@app.cell
def _(W, method, mo, nd, problem):
    rounds = [0, 10, 1000, 10**6]
    record = nd.predict(problem, method, W, rounds)
    table = "\n".join(
        f"| {int(r)} | {str(record['reached_by'].sel(round=r).values)} "
        f"| {float(record['train_loss'].sel(round=r).max()):.2e} "
        f"| {float(record['error_estimate'].sel(round=r)):.0e} |"
        for r in rounds
    )
    mo.md(
        f"""
        ## Any round

        A round is an affine map, so round a million needs no rounds before it.

        | round | reached by | worst loss | error estimate |
        |---|---|---|---|
        {table}
        """
    )
    return (record,)


@app.cell
def _(W, method, mo, nd, problem):
    slow = nd.dynamics.slowest_modes(problem, method, W, count=3)
    below = nd.dynamics.rounds_until(problem, method, W, 1e-3)
    mo.md(
        f"""
        ## How long?

        The slowest modes shrink by $e$ in
        {", ".join(f"{float(tau):.0f}" for tau in slow["time_constant"])} rounds. Every agent's
        loss is below 0.001 from round **{below}** on.
        """
    )
    return (below,)


@app.cell
def _(W, below, method, mo, nd, np, problem, record):
    end = nd.dynamics.limit(problem, method, W)
    assert end.attrs["interpolates"] and float(end["bias"].max()) < 1e-6
    assert np.abs(end["outputs"] - record["outputs"].sel(round=10**6)).max() < 1e-6
    assert float(nd.predict(problem, method, W, [below])["train_loss"].max()) <= 1e-3
    mo.md(
        """
        ## Where does it end?

        The kernel has full rank, so all local gradients can vanish together: every agent ends
        in the same function, the minimum-norm interpolant of everybody's points, although none has
        seen more than two of them. A constant step leaves no bias here.
        """
    )
    return


@app.cell
def _(W, method, mo, nd, problem):
    flow = nd.dynamics.flow(problem, method, W, [0, 10, 100])
    steps = nd.predict(problem, method, W, [0, 10, 100])
    gap = nd.compare(flow, steps)["gap"].max("agent").values
    assert gap[1] > gap[2] > 0
    mo.md(
        f"""
        ## And with infinitely small steps?

        The gradient flow differs from the steps by {100 * gap[1]:.1f} % of the distance travelled
        at round 10, and by {100 * gap[2]:.2f} % at round 100: what is left is what the flow hides
        of a finite step size.
        """
    )
    return


if __name__ == "__main__":
    app.run()
