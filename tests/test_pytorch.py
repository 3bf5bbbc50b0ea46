"""PyTorch's modules: kernels against its own Jacobians, predictions against its own training."""

import copy

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from cases import small_data

import ntkdyn as nd
from ntkdyn.data import Partition
from ntkdyn.kernels import from_torch
from ntkdyn.validation import from_log

torch = pytest.importorskip("torch")
nn = torch.nn
torch.set_num_threads(1)

W = nd.graphs.metropolis(nd.graphs.ring(4))
SHARE = Partition(small_data(), np.arange(14) % 4, 4, "given", ("a", "b", "c", "d"))
FEATURES = SHARE.data.train_inputs.shape[1]


def mlp(width=32, outputs=2, features=FEATURES):
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Linear(features, width), nn.Tanh(), nn.Linear(width, width), nn.ReLU(),
        nn.Linear(width, outputs),
    )  # fmt: skip


def cnn(width=8, outputs=2):
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Unflatten(1, (1, 1, -1)), nn.Conv2d(1, width, (1, 3), padding="same"), nn.GELU(),
        nn.Conv2d(width, width, (1, 3), padding="same"), nn.Tanh(),
        nn.Flatten(), nn.Linear(width * FEATURES, outputs),
    )  # fmt: skip


class Recurrent(nn.Module):
    def __init__(self):
        super().__init__()
        self.inner, self.readout = nn.LSTM(FEATURES, 4, batch_first=True), nn.Linear(4, 2)

    def forward(self, x):
        return self.readout(self.inner(x[:, None])[0][:, -1])


class Chance(nn.Module):
    def __init__(self):
        super().__init__()
        self.readout = nn.Linear(FEATURES, 2)

    def forward(self, x):
        return self.readout(nn.functional.dropout(x, 0.5, self.training))


def jacobian(module, x):
    """By autograd, one output at a time: (points, outputs, parameters)."""
    outputs, parameters = module(x), [p for p in module.parameters() if p.requires_grad]
    flat = lambda one: torch.cat(
        [g.flatten() for g in torch.autograd.grad(one, parameters, retain_graph=True)]
    )
    return torch.stack([torch.stack([flat(one) for one in point]) for point in outputs])


POINTS = torch.from_numpy(np.array(SHARE.data.train_inputs[:7]))


@pytest.mark.parametrize("make", [mlp, cnn, Recurrent])
@pytest.mark.parametrize("memory", [None, "1 B", "60 kB"])
def test_the_kernel_is_that_of_its_own_jacobian(make, memory):
    module = make().eval()
    J = jacobian(module, POINTS).numpy()
    wanted = np.einsum("nkp,mjp->nkmj", J, J)
    for dtype in ("float32", "float64"):
        kernel, f0 = from_torch(module, POINTS, dtype=dtype, memory=memory)
        assert np.abs(kernel - wanted).max() < 1e-5 * np.abs(wanted).max()
        assert np.abs(f0 - module(POINTS).detach().numpy()).max() < 1e-6
        part, some = from_torch(module, POINTS[:3], POINTS[2:], dtype=dtype, memory=memory)
        assert np.abs(part - kernel[:3, :, 2:]).max() < 1e-6 * np.abs(wanted).max()
        assert np.abs(some - f0[:3]).max() < 1e-6


def test_what_is_not_trained_is_held_and_the_module_stays_as_it_was():
    module = mlp()
    module[0].requires_grad_(False)
    before = {name: value.clone() for name, value in module.state_dict().items()}
    state = torch.get_rng_state()
    kernel, _ = from_torch(module, POINTS)
    J = jacobian(module, POINTS).numpy()
    assert J.shape[-1] == sum(p.numel() for p in module[2:].parameters())
    assert np.allclose(kernel, np.einsum("nkp,mjp->nkmj", J, J), rtol=1e-4, atol=1e-5)
    assert all((value == before[name]).all() for name, value in module.state_dict().items())
    assert (torch.get_rng_state() == state).all() and module[0].weight.grad is None


def test_tokens_and_one_output_without_an_axis():
    class Words(nn.Module):
        def __init__(self):
            super().__init__()
            self.words, self.readout = nn.Embedding(9, 4), nn.Linear(4, 1)

        def forward(self, x):
            return self.readout(self.words(x).mean(1))[:, 0]

    kernel, f0 = from_torch(Words(), np.array([[0, 1], [2, 3], [1, 1]]))
    assert kernel.shape == (3, 1, 3, 1) and f0.shape == (3, 1)


ALONE = "outputs of one point must not depend on"

REFUSED = [
    (lambda: nn.Sequential(mlp(), nn.Dropout(0.1)), r"1 \(Dropout\) is in training mode, where"),
    (lambda: nn.Sequential(nn.BatchNorm1d(FEATURES), mlp()), r"0 \(BatchNorm1d\) normalises by"),
    (
        lambda: nn.Sequential(nn.BatchNorm1d(FEATURES, track_running_stats=False), mlp()).eval(),
        r"0 \(BatchNorm1d\) normalises by the batch",
    ),
    (Chance, f"{ALONE} chance, but they do; call module.eval"),
    (lambda: nn.Softmax(dim=0), "the module has no parameter that requires a gradient"),
    (lambda: nn.Sequential(mlp(), nn.Softmax(dim=0)), f"{ALONE} the others of its batch"),
    (lambda: nn.LSTM(FEATURES, 2), "the module must return .points, outputs., got tuple for 3"),
    (lambda: mlp(features=FEATURES + 1), "the module fails at points of shape .*; mat1 and mat2"),
    (lambda: "mlp", "must be a torch.nn.Module, got str; a JAX model goes to networks.wrap"),
]


