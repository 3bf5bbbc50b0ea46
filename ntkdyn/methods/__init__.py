"""Methods: update x mixing x objective.

    dgd   x <- W x - eta g(x)          descend while combining
    cta   x <- W x - eta g(W x)        combine, then adapt
    atc   x <- W (x - eta g(x))        adapt, then combine

(the three lines of Chaudhari et al. 2025 as papers/p2p-dynamics reads them; some authors call the
first one combine-then-adapt). A method is written once and runs in every space. Any of them
exchanges less often as `periodic(method, tau)`, or at a smaller averaging rate as
`damped(method, gamma)`; its step size changes as `scheduled(method, {100: 0.1})`, or from agent to
agent as `by_agent(method, factors)`; `weight_decay(method, 1e-4)` does what it says,
`weighted(method, weights)` takes sum_i lambda_i L_i for the objective, and `clipped(method, 1.0)`
no more of a single point's gradient. W may be one matrix or a sequence of them.

Below, g_i is the gradient of agent i's loss on this round's points, eta the step size, and a prime
marks what was a round before. "Reconstruction" says that the source's own formula is not known to
us in full, and papers/ says what is.
"""

from __future__ import annotations

from ntkdyn.errors import public
from ntkdyn.methods import mixing, objectives, updates
from ntkdyn.methods.cross_features import CrossFeature
from ntkdyn.methods.distillation import Distillation
from ntkdyn.methods.merging import Merge
from ntkdyn.methods.method import (
    Method,
    Needs,
    by_agent,
    clipped,
    damped,
    periodic,
    scheduled,
    weight_decay,
    weighted,
)
from ntkdyn.methods.steps import cosine, step_decay, warm_up
from ntkdyn.methods.trust import DRT
from ntkdyn.methods.updates import OfLimit, StepSize

of_limit = OfLimit

DOUBLY = Needs(doubly=True)


def _local(
    update: updates.Update,
    name: str,
    needs: Needs = Needs(),
    rule: mixing.Mixing = mixing.Fixed(),
) -> Method:
    return Method(name, update, rule, objectives.Local(), needs)


def dgd(*, step_size: StepSize) -> Method:
    """x_i <- sum_j W_ij x_j - eta g_i(x_i).

    Decentralized gradient descent (Nedic, Ozdaglar 2009).

    Args:
        step_size: eta, a number or `of_limit(share)`.

    Returns:
        The method, for `predict`, `train` and all other questions.

    Raises:
        InputError: for settings outside these ranges.

    Example:
        >>> round(nd.step_size_limit(bare, nd.methods.dgd(step_size=0.1), W), 4)
        0.7059
    """
    return _local(updates.DGD(step_size), "dgd")


def cta(*, step_size: StepSize) -> Method:
    """v_i = sum_j W_ij x_j,  x_i <- v_i - eta g_i(v_i).

    Combine-then-adapt diffusion (Sayed 2014).

    Args:
        step_size: eta, a number or `of_limit(share)`.

    Returns:
        The method, for `predict`, `train` and all other questions.

    Raises:
        InputError: for settings outside these ranges.

    Example:
        >>> round(nd.step_size_limit(bare, nd.methods.cta(step_size=0.1), W), 4)
        1.7143
    """
    return _local(updates.CTA(step_size), "cta")


def atc(*, step_size: StepSize) -> Method:
    """x_i <- sum_j W_ij (x_j - eta g_j(x_j)).

    Adapt-then-combine diffusion (Sayed 2014).

    Args:
        step_size: eta, a number or `of_limit(share)`.

    Returns:
        The method, for `predict`, `train` and all other questions.

    Raises:
        InputError: for settings outside these ranges.

    Example:
        >>> round(nd.step_size_limit(bare, nd.methods.atc(step_size=0.1), W), 4)
        1.7143
    """
    return _local(updates.ATC(step_size), "atc")


