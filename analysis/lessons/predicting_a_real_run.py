"""Lesson 3: predicting a real run.

Run it as a notebook, `marimo edit analysis/lessons/predicting_a_real_run.py`, or as a script.
"""

import marimo

app = marimo.App(width="medium")


@app.cell
def _():
    import marimo as mo

    import ntkdyn as nd
    from ntkdyn import figures

    mo.md(
        """
        # Predicting a real run

        Four agents on a ring learn handwritten digits, each mostly of a few classes. We say what
        will happen, from the kernel at the start; then we train the real networks and look.
        """
    )
    return figures, mo, nd


@app.cell
def _(nd):
    data = nd.data.load("digits", train=40, test=60, seed=0)
    shares = nd.data.partition(data, agents=4, by="dirichlet", alpha=0.5, min_points=6, seed=0)
    network = nd.networks.mlp((256,), outputs=10)
    problem = nd.Problem(network, shares, seed=0)
    W = nd.graphs.metropolis(nd.graphs.ring(4))
    return W, problem, shares


@app.cell
def _(mo, shares):
    mo.md(
        "Points per agent: "
        + ", ".join(str(int(count)) for count in shares.counts.sum(axis=1))
        + f". Most frequent class of each: {shares.counts.argmax(axis=1).tolist()}."
    )
    return


@app.cell
def _(W, nd, problem):
    method = nd.methods.dgd(step_size=nd.of_limit(0.5))  # half the stability limit
    predicted = nd.predict(problem, method, W, 100)
    observed = nd.train(problem, method, W, 100)
    comparison = nd.compare(predicted, observed)
    return comparison, observed, predicted


@app.cell
def _(comparison, figures, observed, predicted):
    figures.draw("overlay", [predicted, observed, comparison])
    return


@app.cell
def _(comparison, mo, observed, predicted):
    gap = comparison.attrs["largest_gap"]
    errors = abs(predicted["test_accuracy"] - observed["test_accuracy"]).isel(round=-1)
    assert 0 < gap < 0.2
    assert float(observed["train_loss"][-1].max()) < 0.5 * float(observed["train_loss"][0].min())
    mo.md(
        f"""
        Outputs differ by at most **{100 * gap:.1f} %** of the distance they travelled, and test
        accuracy after 100 rounds by at most {100 * float(errors.max()):.1f} points. Nothing of the
        training went into the prediction.

        *Next:* make it fail.
        """
    )
    return


if __name__ == "__main__":
    app.run()
