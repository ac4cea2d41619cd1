"""Commands that people copy from messages."""

import json
import shlex
from collections.abc import Mapping
from typing import Any


def job_command(job: str, step: str, config: Mapping[str, Any]) -> str:
    """The command that runs a job; `config` is that of its first step."""
    run_config = json.dumps({"ops": {step: {"config": dict(config)}}})
    return f"echo {shlex.quote(run_config)} | dagster job execute -m darts_assets -j {job} -c /dev/stdin"
