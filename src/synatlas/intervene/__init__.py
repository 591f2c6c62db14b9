"""Ablate units in chosen orders, and compare the damage with that of random units."""
