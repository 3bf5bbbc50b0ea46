"""One look for all figures: sizes, colours, and how files are written.

Colours are Okabe and Ito's, which readers with any kind of colour vision tell apart; agents beyond
eight take evenly spaced colours of a perceptually uniform map. Sizes fit a column or the full width
of a two-column page.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import zlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import matplotlib
import numpy as np
import xarray as xr
from matplotlib.animation import FFMpegWriter, PillowWriter
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import LogLocator, NullFormatter

from ntkdyn.disk import MARK, whole_file
from ntkdyn.errors import InputError
from ntkdyn.records import agent_names

FORMATS = ("pdf", "svg", "png")

MARKS = 14
"""how many observations are marked on each curve"""

LONGEST_NAME = 9
"""characters of a name that are shown"""

COLUMN, DOUBLE = 3.4, 7.1
"""widths in inches"""

OKABE_ITO = (
    "#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#8C7A00", "#222222",
)  # fmt: skip

KERNELS = {"empirical": OKABE_ITO[0], "infinite": OKABE_ITO[5], "given": OKABE_ITO[2]}
"""one colour per kernel, in every figure"""

SPACES = {"network": OKABE_ITO[7], "tangent": OKABE_ITO[3], "kernel": OKABE_ITO[0]}
"""one colour per space: what is observed, and the two ways to predict"""

METHODS = {
    "dgd": "#0072B2", "cta": "#56B4E9", "atc": "#009E73", "diging": "#E69F00",
    "extra": "#D55E00", "exact_diffusion": "#CC79A7",
}  # fmt: skip
"""one colour per method, in every figure and page; `method_colour` gives the others theirs"""

METHOD_NAMES = {
    "dgd": "DGD", "cta": "CTA diffusion", "atc": "ATC diffusion", "diging": "gradient tracking",
    "extra": "EXTRA", "exact_diffusion": "exact diffusion",
}  # fmt: skip
"""how methods are written in figures"""

SETTINGS = {
    "font.family": "sans-serif",
    "font.size": 8,
    "axes.titlesize": 8.5,
    "axes.titlelocation": "left",
    "axes.labelsize": 8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.6,
    "xtick.labelsize": 7,
    "ytick.labelsize": 7,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "legend.fontsize": 7,
    "legend.frameon": False,
    "lines.linewidth": 1.2,
    "pdf.fonttype": 42,
    "svg.hashsalt": "ntkdyn",
    "figure.constrained_layout.use": True,
}


@contextlib.contextmanager
def styled() -> Iterator[None]:
    """Matplotlib with the settings above, without a window."""
    with matplotlib.rc_context(SETTINGS):
        yield


class Animation(NamedTuple):
    """A figure that changes: `show(frame)` draws one of the `frames` on it."""

    figure: Figure
    frames: list[int]
    show: Callable[[int], None]


def agent_colours(agents: int) -> list[str]:
    """One colour per agent, the same in every panel and figure."""
    if agents <= len(OKABE_ITO):
        return list(OKABE_ITO[:agents])
    shades = matplotlib.colormaps["viridis"](np.linspace(0, 0.85, agents))
    return [matplotlib.colors.to_hex(shade) for shade in shades]


def names_of_agents(record: xr.Dataset) -> list[str]:
    """What agents are called, short enough for a disc or a tick."""
    return [shortened(name) for name in agent_names(record)]


def shortened(name: str) -> str:
    """The first characters of a long name."""
    return name if len(name) <= LONGEST_NAME else f"{name[: LONGEST_NAME - 1]}…"


def method_colour(name: str) -> str:
    """The method's colour; a method without one of its own always gets the same shade."""
    if name in METHODS:
        return METHODS[name]
    return matplotlib.colors.to_hex(
        matplotlib.colormaps["viridis"](zlib.crc32(name.encode()) % 256)
    )


def method_name(name: str) -> str:
    """The method as figures write it."""
    return METHOD_NAMES.get(name, name.replace("_", " "))