def heavy_ball(*, step_size: StepSize, beta: float = 0.9) -> Method:
    """m_i <- beta m_i + g_i(x_i),  x_i <- sum_j W_ij (x_j - eta m_j).

    ATC with local heavy-ball momentum, DSGDm (Polyak 1964; Assran et al. 2019).

    Args:
        step_size: eta, a number or `of_limit(share)`.
        beta: what is kept of the momentum in a round, in [0, 1).

    Returns:
        The method, for `predict`, `train` and all other questions.

    Raises:
        InputError: for settings outside these ranges.

    Example:
        >>> round(nd.step_size_limit(bare, nd.methods.heavy_ball(step_size=0.1), W), 4)
        3.2571
    """
    return _local(updates.HeavyBall(step_size, beta), "heavy_ball")


def nesterov(*, step_size: StepSize, beta: float = 0.9) -> Method:
    """m_i <- beta m_i + g_i(x_i),  x_i <- sum_j W_ij (x_j - eta (g_j(x_j) + beta m_j)).

    ATC with local Nesterov momentum, DSGDm-N (Nesterov 1983; Lin et al. 2021).

    Args:
        step_size: eta, a number or `of_limit(share)`.
        beta: what is kept of the momentum in a round, in [0, 1).

    Returns:
        The method, for `predict`, `train` and all other questions.

    Raises:
        InputError: for settings outside these ranges.

    Example:
        >>> round(nd.step_size_limit(bare, nd.methods.nesterov(step_size=0.1), W), 4)
        1.1633
    """
    return _local(updates.Nesterov(step_size, beta), "nesterov")


def diging(*, step_size: StepSize) -> Method:
    """y_i <- sum_j W_ij y_j + g_i(x_i) - g_i(x'_i),  x_i <- sum_j W_ij x_j - eta y_i.

    Gradient tracking (Nedic, Olshevsky, Shi 2017).

    Args:
        step_size: eta, a number or `of_limit(share)`.

    Returns:
        The method, for `predict`, `train` and all other questions.

    Raises:
        InputError: for settings outside these ranges.

    Example:
        >>> round(nd.step_size_limit(bare, nd.methods.diging(step_size=0.1), W), 4)
        0.3636
    """
    return _local(updates.DIGing(step_size), "diging", DOUBLY)


def atc_tracking(*, step_size: StepSize) -> Method:
    """y_i <- sum_j W_ij y_j + g_i(x_i) - g_i(x'_i),  x_i <- sum_j W_ij (x_j - eta y_j).

    Gradient tracking that adapts, then combines (Di Lorenzo, Scutari 2016).

    Args:
        step_size: eta, a number or `of_limit(share)`.

    Returns:
        The method, for `predict`, `train` and all other questions.

    Raises:
        InputError: for settings outside these ranges.

    Example:
        >>> round(nd.step_size_limit(bare, nd.methods.atc_tracking(step_size=0.1), W), 4)
        1.7143
    """
    return _local(updates.ATCTracking(step_size), "atc_tracking", DOUBLY)


def aug_dgm(*, step_size: StepSize) -> Method:
    """y_i <- sum_j W_ij (y_j + g_j(x_j) - g_j(x'_j)),  x_i <- sum_j W_ij (x_j - eta y_j).

    Aug-DGM, ATC-DIGing (Xu, Zhu, Soh, Xie 2015), from y_i = sum_j W_ij g_j(x_j) in the first
    round where the paper has y_i = g_i(x_i).

    Args:
        step_size: eta, a number or `of_limit(share)`.

    Returns:
        The method, for `predict`, `train` and all other questions.

    Raises:
        InputError: for settings outside these ranges.

    Example:
        >>> round(nd.step_size_limit(bare, nd.methods.aug_dgm(step_size=0.1), W), 4)
        1.7143
    """
    return _local(updates.AugDGM(step_size), "aug_dgm", DOUBLY)


