"""Find where a language model integrates information, and what of that survives its controls."""
