"""Kinds of items, found by name: a folder here whose package defines `modality` is one (core/modality.py has the contract)."""