def extra(*, step_size: StepSize) -> Method:
    """x+ = (I + W) x - (I + W)/2 x' - eta (g(x) - g(x')),  x+ = W x - eta g(x) at first.

    EXTRA (Shi, Ling, Wu, Yin 2015), in the form of its cumulative correction; at its own choice
    (I + W)/2 of the second matrix, W may have any eigenvalue above -1.

    Args:
        step_size: eta, a number or `of_limit(share)`.

    Returns:
        The method, for `predict`, `train` and all other questions.

    Raises:
        InputError: for settings outside these ranges.

    Example:
        >>> round(nd.step_size_limit(bare, nd.methods.extra(step_size=0.1), W), 4)
        0.8696
    """
    needs = Needs(symmetric=True, fixed=True, above=-1.0)
    return _local(updates.EXTRA(step_size), "extra", needs)


def d2(*, step_size: StepSize) -> Method:
    """x+ = W (2 x - x' - eta (g(x) - g(x'))),  x+ = W (x - eta g(x)) at first.

    D^2 (Tang et al. 2018).

    Args:
        step_size: eta, a number or `of_limit(share)`.

    Returns:
        The method, for `predict`, `train` and all other questions.

    Raises:
        InputError: for settings outside these ranges.

    Example:
        >>> round(nd.step_size_limit(bare, nd.methods.d2(step_size=0.1), W), 4)
        1.7143
    """
    return _local(updates.D2(step_size), "d2", Needs(symmetric=True, fixed=True, above=-1 / 3))


def exact_diffusion(*, step_size: StepSize) -> Method:
    """psi_i <- x_i - eta g_i(x_i),  x_i <- sum_j V_ij (psi_j + x_j - psi'_j),  V = (I + W)/2.

    Exact diffusion (Yuan, Ying, Zhao, Sayed 2019): D^2 with V in place of W.

    Args:
        step_size: eta, a number or `of_limit(share)`.

    Returns:
        The method, for `predict`, `train` and all other questions.

    Raises:
        InputError: for settings outside these ranges.

    Example:
        >>> round(nd.step_size_limit(bare, nd.methods.exact_diffusion(step_size=0.1), W), 4)
        1.3953
    """
    needs = Needs(symmetric=True, fixed=True, above=-1 / 3)
    return _local(updates.D2(step_size), "exact_diffusion", needs, mixing.Fixed(0.5))


def nids(*, step_size: StepSize, c: float = 0.5) -> Method:
    """x+ = V (2 x - x' - eta (g(x) - g(x'))),  V = I - c (I - W).

    NIDS with one step size for all agents (Li, Shi, Yan 2019), c theirs times eta; at c = 1/2 the
    iteration is exact diffusion's. Its first round is one of ATC with V, as there.

    Args:
        step_size: eta, a number or `of_limit(share)`.
        c: of V, in units of the step size, in [0, 1].

    Returns:
        The method, for `predict`, `train` and all other questions.

    Raises:
        InputError: for settings outside these ranges.

    Example:
        >>> round(nd.step_size_limit(bare, nd.methods.nids(step_size=0.1), W), 4)
        1.3953
    """
    needs = Needs(symmetric=True, fixed=True, above=-1 / 3)
    return _local(updates.D2(step_size), "nids", needs, mixing.Fixed(c))


def gut(*, step_size: StepSize, mu: float = 0.9, gamma: float = 1.0) -> Method:
    """y <- g - G/eta + mu (W y - g'),  x <- x - eta y,  G = W x - x, g = g(x + gamma G).

    Global update tracking (Aketi, Hashemi, Roy 2023), as its authors' code has it at gamma = 1: the
    gradient is taken at the gossiped point, the step from the one before gossip. For gamma < 1 that
    code is another algorithm: where it takes the gossip back it multiplies it by gamma twice.

    Gossip alone must be stable, whatever eta: where g = 0, an eigenvalue lambda of W goes as
    z^2 - (1 + mu) lambda z + mu lambda = 0 (derived here), so that real lambda must be above
    -1/(1 + 2 mu). At mu = 0.9 the complex ones of a directed ring with uniform weights give
    |z| > 1 from four agents on; at mu = 0.3 they do not.

    `floats_sent` counts on neighbours who remember what they heard the round before; on a graph
    that changes, a new one needs that too, which is not counted.

    Args:
        step_size: eta, a number or `of_limit(share)`.
        mu: what is kept of the tracked gradient, in [0, 1).
        gamma: averaging rate, in [0, 1].

    Returns:
        The method, for `predict`, `train` and all other questions.

    Raises:
        InputError: for settings outside these ranges.

    Example:
        >>> round(nd.step_size_limit(bare, nd.methods.gut(step_size=0.1), W), 4)
        1.7143
    """
    return _local(updates.GUT(step_size, mu, 0.0, gamma), "gut")


