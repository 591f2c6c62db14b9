"""Stage 2: the sixteen information atoms of every pair of units, and what their nulls give."""
