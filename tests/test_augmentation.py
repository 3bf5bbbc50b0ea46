"""Augmentation: images altered as they say, by the round and the point, and nothing else."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import ntkdyn as nd
from ntkdyn import data, experiment
from ntkdyn.data import Dataset, Partition
from ntkdyn.data.augmentation import Augmentation
from ntkdyn.engine import take_snapshot
from ntkdyn.errors import InputError

PAIR = nd.graphs.metropolis(nd.graphs.complete(2))


def images(count, side=8):
    return np.random.default_rng(0).standard_normal((count, side, side, 1)).astype(np.float32)


def keys(count):
    return jax.random.split(jax.random.key(1), count)


def test_a_flip_changes_left_and_right_of_half_the_images():
    one = images(1)[0]
    seen = jax.jit(jax.vmap(data.augmentation.flip, (None, 0)))(one, keys(400))
    turned = [np.array_equal(each, one[:, ::-1]) for each in seen]
    kept = [np.array_equal(each, one) for each in seen]
    assert all(a != b for a, b in zip(turned, kept, strict=True))
    assert abs(np.mean(turned) - 0.5) < 4 * 0.5 / 400**0.5


def test_a_crop_is_a_window_of_the_padded_image_and_each_comes_alike():
    """16 x 16 are padded by 2 on each side: 25 windows."""
    one = images(1, 16)[0]
    padded = np.pad(one, [(2, 2), (2, 2), (0, 0)])
    windows = {padded[i : i + 16, j : j + 16].tobytes(): (i, j) for i, j in np.ndindex(5, 5)}
    cut = jax.jit(data.augmentation.crop)
    found = [windows[np.asarray(cut(one, key)).tobytes()] for key in keys(1000)]
    counts = np.zeros((5, 5))
    np.add.at(counts, tuple(np.transpose(found)), 1)
    assert ((counts - 40) ** 2 / 40).sum() < 52  # chi-squared of 24 degrees, p = 0.001


def test_a_point_looks_the_same_to_all_in_a_round_and_other_in_the_next():
    points, altered = jnp.asarray(images(6)), Augmentation(("crop", "flip"), (8, 8, 1))
    rows, first = jnp.arange(6), jax.random.key(0)
    altered = jax.jit(altered.altered)
    seen = altered(points, rows, first)
    mixed = jnp.array([[3, 1], [0, 3]])
    assert np.array_equal(altered(points[mixed], mixed, first), seen[mixed])
    flat = altered(points.reshape(6, 64), rows, first)
    assert np.array_equal(flat.reshape(seen.shape), seen)
    other = altered(points, rows, jax.random.key(1))
    assert not np.array_equal(other, seen)
    assert len({np.asarray(each).tobytes() for each in seen}) == 6


def problem(by=("crop", "flip")):
    noise = images(10), np.arange(10) % 2
    points = Dataset("noise", noise[0][:6], noise[1][:6], noise[0][6:], noise[1][6:], 2, "")
    points = data.augmented(points, by) if by else points
    net = nd.networks.cnn((2,), outputs=2, strides=4)
    return nd.Problem(net, Partition(points, np.arange(6) % 2, 2, "given"))


def built(problem, rounds=3):
    system = nd.System(problem, nd.methods.atc(step_size=0.5), PAIR, batch_size=2, batch_seed=4)
    return nd.runs.iteration_of(nd.runs.plan(system, rounds), problem.network_space())


@pytest.mark.slow
def test_gradients_are_taken_at_altered_points_and_outputs_measured_at_the_points():
    one, plain = built(problem()), built(problem(None))
    x = one.space.start()
    for round in (0, 1):
        batch = one.batches.at(round)
        assert np.array_equal(batch.rows, plain.batches.at(round).rows)
        shown = np.array(one.space.inputs)
        look = one.batches.looks(round)
        for row in np.unique(batch.rows):
            shown[row] = look(one.space.inputs[row][None], jnp.array([row]))[0]
        by_hand = nd.spaces.NetworkSpace(one.space.apply, one.space.origin, jnp.asarray(shown), 2)
        by_hand = nd.engine.Iteration(
            by_hand, plain.method, plain.weights, plain.batches, plain.targets, plain.loss
        )
        ours, theirs, unaltered = (
            jax.tree.leaves(each.gradient(round)(x).tree) for each in (one, by_hand, plain)
        )
        assert all(np.allclose(a, b, atol=1e-6) for a, b in zip(ours, theirs, strict=True))
        assert not all(np.allclose(a, b, atol=1e-3) for a, b in zip(ours, unaltered, strict=True))
    assert np.array_equal(take_snapshot(one, x).outputs, take_snapshot(plain, x).outputs)


@pytest.mark.slow
def test_a_run_with_augmentation_is_repeated_by_its_seed():
    asked = (nd.methods.atc(step_size=0.5), PAIR, [4])
    runs = [
        nd.train(problem(by), *asked, batch_size=2, batch_seed=seed)["outputs"].values
        for by, seed in ((("flip",), 0), (("flip",), 0), (("flip",), 1), (None, 0))
    ]
    assert np.array_equal(runs[0], runs[1])
    assert not np.allclose(runs[0], runs[2]) and not np.allclose(runs[0], runs[3])


def spec(augment, network='kind = "cnn", widths = [2], image = [8, 8, 1], strides = 4', size=4):
    batch = f", batch_size = {size}" if size else ""
    return experiment.parse(
        f"""
        network = {{ {network} }}
        data = {{ name = "digits", train = 12, test = 4, augment = {augment} }}
        partition = {{ agents = 2 }}
        graph = {{ topology = "complete" }}
        method = {{ name = "atc", step_size = 0.01 }}
        run = {{ rounds = 2{batch} }}
        """,
        "spec",
    )


def test_a_spec_says_what_is_done_to_images():
    made = experiment.Experiment(spec('["crop", "flip"]'))
    assert made.problem.task.about["augmentation"] == "crop, flip"
    assert made.problem.task.augmentation == Augmentation(("crop", "flip"), (8, 8, 1))
    assert made.stability.stable is None and made.settled.drawn().augmentation


def test_predictions_refuse_altered_points():
    for run in (nd.predict, lambda *all, **more: nd.predict(*all, **more, kernel="implicit")):
        with pytest.raises(InputError, match="a prediction is of points as they are"):
            run(problem(), nd.methods.atc(step_size=0.1), PAIR, 2, batch_size=2, batch_seed=0)


@pytest.mark.usefixtures("types_unchecked")
def test_what_cannot_be_altered_is_refused():
    with pytest.raises(InputError, match="did you mean 'flip'"):
        experiment.Experiment(spec('["flp"]')).problem  # noqa: B018
    with pytest.raises(InputError, match=r"needs points that are images .* of shape \(64,\)"):
        experiment.Experiment(spec('["flip"]', 'kind = "mlp", widths = [4]')).problem  # noqa: B018
    with pytest.raises(InputError, match="goes with batch_size and batch_seed"):
        experiment.Experiment(spec('["flip"]', size=None)).train()
    for odd, message in (("flip", "must be a list"), ([], "a list"), (["flip"] * 2, "each once")):
        with pytest.raises(InputError, match=message):
            data.augmented(problem(None).partition.data, odd)
