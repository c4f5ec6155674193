"""From a published text encoder to a folder of ONNX and a tokenizer, which all else reads (components/runtime/prompts.py)."""
