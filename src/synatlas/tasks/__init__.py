"""Prompts and verifiable questions: the battery, prompt files, and generators with a difficulty."""
