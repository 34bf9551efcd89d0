"""A finished run, written up as a page with figures and a file of all its numbers."""
