"""Kinds of object stores, found by name: a file here is the scheme of a URI, and opens it.

It defines `FORM`, what such a URI looks like, and `opened(rest, *, uri, endpoint, region) -> ObjectStore` of what follows the
scheme, which contacts nothing yet and raises SettingsError. core/protocols.py has the contract of a store.
"""
