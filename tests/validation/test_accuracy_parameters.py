"""Rules and limits of the parameters."""

import pytest

from darts_assets.errors import SettingsError
from darts_assets.validation.accuracy_parameters import AccuracyParameters, OverlapRule, overlap_rule


@pytest.mark.parametrize(
    ("text", "rule"),
    [("any", ("any", 0.0)), ("smaller 0.25", ("smaller", 0.25)), (" iou .5", ("iou", 0.5)), ("iou 1", ("iou", 1.0))],
)
def test_rules(text: str, rule: tuple[str, float]) -> None:
    assert overlap_rule(text) == rule
    assert str(OverlapRule("iou", 0.50)) == "iou 0.5"


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"rules": ["iou 50"]}, "rules has 'iou 50', expected 'any', 'smaller X' or 'iou X'"),
        ({"rules": ["smaller 0"]}, "rules has 'smaller 0'"),
        ({"rules": []}, "one or more different rules"),
        ({"rules": ["iou 0.5", "iou 0.50"]}, "one or more different rules"),
        ({"size_classes": [1000, 500]}, "ascending"),
        ({"min_coverage": 0}, "min_coverage is 0"),
        ({"block_km": -1}, "block_km is -1"),
    ],
)
def test_unusable_parameters(parameters: dict[str, object], message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        AccuracyParameters(**parameters)
