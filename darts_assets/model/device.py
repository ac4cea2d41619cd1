"""On which device a model runs."""

import logging
import re
from collections.abc import Iterable

import torch

from darts_assets.errors import SettingsError

logger = logging.getLogger(__name__)


def pick_device(device: str) -> torch.device:
    """The device for a setting.

    Args:
        device: `cpu`; `cuda` (the first GPU); `cuda:1` or `1` (that GPU); `auto` (the GPU with most free memory
            among those with less than half of it in use, else the CPU).

    Raises:
        SettingsError: if the setting is none of these, or names a GPU that is not there.
    """
    if device == "cpu":
        return torch.device("cpu")
    if device == "auto":
        index = emptiest(_memory()) if torch.cuda.is_available() else None
        return torch.device("cpu") if index is None else torch.device("cuda", index)
    match = re.fullmatch(r"cuda|(?:cuda:)?(\d+)", device)
    if match is None:
        raise SettingsError(f"device must be cpu, cuda, cuda:N, N or auto, not {device!r}")
    index, count = int(match[1] or 0), torch.cuda.device_count() if torch.cuda.is_available() else 0
    if index >= count:
        raise SettingsError(
            f"device {device!r} was asked for, but this machine has {count} GPU(s) that PyTorch can use"
        )
    return torch.device("cuda", index)


def describe_gpus() -> list[str]:
    """Index, name and memory of each GPU that PyTorch can use."""
    if not torch.cuda.is_available():
        return []
    properties = (torch.cuda.get_device_properties(index) for index in range(torch.cuda.device_count()))
    return [f"cuda:{index} {gpu.name} ({gpu.total_memory / 2**30:.0f} GiB)" for index, gpu in enumerate(properties)]


def emptiest(memory: Iterable[tuple[int, int, int]]) -> int | None:
    """Of (index, free bytes, total bytes), the index with most free memory, less than half in use; None if none."""
    free = {index: available for index, available, total in memory if total - available < total / 2}
    return max(free, key=lambda index: free[index]) if free else None


def _memory() -> Iterable[tuple[int, int, int]]:
    for index in range(torch.cuda.device_count()):
        try:
            yield index, *torch.cuda.mem_get_info(index)
        except RuntimeError as error:
            # A GPU held exclusively by somebody else answers so: it is not free.
            logger.warning("GPU %d is left out: %s", index, error)
