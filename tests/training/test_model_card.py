"""Sentences of model cards; whole cards are read in `tests/orchestration/training/test_folds.py`."""

from darts_assets.training.model_card import experts_sentence


def test_experts_are_compared_with_each_other() -> None:
    experts = {"number": 12, "mean_iou": 0.592, "lowest_iou": 0.339, "highest_iou": 0.768}
    assert experts_sentence(experts) == (
        "12 experts outlined the slumps; the IoU of two of them is 0.592 on average (0.339 to 0.768). A model is "
        "compared with their majority."
    )
    assert experts_sentence({}) == experts_sentence({"number": 1}) == ""
