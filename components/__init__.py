"""The parts of genwright. Imports point one way: flows > pipeline > parts > families, data > runtime > core (import-linter)."""
