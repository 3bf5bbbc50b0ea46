"""Spectrum: the eigenvalues of one round of a method, and the disc in which errors shrink."""

from __future__ import annotations

import numpy as np
import xarray as xr
from matplotlib.figure import Figure
from matplotlib.patches import Circle
from ntkdyn.figures.style import COLUMN, OKABE_ITO, method_name, styled

NEEDS = (("eigenvalue_real", "eigenvalue_imag"),)


def draw(table: xr.Dataset) -> Figure:
    """z in the complex plane; those outside the unit disc in another colour and shape.

    Reads `eigenvalue_real` and `eigenvalue_imag` (eigenvalue), as `dynamics.spectrum` gives them.
    """
    values = table["eigenvalue_real"].values + 1j * table["eigenvalue_imag"].values
    outside = np.abs(values) > 1 + 1e-9
    with styled():
        figure = Figure(figsize=(COLUMN, 3.2))
        axes = figure.subplots()
        axes.add_patch(Circle((0, 0), 1, fc="#f0f3f6", ec="#8a8a8a", lw=0.9, zorder=0))
        axes.axhline(0, color="#c8c8c8", lw=0.6, zorder=1)
        axes.axvline(0, color="#c8c8c8", lw=0.6, zorder=1)
        looks = {"ls": "none", "alpha": 0.75, "mew": 0.8, "zorder": 3}
        inside = values[~outside]
        axes.plot(inside.real, inside.imag, "o", ms=3, mfc="none", mec=OKABE_ITO[0],
                  label=f"{len(inside)} inside", **looks)  # fmt: skip
        if outside.any():
            out = values[outside]
            axes.plot(out.real, out.imag, "x", ms=4.5, mec=OKABE_ITO[5],
                      label=f"{len(out)} outside: errors grow", **looks)  # fmt: skip
        reach = 1.08 * max(1, np.abs(values).max(initial=0))
        axes.set_xlim(-reach, reach)
        axes.set_ylim(-reach, reach)
        axes.set_aspect("equal")
        axes.set_xlabel("real part")
        axes.set_ylabel("imaginary part")
        axes.set_title(_title(table))
        figure.legend(loc="outside lower center", ncols=2)
        return figure


def _title(table: xr.Dataset) -> str:
    name = method_name(table.attrs.get("method", "one round"))
    limit, step = table.attrs.get("step_size_limit"), table.attrs.get("step_size")
    return name if not (limit and step) else f"{name}, η = {step / limit:.2g} of the limit"