def qg_gutm(
    *,
    step_size: StepSize,
    mu: float = 0.06,
    beta: float = 0.9,
    gamma: float = 1.0,
    nesterov: bool = False,
) -> Method:
    """y <- d + mu (W (x' - x)/eta - b G'/eta - d'),  m <- beta m + y,  x <- x - eta m.

    Global update tracking with quasi-global momentum (Aketi, Hashemi, Roy 2023), as its authors'
    code has it at gamma = 1 (below, see `gut`): d = g(x + gamma G) - G/eta, G = W x - x,
    b = 1 + beta (+ beta^2 and a step of y + beta m with `nesterov`).

    Args:
        step_size: eta, a number or `of_limit(share)`.
        mu: what is kept of the tracked gradient, in [0, 1).
        beta: what is kept of the momentum in a round, in [0, 1).
        gamma: averaging rate, in [0, 1].
        nesterov: whether the step is y + beta m.

    Returns:
        The method, for `predict`, `train` and all other questions.

    Raises:
        InputError: for settings outside these ranges.

    Example:
        >>> round(nd.step_size_limit(bare, nd.methods.qg_gutm(step_size=0.1), W), 4)
        3.1698
    """
    return _local(updates.GUT(step_size, mu, beta, gamma, nesterov), "qg_gutm")


def qg_dsgdm(*, step_size: StepSize, beta: float = 0.9, mu: float = 0.1) -> Method:
    """x+ = W (x - eta (beta m + g(x))),  m <- (1 - mu) m + mu (x - x+)/eta.

    Quasi-global momentum (Lin et al. 2021), as its authors' code has it: the momentum sees only
    what is left of a step after mixing.

    Args:
        step_size: eta, a number or `of_limit(share)`.
        beta: what is kept of the momentum in a round, in [0, 1).
        mu: the share of the last displacement in the momentum, in [0, 1].

    Returns:
        The method, for `predict`, `train` and all other questions.

    Raises:
        InputError: for settings outside these ranges.

    Example:
        >>> round(nd.step_size_limit(bare, nd.methods.qg_dsgdm(step_size=0.1), W), 4)
        1.7955
    """
    return _local(updates.QuasiGlobal(step_size, beta, mu), "qg_dsgdm")


def qg_dsgdm_n(*, step_size: StepSize, beta: float = 0.9, mu: float = 0.1) -> Method:
    """x+ = W (x - eta (g(x) + beta (beta m + g(x)))),  m <- (1 - mu) m + mu (x - x+)/eta.

    Quasi-global momentum with Nesterov's step (Lin et al. 2021).

    Args:
        step_size: eta, a number or `of_limit(share)`.
        beta: what is kept of the momentum in a round, in [0, 1).
        mu: the share of the last displacement in the momentum, in [0, 1].

    Returns:
        The method, for `predict`, `train` and all other questions.

    Raises:
        InputError: for settings outside these ranges.

    Example:
        >>> round(nd.step_size_limit(bare, nd.methods.qg_dsgdm_n(step_size=0.1), W), 4)
        0.9407
    """
    return _local(updates.QuasiGlobal(step_size, beta, mu, True), "qg_dsgdm_n")


