"""Fitted transforms of profiles, in numpy and scikit-learn. No JAX here."""
