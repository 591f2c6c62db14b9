"""Stage 1: model and prompts to Recording."""
