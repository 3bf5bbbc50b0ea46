"""Links: what happens to messages on their way, composable with every method.

    over(methods.dgd(step_size=0.1), delayed(2), lossy(0.1))

    delayed        some rounds late, all of them or link by link
    lossy          lost at random                       activated   agents asleep at random
    compressed     top_k, random_k, quantised, sign, with error feedback or as in CHOCO
    noisy          blurred, with a bound on what a message may move
    adversarial    false                                robust      combined by a rule that resists
    periodic       in every tau-th round                damped      at an averaging rate gamma

Delays, attacks that flip signs or stay put, and the expectation of losses and of `random_k`
(`expected`) are affine: closed forms, limits and stability hold as for any method. Losses and
sleeping agents run in every space, link by link the same in prediction and training; what looks at
single parameters is trained, and predicted with kernel="implicit". Over all draws of losses,
sleeping agents, Gaussian noise (without clip) and, on small networks, of `random_k`, runs have an
exact mean and covariance, `dynamics.link_noise`; what another compressor, a clip or a robust rule
makes of a kernel is not known.

A link of one's own is a `Link` with `exchange`; a compressor a function of (rows, key) with
`bits(parameters)`.
"""

from ntkdyn.errors import public
from ntkdyn.links.attacks import adversarial
from ntkdyn.links.compression import (  # noqa: F401
    COMPRESSORS,
    compressed,
    quantised,
    random_k,
    sign,
    top_k,
)
from ntkdyn.links.delays import delayed
from ntkdyn.links.failures import activated, lossy
from ntkdyn.links.link import Exchange, Failures, Link, Linked, Message, Onward
from ntkdyn.links.noise import noisy
from ntkdyn.links.over import damped, expected, over, periodic
from ntkdyn.links.robust import robust

LINKS = {
    make.__name__: make
    for make in (
        activated, adversarial, compressed, damped, delayed, lossy, noisy, periodic, robust,
    )
}  # fmt: skip
"""name -> what makes a link"""

__all__ = ["COMPRESSORS", "LINKS", "Exchange", "Failures", "Link", "Linked", "Message", "Onward"]
__all__ += ["expected", "over"]
__all__ += list(LINKS) + list(COMPRESSORS)

__getattr__, __dir__ = public(__name__, __all__)
