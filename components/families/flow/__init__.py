"""Normalising flows: an exact density by the change of variables, one pass both ways."""
