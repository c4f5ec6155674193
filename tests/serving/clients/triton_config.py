# /// script
# requires-python = ">=3.11"
# dependencies = ["tritonclient[grpc]==2.73.0"]
# ///
"""Triton's own definition of config.pbtxt, against the file at argv[1]: prints what it read as JSON."""

import json
import sys
from pathlib import Path

from google.protobuf import text_format
from tritonclient.grpc import model_config_pb2

config = text_format.Parse(Path(sys.argv[1]).read_text(), model_config_pb2.ModelConfig())
inputs = {each.name: [model_config_pb2.DataType.Name(each.data_type), [*each.dims]] for each in config.input}
said = {"name": config.name, "max_batch_size": config.max_batch_size, "inputs": inputs}
print(json.dumps(said | {"outputs": [each.name for each in config.output]}))
