"""Asset `validation/accuracy`: the inventory, or polygons of a file, against a reference inventory."""

import hashlib
import re
from pathlib import PurePath
from typing import TYPE_CHECKING, Any

import dagster as dg
from pydantic import Field

from darts_assets.errors import SettingsError
from darts_assets.orchestration.core.error_handling import StepConfig, domain_call
from darts_assets.orchestration.core.metadata import materialize_result, picture, provenance
from darts_assets.orchestration.core.partitions import OWNER
from darts_assets.orchestration.core.pod_resources import op_tags
from darts_assets.orchestration.core.resources import Store
from darts_assets.orchestration.core.scene_store import SceneRegistry
from darts_assets.orchestration.core.step_metrics import measured
from darts_assets.orchestration.inventory.assets import GROUP as INVENTORY
from darts_assets.orchestration.inventory.assets import SLUMPS
from darts_assets.redaction import shown_values
from darts_assets.stores.latest import LATEST
from darts_assets.validation.accuracy_parameters import AccuracyParameters, ObjectColumns

if TYPE_CHECKING:
    import geopandas as gpd
    import pandas as pd

    from darts_assets.validation.accuracy_figures import Accuracy
    from darts_assets.validation.outcomes import Observed

CODE_VERSION = "1"
GROUP = "validation"
ACCURACY = dg.AssetKey([GROUP, "accuracy"])

_SHOWN = ("reference", "reference_hit", "ours", "ours_hit", "recall", "precision", "f1", "area_iou", "area_ratio")
"""Columns of the tables in the metadata; the files have all."""


class AccuracyConfig(StepConfig, AccuracyParameters, ObjectColumns):
    """What is compared, and how. The columns are those of the reference."""

    reference: str = Field(
        description="Reference inventory: a vector file (path, URL or `s3://`), or a folder of them such as a label "
        "archive."
    )
    reference_layer: str = Field("", description="Its layer; default: the only one of each file.")
    name: str = Field(
        "", description="Folder of the result below `validation/accuracy`; default: the name of the reference's file."
    )
    ours: str = Field("", description="Polygons to compare instead of the inventory: a file or folder.")
    ours_layer: str = Field("", description="Their layer; default: the only one of each file.")
    ours_id_column: str = Field("", description="Their ids, as `id_column`.")
    ours_start_column: str = Field("", description="Their dates, as `start_column`.")
    ours_end_column: str = Field("", description="Their last dates, as `end_column`.")
    extent: str = Field(
        "",
        description="File or folder with what the reference has mapped. Without it there is no precision, F1 or area "
        "of ours.",
    )
    extent_layer: str = Field("", description="Its layer; default: the only one of each file.")
    region_column: str = Field("", description="Column of the extent with names of regions; default: grid zones.")
    coverage: str = Field(
        "", description="File or folder with what was observed, instead of the scenes of the inventory."
    )
    coverage_layer: str = Field("", description="Its layer; default: the only one of each file.")
    with_rejected: bool = Field(False, description="Also compare sites that reviewers have rejected.")

    def place_name(self) -> str:
        """The folder of the result; raises SettingsError for names that are no folder names."""
        name = self.name or re.sub(r"[^A-Za-z0-9_.-]+", "_", PurePath(self.reference).stem).strip("._")
        if not re.fullmatch(r"\w[\w.-]{0,99}", name, re.ASCII):
            raise SettingsError(f"name is {name!r}, expected up to 100 letters, digits and . _ - (a folder name)")
        return name


def build_accuracy() -> list[dg.AssetsDefinition]:
    """The accuracy of the inventory."""
    return [_accuracy]


@dg.asset(
    key=ACCURACY,
    group_name=GROUP,
    owners=[OWNER],
    kinds={"geoparquet", "geopackage", "csv"},
    code_version=CODE_VERSION,
    op_tags=op_tags(INVENTORY),  # it holds the sites of all years, too
    deps=[SLUMPS],
    description="Precision, recall, F1 and agreement of areas of the inventory, or of polygons of a file, against a "
    "reference inventory, with intervals; hits, misses and false alarms as layers.",
)
@measured
def _accuracy(
    context: dg.AssetExecutionContext, config: AccuracyConfig, store: Store, scenes: SceneRegistry
) -> dg.MaterializeResult[None]:
    from darts_assets.validation.accuracy_chart import accuracy_chart
    from darts_assets.validation.accuracy_figures import accuracy
    from darts_assets.validation.accuracy_store import write_accuracy
    from darts_assets.validation.outcomes import Comparison, observed_by
    from darts_assets.validation.reference_layouts import read_areas, read_objects

    with domain_call(context.log):
        name, s3 = config.place_name(), scenes.access.options
        reference = read_objects(config.reference, s3, config, config.reference_layer)
        inputs = {"reference": _fingerprint(reference)}
        if config.ours:
            columns = ObjectColumns(
                id_column=config.ours_id_column,
                start_column=config.ours_start_column,
                end_column=config.ours_end_column,
            )
            ours, years, observed = read_objects(config.ours, s3, columns, config.ours_layer, "ours"), None, None
            inputs["ours"] = _fingerprint(ours)
        else:
            ours, years, inputs["slumps"] = _sites(store, config.with_rejected)
            observed = _observed_by_scenes(store, config.min_coverage)
        extent = None
        if config.extent:
            extent = read_areas(config.extent, s3, config.region_column, config.extent_layer)
            inputs["extent"] = _fingerprint(extent)
        if config.coverage:
            areas = read_areas(config.coverage, s3, layer=config.coverage_layer, subject="coverage")
            observed = observed_by(areas, config.min_coverage)
            inputs["coverage"] = _fingerprint(areas)
        result = accuracy(Comparison(ours, reference, config, extent, observed, years))
        chart = accuracy_chart(result)
        facts = provenance(CODE_VERSION, shown_values(config.model_dump()), **inputs)  # URLs may have a token
        place = store.place(GROUP, "accuracy", name)
        written = write_accuracy(place, result, chart, {"provenance": facts})
    if extent is None:
        context.log.warning("without an extent of what the reference has mapped there is no precision")
    if observed is None:
        context.log.warning("without a coverage, all of the reference counts as observed")
    metadata = {
        "Chart": picture(chart),
        **_summary(result),
        "path": dg.MetadataValue.path(place.location.child(LATEST).url),
        "files": list(written.contents),
    }
    context.log.info(f"{name}: {_sentence(result)}")
    return materialize_result(metadata, facts)