def local_sgd(*, step_size: StepSize, tau: int = 4) -> Method:
    """x_i <- x_i - eta g_i(x_i), and in every tau-th round then x_i <- sum_j W_ij x_j.

    Decentralized local SGD: `periodic(atc, tau)` (Koloskova et al. 2020).

    Args:
        step_size: eta, a number or `of_limit(share)`.
        tau: rounds from one exchange to the next.

    Returns:
        The method, for `predict`, `train` and all other questions.

    Raises:
        InputError: for settings outside these ranges.

    Example:
        >>> round(nd.step_size_limit(bare, nd.methods.local_sgd(step_size=0.1), W), 4)
        1.3333
    """
    rule = mixing.Periodic(mixing.Fixed(), tau)
    return _local(updates.ATC(step_size), "local_sgd", rule=rule)


def push_sum(*, step_size: StepSize) -> Method:
    """u = P (w x - eta g(x)),  w <- P w,  x_i <- u_i / w_i,  with P column-stochastic.

    Stochastic gradient push (Nedic, Olshevsky 2016; Assran et al. 2019). `graphs.push` makes P.

    Args:
        step_size: eta, a number or `of_limit(share)`.

    Returns:
        The method, for `predict`, `train` and all other questions.

    Raises:
        InputError: for settings outside these ranges.

    Example:
        >>> nd.methods.push_sum(step_size=0.1).wants
        'column-stochastic'
    """
    return _local(updates.PushSum(step_size), "push_sum", Needs(columns=True))


def drt(
    *,
    step_size: StepSize,
    variant: str = "squared",
    kappa: float = 1e-8,
    cap: float = 10.0,
    normalised: str = "rows",
) -> Method:
    """psi_k = x_k - eta g_k(x_k),  x_k^(p) <- sum_l A^(p)_kl psi_l^(p),  A from relative trust.

    DRT diffusion (Li, Fainman, Vlaski 2025), weights layer by layer from how far networks are
    apart; the formula of A is our reconstruction, in ntkdyn/methods/trust.py.

    Args:
        step_size: eta, a number or `of_limit(share)`.
        variant: "squared" or "unsquared" distances.
        kappa: added to squared norms, positive.
        cap: the most that a weight may be off its geometric mean, from 1 on.
        normalised: "rows", or "symmetric", which is doubly stochastic.

    Returns:
        The method, for `predict`, `train` and all other questions.

    Raises:
        InputError: for settings outside these ranges.

    Example:
        >>> nd.methods.drt(step_size=0.1).view
        'layers'
    """
    rule = DRT(variant, kappa, cap, normalised)
    needs = Needs(mutual=normalised == "symmetric")
    return _local(updates.ATC(step_size), "drt", needs, rule)


def dimat(
    *,
    step_size: StepSize,
    tau: int = 50,
    optimiser: str = "adam",
    by: str = "activations",
    data: str = "own",
) -> Method:
    """x_i <- x_i - eta d_i(x_i), and in every tau-th round then x_i <- sum_j W_ij P_ij x_j.

    DIMAT (Saadati et al. 2024), as its authors' code has it: d is the direction of an optax
    optimiser that starts afresh after each merge, P_ij aligns j's neurons with i's
    (ntkdyn/methods/merging.py). With `by="weights"` each neighbour is matched with i alone, which
    is theirs for one neighbour only.

    Args:
        step_size: eta, a number or `of_limit(share)`.
        tau: rounds from one merge to the next.
        optimiser: "sgd", "momentum" or "adam".
        by: "activations" or "weights", that neurons are matched by.
        data: "own", "neighbours" or "all", whose points activations are seen at.

    Returns:
        The method, for `predict`, `train` and all other questions.

    Raises:
        InputError: for settings outside these ranges.

    Example:
        >>> sorted(nd.methods.dimat(step_size=0.1).spaces)
        ['network', 'tangent']
    """
    update = updates.LocalOptimiser(step_size, optimiser, tau)
    return _local(update, "dimat", rule=mixing.Periodic(Merge(by, data), tau))


