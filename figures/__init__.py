"""Figures: one per file, drawn from records alone."""

from ntkdyn.figures import overlay, style, width

__all__ = ["overlay", "style", "width"]
