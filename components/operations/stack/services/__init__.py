"""The services of the stack, found by name: a file here is one, and defines `service` (operations/stack/service.py)."""
