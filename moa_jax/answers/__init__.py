"""Answers: from probabilities of wells to mechanisms of compounds, and how sure that is."""
