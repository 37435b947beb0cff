"""Figures that belong to no paper: overviews of a result."""
