"""Lesson 6: design before deployment.

Run it as a notebook, `marimo edit analysis/lessons/design_before_deployment.py`, or as a script.
"""

import marimo

app = marimo.App(width="medium")


@app.cell
def _():
    import marimo as mo

    from ntkdyn import design, experiment, figures

    mo.md(
        """
        # Design before deployment

        Six agents will learn handwritten digits from unequal shares. Which graph should join them,
        how often should they talk, and with what step size, so that the worst of them names 70 % of
        new digits after sending as few numbers as possible? Training each choice takes hours where
        networks are large. We predict them all first, and train only the best.
        """
    )
    return design, experiment, figures, mo


@app.cell
def _(design, experiment):
    spec = experiment.parse(
        """
        kernel = "infinite"
        [network]
        widths = [256]
        w_std = [1.4142135623730951, 1.0]
        [data]
        name = "digits"
        train = 120
        test = 100
        [partition]
        agents = 6
        by = "dirichlet"
        alpha = 0.5
        min_points = 6
        [graph]
        topology = "ring"
        [method]
        name = "local_sgd"
        step_size = 0.5
        [run]
        rounds = 800
        [sweep]
        graph.topology = ["ring", "star", "complete"]
        method.tau = [1, 4, 16]
        method.step_size = [0.2, 0.5, 0.8]
        """,
        "lesson",
    )
    study = design.Study(experiment.Experiment(spec), design.of_table(spec.sweep))
    return spec, study


@app.cell
def _(mo, study):
    mo.md(f"""
    The table `[sweep]` says what is varied: {study.count} settings. All share one kernel, so that
    their rounds are matrix products taken together. Before you go on: which graph do you expect to
    win? A complete one mixes at once, but each agent then pays for five links in every exchange.
    """)
    return


@app.cell
def _(design, study):
    goal = design.Goal(design.target("worst test_accuracy >= 0.7"), "floats")
    found = design.search(study, goal, best=5, confirm=3)
    record = design.record_of(study, found)
    return found, goal, record


@app.cell
def _(design, found, mo, study):
    said = design.said(found.reached, study.axes, found.best, found.trained)
    mo.md("```\n" + "\n".join(said) + "\n```")
    return (said,)


@app.cell
def _(figures, mo, record):
    mo.vstack(
        [
            figures.draw("pareto", [record]),
            mo.md("""
            Each mark is a setting: how good its worst agent gets, and what all have sent by then.
            The line is the front: whoever is right of it pays more for no gain.
            """),
        ]
    )
    return


@app.cell
def _(found, mo, record):
    seen = record["test_accuracy"].isel(agent=0)
    followed = seen.notnull().sum("round")
    short = int((followed < seen.sizes["round"]).sum())
    mo.md(f"""
    Not every setting was followed to the end: {short} of them were left after
    {int(followed.min())} to {int(followed.max())} recorded rounds.
    What has been sent never falls, so one that has paid more than the fifth best has paid in
    all, and is not there yet, cannot be among the five. The answer is that of the study in full.

    The three best were trained: the last line says whether their order held. The best is setting
    {found.best[0]}.
    """)
    return


@app.cell
def _(design, goal, mo, study):
    seconds = design.Goal(goal.target, "seconds", design.Clock(latency=0.05))
    slow = design.search(study, seconds, best=3)
    lines = design.said(slow.reached, study.axes, slow.best)[:2]
    mo.md(f"""
    On a network where every message takes 50 ms, what counts are messages, not numbers:

    ```
    {lines[1].strip()}
    ```

    **Exercise.** Let agents broadcast, `design.Clock(latency=0.05, broadcast=True)`: does a denser
    graph win now? Then ask for 80 %: what comes nearest?
    """)
    return


if __name__ == "__main__":
    app.run()
