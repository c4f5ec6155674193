"""The command line: one file a group of commands, found together in app.py. Commands import what they need when they run."""
