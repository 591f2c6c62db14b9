"""Prompts, and verifiable tasks with a difficulty."""
