"""Figures: one per file, drawn from records alone."""

from ntkdyn.figures import overlay, rate_map, style, width

__all__ = ["overlay", "rate_map", "style", "width"]
