"""Assets `area_estimation/sample` and `area_estimation/estimate`: area of slumps from a reviewed sample of points."""

from typing import TYPE_CHECKING, Any

import dagster as dg
from pydantic import Field

from darts_assets.area_estimation.area_sample_parameters import SampleName, SampleParameters
from darts_assets.errors import SettingsError
from darts_assets.orchestration.core.error_handling import StepConfig, domain_call
from darts_assets.orchestration.core.metadata import materialize_result, picture, provenance
from darts_assets.orchestration.core.partitions import OWNER
from darts_assets.orchestration.core.pod_resources import op_tags
from darts_assets.orchestration.core.resources import Store
from darts_assets.orchestration.core.scene_store import SceneRegistry
from darts_assets.orchestration.core.step_metrics import measured
from darts_assets.orchestration.inventory.assets import GROUP as INVENTORY
from darts_assets.orchestration.inventory.assets import RTS, YEARS
from darts_assets.review.review_columns import REJECTED
from darts_assets.stores.latest import LATEST

if TYPE_CHECKING:
    import geopandas as gpd
    import pandas as pd
    from shapely.geometry.base import BaseGeometry

    from darts_assets.stores.publish import Place

CODE_VERSION = "1"
GROUP = "area_estimation"  # not that of the inventory, whose yearly job draws no sample
AREA_SAMPLE = dg.AssetKey([GROUP, "sample"])
AREA_ESTIMATE = dg.AssetKey([GROUP, "estimate"])

_MOST_ROWS = 100
_DEGREES = 0.01  # between points of edges of the area of interest


class AreaSampleConfig(StepConfig, SampleParameters):
    """Area and points of a sample."""

    aoi: str = Field("", description="Vector file of the area (path, URL or `s3://`); empty for all that is observed.")
    aoi_layer: str = Field("", description="Layer of that file; empty for all layers.")


class AreaEstimateConfig(StepConfig, SampleName):
    """From which sample the area is estimated."""


def build_area_assets() -> list[dg.AssetsDefinition]:
    """The sample and its estimate."""
    return [_area_sample, _area_estimate]


@dg.asset(
    key=AREA_SAMPLE,
    group_name=GROUP,
    owners=[OWNER],
    kinds={"geoparquet", "geopackage"},
    pool=INVENTORY,
    code_version=CODE_VERSION,
    op_tags=op_tags(INVENTORY),
    partitions_def=YEARS,
    deps=[RTS],
    description="Random points in strata of the observed area of a year, to be reviewed: the area of slumps is "
    "estimated from their verdicts. A drawn sample does not change.",
)
@measured
def _area_sample(
    context: dg.AssetExecutionContext, config: AreaSampleConfig, store: Store, scenes: SceneRegistry
) -> dg.MaterializeResult[None]:
    from darts_assets.area_estimation.area_sample_store import read_sample, write_sample
    from darts_assets.area_estimation.sample_points import draw_sample, expected_relative_error
    from darts_assets.area_estimation.strata import strata_of
    from darts_assets.inventory.inventory_store import read_year
    from darts_assets.orchestration.inventory.point_pictures import draw_pictures, read_pictures
    from darts_assets.orchestration.inventory.published_polygons import StoredPolygons, records_of

    year = int(context.partition_key)
    with domain_call(context.log):
        rts, place = store.place(INVENTORY, "rts", str(year)), _sample_place(store, year, config.sample)
        inventory, current = rts.require(), place.manifest()
        sites, table = read_year(rts, inventory, year)
        polygons = StoredPolygons(store, records_of(table))
        known = None
        if current is None:
            made = inventory.metadata["provenance"]
            facts = provenance(CODE_VERSION, config.model_dump(), inventory=made["data_version"])
            metadata: dict[str, Any] = {"provenance": facts, "inventory_version": max(inventory.versions), "year": year}
            if "verdict" in sites and not made["parameters"].get("publish_rejected", False):
                sites = sites[sites["verdict"] != REJECTED]
            strata = strata_of(_observed(polygons, table, config, scenes), sites, config)
            points, strata = draw_sample(strata, year, config)
        else:
            metadata = current.metadata
            _check_same(place, metadata["provenance"]["parameters"], config)
            points, strata = read_sample(place, current)
            known = read_pictures(place, current)
        pictures = draw_pictures(store, points, table, polygons, known)
        is_same = known is not None and len(pictures.images) == len(known.images)
        manifest = current if current and is_same else write_sample(place, points, strata, metadata, pictures.write)
    for scene, reason in pictures.problems.items():
        context.log.warning(f"{scene}: {reason}")
    context.log.info(
        f"sample {config.sample} of {year}: {'drawn' if current is None else 'kept'}, {len(points)} points in "
        f"{len(strata)} strata, {len(pictures.images)} with a picture"
    )
    result: dict[str, Any] = {
        "path": dg.MetadataValue.path(place.location.child(LATEST).url),
        "files": list(manifest.contents),
        "dagster/row_count": len(points),
        "is_new": current is None,
        "observed_ha": round(float(strata["area_ha"].sum()), 3),
        "expected_error": round(expected_relative_error(strata), 4),
        "pictures": len(pictures.images),
        "strata": _table(strata.drop(columns="geometry").head(_MOST_ROWS)),
    }
    return materialize_result(result, metadata["provenance"])


