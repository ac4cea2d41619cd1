"""Parameters of a release of the data set."""

from typing import Literal

from pydantic import BaseModel, Field


class CoverageParameters(BaseModel):
    """How coverage is computed."""

    cell_m: float = Field(
        250, ge=10, le=10_000, description="Side of the cells, metres; a cell is seen if its centre is clear."
    )


class ReleaseParameters(BaseModel):
    """What a release contains, and who publishes it."""

    version: str = Field(
        "1.0", pattern=r"^\w+(\.\w+)*$", description="Version of the release. A published version never changes."
    )
    name: str = Field("RTS", pattern=r"^[\w-]+$", description="First part of all file names.")
    title: str = Field("Retrogressive thaw slumps mapped by darts_assets", description="Title of the data set.")
    description: str = Field("", description="A paragraph for the README: area, purpose, review.")
    authors: list[str] = Field([], description="Authors as `Family, Given` or `Family, Given (ORCID)`, in order.")
    institution: str = Field("", description="Publishing institution; it is the author if `authors` is empty.")
    contact: str = Field("", description="E-mail address or URL for questions.")
    doi: str = Field("", pattern=r"^(10\.\d{4,9}/\S+)?$", description="DOI of the release, such as 10.1234/abc.")
    licence: str = Field("CC-BY-4.0", description="Licence of the data set: an SPDX identifier, or `other`.")
    date: str = Field(
        "", pattern=r"^(\d{4}-\d{2}-\d{2})?$", description="Date of the release, YYYY-MM-DD; left out if empty."
    )
    first_year: int | None = Field(None, description="First year of the release. Default: the first one with a site.")
    last_year: int | None = Field(None, description="Last year of the release. Default: the last one with a site.")
    include_rejected: bool = Field(False, description="Keep sites that reviewers rejected, and their detections.")
    profile: Literal["both", "darts_assets", "darts"] = Field(
        "both",
        description="Layout of Level 1 and Level 2: ours (majority outline, k of n), that of the DARTS database "
        "(maximum extent by year), or both.",
    )
    arts: Literal["none", "reviewed", "all"] = Field(
        "reviewed", description="Sites of the export in the format of ARTS: none, those with a verdict, or all."
    )
    region_name: str = Field("", description="`RegionName` of the ARTS export. Default: the grid zone.")
    creator_lab: str = Field("", description="`CreatorLab` of the ARTS export. Default: the institution.")
