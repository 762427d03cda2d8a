"""The original system moves in."""