@dg.asset(
    key=AREA_ESTIMATE,
    group_name=GROUP,
    owners=[OWNER],
    kinds={"csv", "geopackage"},
    pool=INVENTORY,
    code_version=CODE_VERSION,
    op_tags=op_tags(INVENTORY),
    partitions_def=YEARS,
    deps=[AREA_SAMPLE],
    description="Area of slumps and accuracy of the inventory of a year, with standard errors and 95 % intervals, from "
    "the verdicts about a sample of points.",
)
@measured
def _area_estimate(
    context: dg.AssetExecutionContext, config: AreaEstimateConfig, store: Store
) -> dg.MaterializeResult[None]:
    from darts_assets.area_estimation.area_chart import area_chart
    from darts_assets.area_estimation.area_estimate import area_report
    from darts_assets.area_estimation.area_sample_store import read_sample, write_estimate
    from darts_assets.orchestration.core.metadata import data_version
    from darts_assets.review.judgement import judge_points
    from darts_assets.review.verdict_store import read_point_verdicts

    year = int(context.partition_key)
    with domain_call(context.log):
        source = _sample_place(store, year, config.sample)
        sample = source.manifest()
        if sample is None:
            raise SettingsError(f"{year} has no sample {config.sample!r}: materialize area_estimation/sample first")
        points, strata = read_sample(source, sample)
        judged = judge_points(read_point_verdicts(store.root))
        judged = judged[judged["sample_id"].isin(points["sample_id"])]
        report = area_report(points, strata, judged)
        inputs = {
            "sample": sample.metadata["provenance"]["data_version"],
            "verdicts": data_version("", {"verdicts": judged.to_json(orient="values")}),
        }
        facts = provenance(CODE_VERSION, config.model_dump(), **inputs)
        place = store.place(GROUP, "estimate", str(year), config.sample)
        written = write_estimate(place, report, {"provenance": facts})
    total = report.total
    context.log.info(
        f"sample {config.sample} of {year}: {total['yes'] + total['no']} of {total['points']} points decided, "
        f"{total['unsure']} unsure; {total['area_ha']:.2f} ha ({total['low_ha']:.2f} to {total['high_ha']:.2f}), "
        f"mapped {total['mapped_ha']:.2f} ha"
    )
    if total["area_ha"] != total["area_ha"]:
        context.log.warning("some strata have no decided point: there is no estimate until each of them has")
    metadata: dict[str, Any] = {
        "Chart": picture(area_chart(report)),
        **{name: _number(total[name]) for name in ("area_ha", "error_ha", "low_ha", "high_ha", "mapped_ha")},
        **{name: int(total[name]) for name in ("points", "yes", "no", "unsure", "open")},
        "by_region": _table(report.areas.head(_MOST_ROWS)),
        "accuracy": _table(report.accuracies.tail(_MOST_ROWS)),
        "by_stratum": _table(report.strata.head(_MOST_ROWS)),
        "path": dg.MetadataValue.path(place.location.child(LATEST).url),
        "files": list(written.contents),
    }
    return materialize_result(metadata, facts)


def _sample_place(store: Store, year: int, sample: str) -> "Place":
    return store.place(GROUP, "sample", str(year), sample)


def _observed(
    polygons: Any, scenes: "gpd.GeoDataFrame", config: AreaSampleConfig, registry: SceneRegistry
) -> "BaseGeometry":
    """The area that the scenes of a year observe, within the area of interest, in EPSG:6931."""
    import numpy as np
    import shapely

    from darts_assets.geo.equal_area import polygonal, to_equal_area

    clear = [to_equal_area(polygons.observed(scene)) for scene in scenes["scene_id"]]
    observed = shapely.union_all(np.concatenate(clear)) if clear else shapely.Polygon()
    if not config.aoi:
        return observed
    import geopandas as gpd

    from darts_assets.geo.aoi import read_aoi

    area = read_aoi(config.aoi, registry.access.options, config.aoi_layer)
    # Edges of geographic coordinates are straight in degrees, not in the projection.
    dense = shapely.segmentize(area.geometry, _DEGREES) if area.crs.is_geographic else area.geometry
    (projected,) = to_equal_area(gpd.GeoDataFrame(geometry=[dense], crs=area.crs))
    inside = polygonal(shapely.intersection(observed, projected))
    if inside.is_empty:
        raise SettingsError(f"aoi {config.aoi}: no scene of the year observes a part of it")
    return inside


def _check_same(place: "Place", before: dict[str, Any], config: AreaSampleConfig) -> None:
    """Raise SettingsError if a sample was drawn with other parameters."""
    now = config.model_dump()
    changed = [
        f"{name} {value!r}, not {now[name]!r}" for name, value in before.items() if now.get(name, value) != value
    ]
    if changed:
        raise SettingsError(
            f"{place.location} was drawn with {', '.join(changed)}. A drawn sample does not change: choose another "
            "name by `sample`"
        )


def _number(value: float) -> float | None:
    return None if value != value else round(float(value), 4)


def _table(table: "pd.DataFrame") -> dg.MetadataValue[Any]:
    """A table of a report; empty cells where nothing is known."""
    shown = table.round(4).astype(object).where(table.notna(), "")
    kinds = {str(name): "int" if dtype == "int64" else "string" for name, dtype in table.dtypes.items()}
    schema = dg.TableSchema([dg.TableColumn(name, kind) for name, kind in kinds.items()])
    records = [dg.TableRecord(dict(zip(kinds, row, strict=True))) for row in shown.itertuples(index=False)]
    return dg.MetadataValue.table(records, schema)
