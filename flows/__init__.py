"""Wiring: Prefect flows over the components, and the command line. No logic of its own."""
