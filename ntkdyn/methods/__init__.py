"""Methods: update x mixing x objective.

    dgd   x <- W x - eta g(x)          descend while combining
    cta   x <- W x - eta g(W x)        combine, then adapt
    atc   x <- W (x - eta g(x))        adapt, then combine

(the three lines of Chaudhari et al. 2025 as papers/p2p-dynamics reads them; some authors call the
first one combine-then-adapt). A method is written once and runs in every space.
"""

from __future__ import annotations

import equinox as eqx

from ntkdyn.methods import mixing, objectives, updates
from ntkdyn.methods.updates import OfLimit, StepSize

of_limit = OfLimit


class Method(eqx.Module):
    """A product of three choices, and the name it goes by."""

    name: str = eqx.field(static=True)
    update: updates.Update
    mixing: mixing.Fixed
    objective: objectives.Local

    @property
    def step_size(self) -> StepSize:
        return self.update.step_size

    def with_step_size(self, step_size: StepSize) -> Method:
        """The same method with another step size."""
        return eqx.tree_at(
            lambda method: method.update.step_size,
            self,
            step_size,
            is_leaf=lambda leaf: isinstance(leaf, OfLimit),
        )


def _local(name: str, update: updates.Update) -> Method:
    return Method(name, update, mixing.Fixed(), objectives.Local())


def dgd(*, step_size: StepSize) -> Method:
    """x_i <- sum_j W_ij x_j - eta grad L_i(x_i).

    Decentralized gradient descent (Nedic, Ozdaglar 2009).
    """
    return _local("dgd", updates.DGD(step_size))


def cta(*, step_size: StepSize) -> Method:
    """v_i = sum_j W_ij x_j,  x_i <- v_i - eta grad L_i(v_i).

    Combine-then-adapt diffusion (Sayed 2014).
    """
    return _local("cta", updates.CTA(step_size))


def atc(*, step_size: StepSize) -> Method:
    """x_i <- sum_j W_ij (x_j - eta grad L_j(x_j)).

    Adapt-then-combine diffusion (Sayed 2014).
    """
    return _local("atc", updates.ATC(step_size))


METHODS = {make.__name__: make for make in (dgd, cta, atc)}
