"""The one trainer, its checkpoints, and the subprocess it runs in."""
