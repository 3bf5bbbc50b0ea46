"""Lesson 2: from gradient descent to decentralized gradient descent.

Run it as a notebook, `marimo edit analysis/lessons/gradient_descent_to_dgd.py`, or as a script.
"""

import marimo

app = marimo.App(width="medium")


@app.cell
def _():
    import marimo as mo
    import numpy as np

    import ntkdyn as nd

    mo.md(
        """
        # From gradient descent to DGD

        With a kernel, gradient descent on squared errors is linear: each mode of $K / n$ with
        eigenvalue $\\lambda$ keeps $1 - \\eta\\lambda$ of its error per round. Now the points
        belong to several agents, who average with their neighbours while they descend:

        $$x_i \\leftarrow \\sum_j W_{ij} x_j - \\eta \\nabla L_i(x_i).$$
        """
    )
    return mo, nd, np


@app.cell
def _(np):
    # Twelve points on a circle, a kernel of five modes, targets that it cannot fit exactly.
    angle = 2 * np.pi * np.arange(12) / 12
    modes = [np.ones(12), np.cos(angle), np.sin(angle), np.cos(2 * angle), np.sin(2 * angle)]
    features = np.stack(modes, axis=1) * [1, 0.7, 0.7, 0.5, 0.5]
    K, y = features @ features.T, (np.sin(angle) + 0.4 * np.cos(5 * angle))[:, None]
    return K, y


@app.cell
def _(K, mo, nd, np, y):
    alone = nd.KernelProblem(K, y, np.zeros(12, dtype=int))
    method = nd.methods.dgd(step_size=0.5)
    descent = nd.predict(alone, method, nd.graphs.isolated(1), 40)
    rates = 1 - 0.5 * np.linalg.eigvalsh(K / 12)
    _, basis = np.linalg.eigh(K)
    closed = y - basis @ (rates[:, None] ** 40 * (basis.T @ y))
    agree = np.abs(descent["outputs"].values[-1, 0] - closed).max()
    assert agree < 1e-12
    mo.md(
        f"""
        ## One agent

        Forty rounds, run step by step, equal the closed form
        $y - (I - \\eta K/n)^{{40}} y$ to **{agree:.0e}**.
        """
    )
    return


@app.cell
def _(mo):
    topology = mo.ui.dropdown(["ring", "star", "complete"], value="ring", label="graph")
    mo.vstack([topology])
    return (topology,)


@app.cell
def _(K, mo, nd, np, topology, y):
    # Six agents, each with an arc of the circle to itself.
    problem = nd.KernelProblem(K, y, np.repeat(np.arange(6), 2))
    W = nd.graphs.metropolis(nd.graphs.TOPOLOGIES[topology.value](6))
    limit = nd.step_size_limit(problem, nd.methods.dgd(step_size=1.0), W)

    def settled(step):
        end = nd.predict(problem, nd.methods.dgd(step_size=step), W, [4000])
        return float(end["global_loss"].isel(round=-1).mean())

    best = float(np.sum((y - K @ np.linalg.pinv(K) @ y) ** 2) / 2 / 12)
    large, small = settled(0.2 * limit) - best, settled(0.02 * limit) - best
    mo.md(
        f"""
        ## Six agents on a {topology.value}

        The spectral gap is **{W.spectral_gap:.3f}** and steps up to **{limit:.3f}** are stable.
        Agents that pull in different directions settle above the best objective, {best:.4f}:
        by {large:.2e} with a fifth of the limit, by {small:.2e} with a tenth of that step. The bias
        of $x$ is proportional to the step, so what it costs is proportional to its square:
        here a factor of **{large / small:.0f}**.
        """
    )
    return W, large, limit, problem, small


@app.cell
def _(W, large, limit, mo, nd, problem, small):
    assert large / small > 10
    above = nd.methods.dgd(step_size=1.05 * limit)
    unstable = nd.predict(problem, above, W, 400)
    assert unstable.attrs["stable"] == 0
    growth = float(unstable["global_loss"][-1].max() / unstable["global_loss"][0].max())
    mo.md(
        f"""
        ## Beyond the limit

        Five per cent above the limit, after 400 rounds, the objective has grown by a factor of
        {growth:.1e}. The record knew it before the first round: `stable = False`.

        *Next:* real networks on real images.
        """
    )
    return


if __name__ == "__main__":
    app.run()