@pytest.mark.parametrize("make, message", REFUSED)
def test_what_has_no_kernel_is_refused_with_the_reason(make, message):
    with pytest.raises(nd.InputError, match=f"from_torch: {message}"):
        from_torch(make(), POINTS)


# --- training -----------------------------------------------------------------------------------


def trained(module, step_size, rounds):
    """DGD as a PyTorch user writes it: every agent's outputs in these rounds."""
    x, y = (torch.from_numpy(np.array(each)) for each in (SHARE.data.train_inputs, targets()))
    mine = [torch.from_numpy(np.flatnonzero(SHARE.owner == agent)) for agent in range(4)]
    everywhere = torch.from_numpy(np.concatenate([SHARE.data.train_inputs, SHARE.data.test_inputs]))
    agents = [copy.deepcopy(module) for _ in mine]
    weights, seen = torch.from_numpy(W.matrix.astype("f4")), []
    for round in range(rounds[-1] + 1):
        if round in rounds:
            with torch.no_grad():
                seen.append(torch.stack([each(everywhere) for each in agents]).numpy())
        for agent, rows in zip(agents, mine, strict=True):
            agent.zero_grad()
            (0.5 * (agent(x[rows]) - y[rows]).square().sum(1).mean()).backward()
        with torch.no_grad():
            for one in zip(*(each.parameters() for each in agents), strict=True):
                mixed = torch.einsum("ij,j...->i...", weights, torch.stack(list(one)))
                for each, value in zip(one, mixed, strict=True):
                    each.copy_(value - step_size * each.grad)
    return np.stack(seen)


def targets():
    return nd.losses.mse.targets(SHARE.data.train_labels, 2).astype("f4")


def compared(module, share_of_limit=0.5, rounds=(0, 10, 20, 40)):
    """(prediction, comparison with PyTorch's training) of a module."""
    problem = nd.KernelProblem.from_torch(module, SHARE)
    predicted = nd.predict(
        problem, nd.methods.dgd(step_size=nd.of_limit(share_of_limit)), W, rounds
    )
    outputs = trained(module, predicted.attrs["step_size"], rounds)
    return predicted, nd.compare(predicted, from_log({"outputs": outputs}, predicted))


def dense(p, layer, x):
    return x @ p[f"{layer}.weight"].T + p[f"{layer}.bias"][None]


def convolved(p, layer, x):
    image = jax.lax.conv_general_dilated(x, p[f"{layer}.weight"], (1, 1), "SAME")
    return image + p[f"{layer}.bias"][None, :, None, None]


def mlp_in_jax(p, x):
    return dense(p, 4, jax.nn.relu(dense(p, 2, jnp.tanh(dense(p, 0, x)))))


def cnn_in_jax(p, x):
    x = jax.nn.gelu(convolved(p, 1, x[:, None, None]), approximate=False)
    return dense(p, 6, jnp.tanh(convolved(p, 3, x)).reshape(len(x), -1))


@pytest.mark.parametrize(
    "module, apply",
    [pytest.param(mlp(64), mlp_in_jax, marks=pytest.mark.slow), (cnn(16), cnn_in_jax)],
)
def test_a_module_is_predicted_as_the_same_network_in_jax_is(module, apply):
    """Kernel, prediction, and the gap to its own training."""
    predicted, found = compared(module)
    start = {name: jnp.asarray(value.numpy()) for name, value in module.state_dict().items()}
    network = nd.networks.wrap(apply, lambda key, features: start, 2)
    problem = nd.Problem(network, SHARE)
    ours, theirs = problem.empirical.whole, nd.KernelProblem.from_torch(module, SHARE).given.whole
    assert np.abs(ours - theirs).max() < 1e-6 * np.abs(ours).max()
    dgd = nd.methods.dgd(step_size=float(predicted.attrs["step_size"]))
    rounds = predicted["round"].values.tolist()
    wanted = nd.compare(*(run(problem, dgd, W, rounds) for run in (nd.predict, nd.train)))
    for name in ("gap", "deviation_gap_of_all", "test_accuracy_difference"):
        np.testing.assert_allclose(found[name], wanted[name], rtol=1e-2, atol=1e-5)
    assert 0.001 < found.attrs["largest_gap"] < 0.3
    assert "test_accuracy" in predicted and predicted["agent_name"].values.tolist() == list("abcd")
    assert predicted.attrs["network"] == "PyTorch Sequential"


@pytest.mark.slow
def test_the_gap_to_its_own_training_falls_with_the_width():
    gaps = [compared(mlp(width))[1].attrs["largest_gap"] for width in (64, 256, 1024)]
    assert gaps[0] > 1.4 * gaps[1] > 2 * gaps[2]


def test_a_module_with_other_outputs_than_the_data_need_is_refused():
    with pytest.raises(nd.InputError, match="the module has 3 outputs, and the data need 2"):
        nd.KernelProblem.from_torch(mlp(8, outputs=3), SHARE)
