"""The sampler as one ONNX graph, its parity with torch, and the sealed bundle."""