def ccl(
    *,
    step_size: StepSize,
    beta: float = 0.9,
    lambda_m: float = 0.1,
    lambda_d: float = 0.1,
    nesterov: bool = True,
    gamma: float = 1.0,
) -> Method:
    """v = W x,  m <- beta (m - (v - x)/eta) + g(v),  x <- v - eta (g(v) + beta m),  g of L + CCL.

    Cross-feature contrastive loss (Aketi, Roy 2024), as its authors' code has it: g is the gradient
    of the loss and of two attractions between features (ntkdyn/methods/cross_features.py), the base
    that of QG-DSGDm-N in the order combine, then adapt; v = x + gamma (W x - x) with an averaging
    rate gamma, 0.9 in their runs on the torus and the Dyck graph.

    Args:
        step_size: eta, a number or `of_limit(share)`.
        beta: what is kept of the momentum in a round, in [0, 1).
        lambda_m: weight of the attraction to features of models, not negative.
        lambda_d: weight of the attraction to features of data, not negative.
        nesterov: whether the step is g + beta m.
        gamma: averaging rate, in [0, 1].

    Returns:
        The method, for `predict`, `train` and all other questions.

    Raises:
        InputError: for settings outside these ranges.

    Example:
        >>> nd.methods.ccl(step_size=0.1).wants
        'symmetric, fixed'
    """
    update = updates.QuasiGlobalCTA(step_size, beta, nesterov)
    objective = CrossFeature(lambda_m, lambda_d)
    needs = Needs(symmetric=True, fixed=True)
    return Method("ccl", update, mixing.Fixed(gamma), objective, needs)


def mhd(
    *,
    step_size: StepSize,
    aux: int = 2,
    nu_emb: float = 1.0,
    nu_aux: float = 3.0,
    teachers: int = 1,
    public_batch: int = 32,
    own_too: bool = False,
    pool: int = 4,
    pool_every: int = 10,
    seed: int = 0,
) -> Method:
    """x_i <- x_i - eta g_i(x_i; what teachers say of public points).

    Multi-headed distillation (Zhmoginov et al. 2023), a reconstruction: the loss of the main head,
    embeddings drawn together, and `aux` heads, each imitating the one before it of the most
    confident teacher (ntkdyn/methods/distillation.py). Only outputs on public points are sent.

    Args:
        step_size: eta, a number or `of_limit(share)`.
        aux: auxiliary heads.
        nu_emb: weight of the distance of embeddings.
        nu_aux: weight of imitation.
        teachers: how many each agent listens to in a round.
        public_batch: public points in a round.
        own_too: whether an agent may be its own teacher.
        pool: checkpoints that are kept.
        pool_every: rounds from one to the next.
        seed: draws public points and teachers.

    Returns:
        The method, for `predict`, `train` and all other questions.

    Raises:
        InputError: for settings outside these ranges.

    Example:
        >>> nd.methods.mhd(step_size=0.1, aux=2).heads
        3
    """
    objective = Distillation(
        aux, nu_emb, nu_aux, teachers, public_batch, own_too, pool, pool_every, seed
    )
    update = updates.PooledSGD(step_size, pool, pool_every)
    return Method("mhd", update, mixing.Fixed(), objective, Needs(fixed=True))


METHODS = {
    make.__name__: make
    for make in (
        dgd, cta, atc, heavy_ball, nesterov, diging, atc_tracking, aug_dgm, extra,
        exact_diffusion, d2, nids, gut, qg_gutm, qg_dsgdm, qg_dsgdm_n, local_sgd, push_sum,
        drt, dimat, ccl, mhd,
    )
}  # fmt: skip

__all__ = ["METHODS", "Method", "Needs", "OfLimit", "StepSize", "by_agent", "clipped"]
__all__ += ["cosine", "damped", "of_limit", "periodic", "scheduled", "step_decay", "warm_up"]
__all__ += ["weight_decay", "weighted"]
__all__ += list(METHODS)

__getattr__, __dir__ = public(__name__, __all__)
