"""Layers of GemNet-T."""
