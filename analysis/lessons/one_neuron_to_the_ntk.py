"""Lesson 1: from one neuron to the neural tangent kernel.

Run it as a notebook, `marimo edit analysis/lessons/one_neuron_to_the_ntk.py`, or as a script.
"""

import marimo

app = marimo.App(width="medium")


@app.cell
def _():
    import functools

    import marimo as mo
    import numpy as np

    import ntkdyn as nd

    mo.md(
        """
        # From one neuron to the neural tangent kernel

        A network is a function of its parameters. Near the start, that function is almost linear:

        $$f(x; \\theta) \\approx f(x; \\theta_0) + J(x)\\,(\\theta - \\theta_0).$$

        Gradient descent then sees the parameters only through inner products of rows of $J$:
        the **neural tangent kernel** $K(x, x') = J(x)\\,J(x')^\\top$.
        """
    )
    return functools, mo, nd, np


@app.cell
def _(mo):
    step = mo.ui.slider(0.05, 1.0, step=0.05, value=0.3, label="step of the one weight")
    mo.vstack([step])
    return (step,)


@app.cell
def _(mo, np, step):
    # One neuron, one weight: f(x; w) = erf-like tanh(w x), linearized at w = 0.8.
    start, inputs = 0.8, np.array([-1.0, 0.5, 2.0])
    slope = inputs / np.cosh(start * inputs) ** 2
    truth = np.tanh((start + step.value) * inputs)
    line = np.tanh(start * inputs) + slope * step.value
    kernel_of_one = np.outer(slope, slope)
    error_of_one = np.abs(truth - line).max()
    mo.md(
        f"""
        ## One neuron

        $f(x; w) = \\tanh(w x)$ has $J(x) = x / \\cosh^2(w x)$, so its kernel is the outer product
        of one vector: rank {np.linalg.matrix_rank(kernel_of_one)}. After a step of
        {step.value:.2f} the line is off by **{error_of_one:.3f}**.
        """
    )
    return error_of_one, inputs


@app.cell
def _(functools, inputs, mo, nd, np):
    # Many neurons: the kernel at random starts settles as the layer widens.
    points = np.stack([inputs, np.ones_like(inputs)], axis=1).astype(np.float32)
    labels = np.array([0, 1, 0])
    data = nd.data.Dataset("three points", points, labels, points[:1], labels[:1], 2, "none")
    shares = nd.data.Partition(data, np.array([0, 0, 0]), 1, "given")

    @functools.cache
    def network(width):
        return nd.networks.mlp((width,), outputs=2, activation="erf", w_std=1.5, b_std=0.3)

    def problem(width, seed):
        return nd.Problem(network(width), shares, seed=seed)

    limit = problem(4, 0).kernel("infinite").training

    def distance(width, seed):
        table = nd.dynamics.kernel_table(problem(width, seed))["kernel"].values
        return float(np.linalg.norm(table - limit) / np.linalg.norm(limit))

    widths = [16, 256, 4096]
    distances = [float(np.mean([distance(w, s) for s in range(2)])) for w in widths]
    rows = "\n".join(f"| {w} | {d:.3f} |" for w, d in zip(widths, distances, strict=True))
    mo.md(
        f"""
        ## Many neurons

        With many neurons the kernel is an average over them, and averages settle: it approaches
        the kernel of infinite width, whatever the seed.

        | width | distance from the limit |
        |---|---|
        {rows}

        Sixteen times as wide, four times as near: the law of large numbers, at work on $K$.
        """
    )
    return distances, widths


@app.cell
def _(distances, error_of_one, mo, np, widths):
    slope_of_kernel = np.polyfit(np.log(widths), np.log(distances), 1)[0]
    assert -0.8 < slope_of_kernel < -0.25, slope_of_kernel
    assert error_of_one > 0
    mo.md(
        f"""
        The slope in log-log is **{slope_of_kernel:.2f}**, near the −1/2 of the law.

        *Next:* what happens when several agents, each with its own points, descend together.
        """
    )
    return


if __name__ == "__main__":
    app.run()
