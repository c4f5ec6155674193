"""The stack of one machine: servers and workers as processes, which `genwright up` starts and `genwright down` ends."""
