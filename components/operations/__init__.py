"""What an operator does with what runs: start and stop a stack (`stack`), look for what is wrong (`checks`), free what nothing
needs (`unused`)."""
