"""Measurements for docs/potentials.md."""
