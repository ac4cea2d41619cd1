"""Code version, parameters and input versions of a materialization."""

import hashlib
import json
from collections.abc import Mapping
from importlib.metadata import version
from typing import Any


def data_version(code_version: str, parameters: Mapping[str, Any], **inputs: str) -> str:
    """A version of a step's output: the same code, parameters and inputs give the same version."""
    text = json.dumps([code_version, parameters, inputs], sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def provenance(code_version: str, parameters: Mapping[str, Any], **inputs: str) -> dict[str, Any]:
    """JSON facts for manifests and metadata: code, config and inputs of a step."""
    return {
        "code_version": f"{version('darts_assets')}+{code_version}",
        "parameters": json.loads(json.dumps(parameters, default=str)),
        "inputs": inputs,
        "data_version": data_version(code_version, parameters, **inputs),
    }
