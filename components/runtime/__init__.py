"""Around the work: ONNX Runtime sessions, processes, CPUs, memory, threads, signals, and what a person sees meanwhile."""
