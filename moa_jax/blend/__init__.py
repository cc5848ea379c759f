"""Blending: what is blended, search for weights, the weighted mean, diversity of the models."""
