"""Parameters of postprocessing and of the exported products."""

from typing import Literal, get_args

from pydantic import Field

from darts_assets.parameters import Parameters

QualityLevel = Literal["none", "low", "high"]

DEFAULT_PRODUCTS = ("probabilities", "binarized", "polygonized", "extent", "thumbnail", "chips", "metadata")


class PostprocessParameters(Parameters):
    """How probabilities become objects."""

    quality_level: QualityLevel = Field(
        default="low",
        description="Lowest quality of the valid area; `none`: every pixel, eroded only at the tile's border.",
    )
    mask_erosion_size: int = Field(
        default=10, ge=0, description="Radius of the disk that erodes the valid area, pixels; 0: no erosion."
    )
    edge_erosion_size: int | None = Field(
        default=None, ge=0, description="Pixels removed at each side of the tile; null: `mask_erosion_size`, 0: none."
    )
    threshold: float = Field(
        default=0.5,
        ge=0,
        le=1,
        description="Probability, 0 to 1, above which a pixel is a detection; exact up to four decimals.",
    )
    min_object_size: int = Field(
        default=32, ge=0, description="Smallest size of an object, pixels; smaller 8-connected objects are dropped."
    )
    drop_edge_objects: bool = Field(
        default=False,
        description="Drop objects at the border of the valid area or of the tile, instead of flagging them "
        "(`touches_edge`).",
    )

    @property
    def lowest_quality(self) -> int:
        """The lowest `quality_data_mask` value of the valid area: 0, 1 or 2."""
        return get_args(QualityLevel).index(self.quality_level)

    @property
    def border(self) -> int:
        """The number of pixels removed at each side of the tile."""
        return self.mask_erosion_size if self.edge_erosion_size is None else self.edge_erosion_size


class ProductParameters(Parameters):
    """The exported products."""

    products: list[str] = Field(
        default=list(DEFAULT_PRODUCTS),
        description="Products to write: `probabilities binarized polygonized extent thumbnail chips optical dem "
        "tcvis metadata`, or any band by name.",
    )
    write_model_outputs: bool = Field(
        default=False,
        description="Also write each model's probabilities, binarized raster and polygons; needs `keep_models` of "
        "`segmentation`.",
    )
