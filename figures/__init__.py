"""Figures: one per file, drawn from records alone."""

from ntkdyn.figures import bias, overlay, style, width

__all__ = ["bias", "overlay", "style", "width"]
