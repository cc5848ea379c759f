"""What comes in: tables, simulated data and fold assignments. No JAX here."""
