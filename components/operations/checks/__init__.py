"""What `genwright doctor` looks at, found by name: a file here is a check, and defines `check(installation)`.

It yields a `Finding` for each thing that it looked at, and raises GenwrightError where it cannot look. It changes nothing that
stays.
"""
