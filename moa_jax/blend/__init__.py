"""Blending: what is blended, search for weights, the weighted sum, diversity of the models."""