def log_scale(axes: Axes) -> None:
    """A logarithmic scale whose labels stay few and plain; none where nothing is above zero."""
    axes.set_yscale("log")
    if _without_scale(axes):
        return
    low, high = axes.get_ylim()
    if low > 0 and high / low < 1e3:
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.yaxis.set_major_formatter("{x:g}")
    axes.yaxis.set_minor_formatter(NullFormatter())


def _without_scale(axes: Axes) -> bool:
    """Whether no line has a finite value above zero; then the scale is linear, and it says so."""
    shown = np.concatenate([np.ravel(line.get_ydata()) for line in axes.lines] or [[]])
    shown = shown.astype(float)
    if not len(shown) or (np.isfinite(shown) & (shown > 0)).any():
        return False
    axes.set_yscale("linear")
    said = "diverged" if np.isinf(shown).any() else "no finite value above zero"
    axes.text(0.5, 0.5, said, transform=axes.transAxes, ha="center", va="center", color="#555555")
    return True


def marks(axes: Axes, x: np.ndarray, y: np.ndarray, agent: int, colours: list[str]) -> None:
    """Some observations of one agent, shifted from agent to agent so that marks do not pile up."""
    spacing = max(1, len(x) // MARKS)
    some = np.arange(agent * spacing // len(colours), len(x), spacing)
    axes.plot(
        x[some], y[some], ls="none", marker="o", ms=3.2, mfc="white", mec=colours[agent], mew=0.8,
        zorder=3,
    )  # fmt: skip


def key_of_agents(axes: Axes, colours: list[str], names: Sequence[str]) -> None:
    """Which colour is which agent, below the axes; nothing where they are too many to name."""
    if len(colours) > 16:
        return
    lines = [
        Line2D([], [], color=colour, label=name)
        for colour, name in zip(colours, names, strict=True)
    ]
    axes.figure.legend(
        handles=lines, loc="outside lower center", ncols=8 if max(map(len, names)) < 3 else 4,
        title="agent", title_fontsize=7,
        handlelength=1.2, columnspacing=1,
    )  # fmt: skip


SAYS = {
    "png": {"Software": MARK},
    "pdf": {"Creator": MARK, "CreationDate": None},
    "svg": {"Creator": MARK, "Date": None},
}
"""format -> what its files say of themselves: who wrote them, and not when"""


def save(figure: Figure, path: Path, formats: tuple[str, ...] = ("png", "pdf")) -> list[Path]:
    """Write `path` with each of the endings; print resolution, no dates inside."""
    for axes in figure.axes:
        if axes.get_yscale() == "log":
            _without_scale(axes)
    written = []
    for ending in formats:
        target = path.with_suffix(f".{ending}")
        with whole_file(target) as unfinished:
            figure.savefig(unfinished, dpi=300, format=ending, metadata=SAYS.get(ending))
        written.append(target)
    return written


def _comment(path: Path) -> None:
    """Put a comment before the last byte of a GIF, which ends it."""
    text = MARK.encode()
    with path.open("r+b") as file:
        file.seek(-1, os.SEEK_END)
        file.write(b"\x21\xfe" + bytes([len(text)]) + text + b"\x00\x3b")


def save_animation(animation: Animation, path: Path) -> Path:
    """Write `path` as .gif, or as .mp4 where ffmpeg is installed."""
    writers = {".gif": PillowWriter, ".mp4": FFMpegWriter}
    if path.suffix not in writers:
        raise InputError(f"animation: the file must end in .gif or .mp4, got {path.name}")
    if not writers[path.suffix].isAvailable():
        raise InputError("animation: .mp4 needs ffmpeg, which is not installed; .gif does not")
    with whole_file(path) as unfinished, styled():
        writer = writers[path.suffix](fps=10, metadata={"comment": MARK})
        try:
            with writer.saving(animation.figure, unfinished, dpi=110):
                for frame in animation.frames:
                    animation.show(frame)
                    writer.grab_frame()
            if path.suffix == ".gif":
                _comment(unfinished)
        except subprocess.CalledProcessError:
            raise InputError(f"output: cannot write {path}; ffmpeg stopped") from None
    return path
