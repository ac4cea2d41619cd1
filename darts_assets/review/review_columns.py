"""Columns of tables of sites and slumps that come from the verdicts of reviewers."""

REVIEW_COLUMNS = {"reviewed": "bool", "verdict": "str", "reviewers": "int64", "agreement": "float64"}

REVIEW_DESCRIPTIONS = {
    "reviewed": "whether a reviewer has judged the place",
    "verdict": "most frequent verdict of the reviewers: yes, no, unsure or redraw; empty without",
    "reviewers": "number of reviewers who have judged the place",
    "agreement": "share of these reviewers with that verdict; NaN without",
}
"""Column -> description."""

REJECTED = "no"
"""The verdict of sites that leave the published layer."""
