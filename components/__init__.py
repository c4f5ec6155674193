"""The parts of genwright. Imports point one way: flows > parts > families, data > core (see pyproject.toml, import-linter)."""
