"""Serves one bundle over HTTP with ONNX Runtime: the Open Inference Protocol v2, and images for people."""
