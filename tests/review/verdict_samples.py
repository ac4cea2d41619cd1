"""Verdicts for tests."""

import uuid
from typing import Any

from darts_assets.review.verdict_record import Verdict

SQUARE = [[[-135.0, 68.5], [-134.9, 68.5], [-134.9, 68.6], [-135.0, 68.6], [-135.0, 68.5]]]


def record(**values: Any) -> dict[str, Any]:
    """A valid record, with some values replaced."""
    return {
        "id": str(uuid.uuid4()),
        "time": "2026-07-01T12:00:00Z",
        "reviewer": "Ada",
        "verdict": "yes",
        "note": "",
        "slump_id": "rts-2023-68.5500N-134.9500W",
        "site_id": "rts-2024-68.5500N-134.9500W",
        "year": 2024,
        "outline": {"type": "Polygon", "coordinates": SQUARE},
        "mean_probability": 0.75,
        "inventory_version": "20261130T120000Z-00000000",
        **values,
    }


def verdict(**values: Any) -> Verdict:
    return Verdict.model_validate(record(**values))
