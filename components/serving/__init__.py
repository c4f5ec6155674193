"""Serves one bundle over HTTP with ONNX Runtime: the Open Inference Protocol v2, and items for people."""
