"""Output of steps in the store, so that the UI shows it after their pods are gone."""

import tempfile
from collections.abc import Mapping
from typing import Any

from darts_assets.orchestration.core.dagster_compat import LocalComputeLogManager
from darts_assets.settings import settings
from darts_assets.stores.location import StoreLocation

FOLDER = "logs"
"""Folder of the store."""

UPLOAD_SECONDS = 30
"""Seconds between uploads of the output of a step that still runs: what is left of a killed one."""


class StoreLogManager(LocalComputeLogManager):
    """For `compute_logs` of `dagster.yaml`: keeps output in `logs/` of the store, with the store's credentials."""

    @classmethod
    def config_type(cls) -> dict[str, Any]:
        """There is none; the settings contain the store."""
        return {}

    @classmethod
    def from_config_value(cls, inst_data: Any, config_value: Mapping[str, Any]) -> Any:
        """A manager of a folder or of an S3 prefix."""
        return log_manager(settings().root.child(FOLDER), inst_data)


def log_manager(folder: StoreLocation, inst_data: Any = None) -> Any:
    """Dagster's manager of captured output that suits a location."""
    if folder.is_local:
        return LocalComputeLogManager(str(folder.path), inst_data=inst_data)
    from dagster_obstore.s3 import S3ComputeLogManager

    return S3ComputeLogManager(
        bucket=folder.bucket,
        prefix=folder.prefix,
        local_dir=tempfile.gettempdir(),
        endpoint=folder.endpoint,
        region=folder.region,
        allow_http=bool(folder.endpoint and folder.endpoint.startswith("http://")),
        extra_s3_args={"virtual_hosted_style_request": False} if folder.endpoint else None,
        skip_empty_files=True,
        upload_interval=UPLOAD_SECONDS,
        inst_data=inst_data,
    )
