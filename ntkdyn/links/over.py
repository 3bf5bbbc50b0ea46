"""A method whose messages go over links."""

from __future__ import annotations

from typing import NamedTuple

import equinox as eqx

from ntkdyn.errors import InputError, check_kind, check_whole
from ntkdyn.links.delays import DelayedByLink
from ntkdyn.links.failures import Lossy
from ntkdyn.links.link import Link, Linked
from ntkdyn.links.robust import Robust
from ntkdyn.methods import Method, damped as damp, periodic as every
from ntkdyn.methods.mixing import Fixed, Periodic


class Every(NamedTuple):
    """Messages in every tau-th round only."""

    tau: int


class Rate(NamedTuple):
    """An averaging rate gamma."""

    gamma: float


def periodic(tau: int) -> Every:
    """Messages in every tau-th round only, and no exchange in the others: `methods.periodic`.

    Args:
        tau: rounds from one exchange to the next.

    Returns:
        The link, for `over`.

    Raises:
        InputError: for a tau that is not a whole number from 1 on.

    Example:
        >>> nd.links.periodic(4).tau
        4
    """
    return Every(check_whole("periodic: tau", tau, 1))


def damped(gamma: float) -> Rate:
    """W replaced by (1 - gamma) I + gamma W: `methods.damped`.

    Args:
        gamma: averaging rate, in [0, 1].

    Returns:
        The link, for `over`.

    Example:
        >>> nd.links.damped(0.5).gamma
        0.5
    """
    return Rate(gamma)


def over(method: Method, *links: Link | Every | Rate) -> Method:
    """The same method, its messages over these links, the first of them nearest to the sender.

    It runs where all of them do, has closed forms where all are affine, and `floats_sent` counts
    what they send.

    Args:
        method: that exchanges parameters by W.
        links: in the order in which messages meet them.

    Returns:
        The method.

    Raises:
        InputError: for a method that exchanges no parameters or weighs its neighbours by itself,
            and links that break what it needs of W.

    Example:
        >>> late = nd.links.over(dgd, nd.links.delayed(1), nd.links.lossy(0.2))
        >>> late.name, late.linear
        ('dgd over delayed, lossy', False)
    """
    check_kind("method", method, Method, "as `methods.dgd` gives")
    if isinstance(method.update, Linked):
        raise InputError(f"{method.name}: has links already; give all of them at once")
    for each in links:
        if isinstance(each, Every):
            method = every(method, each.tau)
        elif isinstance(each, Rate):
            method = damp(method, each.gamma)
    way = tuple(each for each in links if not isinstance(each, (Every, Rate)))
    if not way:
        return method
    _check(method, way)
    keeps = "columns" if method.needs.columns else "rows"
    name = f"{method.name} over {', '.join(link.name for link in way)}"
    update = Linked(method.update, way, keeps)
    return Method(name, update, method.mixing, method.objective, method.needs)


def expected(method: Method) -> Method:
    """The method over links that do on average what its own do: affine where they are linear.

    With the squared error it runs through the mean, over all draws of its links, of the agents'
    linearized parameters and outputs, if none of a round's messages depends on another of the same
    round that may be lost with it.

    Args:
        method: over links that are linear where they draw.

    Returns:
        The method.

    Raises:
        InputError: for links that are not linear, as top_k.

    Example:
        >>> nd.links.expected(nd.links.over(dgd, nd.links.lossy(0.2))).linear
        True
    """
    check_kind("method", method, Method, "as `methods.dgd` gives")
    if not isinstance(method.update, Linked):
        return method
    links = tuple(link.expected() for link in method.update.links)
    update = Linked(method.update.inner, links, method.update.keeps)
    return eqx.tree_at(lambda method: method.update, method, update)


def _check(method: Method, links: tuple[Link, ...]) -> None:
    """Refuse what cannot go together."""
    for link in links:
        check_kind("link", link, Link, "as `links.delayed` gives")
    rule = method.mixing.mixing if isinstance(method.mixing, Periodic) else method.mixing
    if not method.mixes or not isinstance(rule, Fixed) or method.objective.sends:
        raise InputError(
            f"{method.name}: takes no links: its agents exchange no parameters, weigh their "
            f"neighbours by themselves, or send more than parameters"
        )
    for link in links[:-1]:
        if isinstance(link, (Robust, DelayedByLink)):
            raise InputError(f"links: {link.name} combines messages, so it must be the last")
    needs = method.needs
    for link in links:
        if link.changes and needs.fixed:
            raise InputError(
                f"{method.name}: needs the same mixing matrix in every round, and "
                f"{link.name} links change it"
            )
        if isinstance(link, Lossy) and not link.mutual and needs.doubly:
            raise InputError(
                f"{method.name}: needs a doubly stochastic mixing matrix, and messages that are "
                f"lost in one direction leave none (mutual=True does)"
            )
