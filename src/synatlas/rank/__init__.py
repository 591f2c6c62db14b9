"""Stage 3: Atoms to Atlas."""