def _sites(store: Store, with_rejected: bool) -> "tuple[gpd.GeoDataFrame, list[int], str]":
    """The sites of all years as objects, the years of the inventory, and its data version."""
    from darts_assets.review.review_columns import REJECTED
    from darts_assets.stores.vectors import read_table
    from darts_assets.validation.outcomes import site_objects

    place = store.place(INVENTORY, "slumps")
    manifest = place.require()
    sites, facts = read_table(place, manifest, "rts_sites"), manifest.metadata["provenance"]
    if not with_rejected and "verdict" in sites:
        sites = sites[sites["verdict"] != REJECTED]
    years = [int(name.removeprefix("rts_")) for name in facts["inputs"] if name.startswith("rts_")]
    return site_objects(sites), years, str(facts["data_version"])


def _observed_by_scenes(store: Store, min_coverage: float) -> "Observed":
    """What the scenes of the inventory have observed."""
    import numpy as np

    from darts_assets.inventory.inventory_store import read_year
    from darts_assets.inventory.sites import observers
    from darts_assets.orchestration.inventory.published_polygons import StoredPolygons, records_of

    def observed(year: int, outlines: Any) -> Any:
        place = store.place(INVENTORY, "rts", str(year))
        manifest = place.manifest()
        if manifest is None:
            return np.zeros(len(outlines), dtype=bool)
        _, scenes = read_year(place, manifest, year)
        hulls = dict(zip(scenes["scene_id"], scenes.geometry, strict=True))
        polygons = StoredPolygons(store, records_of(scenes))
        return np.array([bool(by) for by in observers(outlines, hulls, polygons.current_observed, min_coverage)], bool)

    return observed


def _fingerprint(table: "gpd.GeoDataFrame") -> str:
    """16 hexadecimal digits that change with a table."""
    digest = hashlib.sha256(table.drop(columns="geometry").to_csv(index=False).encode())
    for shape in table.geometry.to_wkb():
        digest.update(shape)
    return digest.hexdigest()[:16]


def _summary(result: "Accuracy") -> dict[str, Any]:
    total = result.total.iloc[0]
    shares = {
        name: f"{total[name]:.3f}" + (f" ({total[f'{name}_low']:.3f} to {total[f'{name}_high']:.3f})"
        if total[f"{name}_low"] == total[f"{name}_low"] else "")
        for name in ("recall", "precision", "f1", "area_iou", "area_ratio", "area_recall")
        if total[name] == total[name]
    }  # fmt: skip
    counts = ("misses", "not_observed", "unmapped_reference", "false_alarms", "unmapped_ours", "other_date")
    return {
        **shares,
        **{name: int(total[name]) for name in ("reference", "reference_hit", "ours", "ours_hit", *counts)},
        "periods": [str(period) for period in result.periods],
        "extent_known": result.has_extent,
        "coverage_known": result.has_coverage,
        "by_rule": _table(result.by_rule, ["rule", "matching", *_SHOWN]),
        "by_period": _table(result.by_period, ["period", *_SHOWN]),
        "by_region": _table(result.by_region, ["region", *_SHOWN]),
        "by_size": _table(result.by_size, ["size_class", *_SHOWN]),
    }


def _sentence(result: "Accuracy") -> str:
    total = result.total.iloc[0]
    shares = [f"{name} {total[name]:.3f}" for name in ("recall", "precision", "f1") if total[name] == total[name]]
    return f"{', '.join(shares)}; {total['reference']:.0f} of the reference and {total['ours']:.0f} of ours count"


def _table(table: "pd.DataFrame", names: list[str]) -> dg.MetadataValue[Any]:
    """Columns of a table; empty cells where a figure is undefined."""
    chosen = table[[name for name in names if name in table]]
    shown = chosen.round(3).astype(object).where(chosen.notna(), "")
    kinds = {str(name): "int" if dtype == "int64" else "string" for name, dtype in chosen.dtypes.items()}
    schema = dg.TableSchema([dg.TableColumn(name, kind) for name, kind in kinds.items()])
    records = [dg.TableRecord(dict(zip(kinds, row, strict=True))) for row in shown.itertuples(index=False)]
    return dg.MetadataValue.table(records, schema)
