"""The check `sensors_agree` of `inventory/rts`: the reflectance that the families measure at the same places."""

from collections import defaultdict
from typing import TYPE_CHECKING, Any

import dagster as dg
from pydantic import Field

from darts_assets.errors import NotReadableError
from darts_assets.orchestration.core.error_handling import domain_call
from darts_assets.orchestration.core.metadata import as_metadata
from darts_assets.orchestration.core.partitions import FAMILIES
from darts_assets.orchestration.core.pod_resources import op_tags
from darts_assets.orchestration.core.resources import Store
from darts_assets.orchestration.inventory.assets import GROUP, RTS

if TYPE_CHECKING:
    import pandas as pd

SENSORS_AGREE = dg.AssetCheckSpec(
    "sensors_agree", asset=RTS,
    description="Sentinel-2 and PlanetScope measure the same reflectance of the same places in the same month.",
)  # fmt: skip


class SensorCheckConfig(dg.Config):
    """Limits and size of the comparison."""

    largest_bias: float = Field(
        0.02, description="The check fails if the median difference of a band is larger, in reflectance (0 to 1)."
    )
    largest_ndvi_bias: float = Field(0.1, description="The same for NDVI.")
    most_pairs: int = Field(6, ge=1, description="Pairs of scenes that are compared at most, from all months in turn.")
    points: int = Field(20_000, ge=100, description="Places that are compared in each pair, on a regular grid.")


@dg.multi_asset_check(name="inventory__rts_checks", specs=[SENSORS_AGREE], op_tags=op_tags("check"), pool=GROUP)
def sensor_check(
    context: dg.AssetCheckExecutionContext, config: SensorCheckConfig, store: Store
) -> dg.AssetCheckResult:
    """The check, of the year of the run; without one, of the last year."""
    from darts_assets.inventory.inventory_store import read_year, years_of
    from darts_assets.inventory.sensor_agreement import agreement, pairs_of

    with domain_call(context.log):
        years = years_of(store.root.child(GROUP, "rts"))
        year = int(context.partition_key) if context.has_partition_key else max(years, default=None)
        if year is None:
            return _result([], "no inventory yet")
        place = store.place(GROUP, "rts", str(year))
        manifest = place.require()
        _, scenes = read_year(place, manifest, year)
        pairs = pairs_of(scenes, config.most_pairs)
        samples, unread = _samples(store, scenes, pairs, config.points)
        table = agreement(samples)
    if unread:
        context.log.info(f"not compared, since their tiles are not stored: {', '.join(unread)}")
    metadata = {"year": year, "pairs": len(pairs) - len(unread), "bands": _table(table)}
    apart = manifest.metadata.get("provenance", {}).get("parameters", {}).get("sensors") == "apart"
    limits = {band: config.largest_ndvi_bias if band == "ndvi" else config.largest_bias for band in table["band"]}
    problems = [
        f"{band}: {one} minus {other} is {bias:+.3f}"
        for one, other, band, bias in table[["one", "other", "band", "bias"]].itertuples(index=False)
        if abs(bias) > limits[band]
    ]
    if not len(table):
        return _result([], f"{year}: no two families have clear pixels of the same places in the same month", metadata)
    largest = float(table["bias"].abs().max())
    passed = f"{year}: median differences of at most {largest:.3f} in {metadata['pairs']} pairs of scenes"
    if problems and apart:
        return _result([], f"{'; '.join(problems)}. The inventory keeps the families apart", metadata)
    advice = [f"at the same places in {year}, {'; '.join(problems)}. `sensors: apart` keeps the families apart"]
    return _result(advice if problems else [], passed, metadata)


def build_sensor_check() -> list[dg.AssetChecksDefinition]:
    """The check of the inventory's sensors."""
    return [sensor_check]


def _samples(
    store: Store, scenes: Any, pairs: list[tuple[str, str]], points: int
) -> "tuple[dict[tuple[str, str], list[tuple[pd.DataFrame, pd.DataFrame]]], list[str]]":
    """Values of the pairs by families, and the pairs whose tiles cannot be read."""
    from darts_assets.inventory.sensor_agreement import BANDS, QUALITY, common_points, values_at
    from darts_assets.stores.tiles import read_tile

    table = scenes.set_index("scene_id")
    samples, unread = defaultdict(list), []
    for pair in pairs:
        families = tuple(table["family"][scene] for scene in pair)
        places = common_points(table.geometry[pair[0]], table.geometry[pair[1]], points)
        steps = [FAMILIES[family].key("preprocessed_tile").path for family in families]
        try:
            values = [
                values_at(read_tile(store.place("tiles", *step, scene), [*BANDS, QUALITY]), places)
                for step, scene in zip(steps, pair, strict=True)
            ]
        except NotReadableError:
            unread.append(" and ".join(pair))
            continue
        samples[families].append((values[0], values[1]))
    return dict(samples), unread


def _table(table: "pd.DataFrame") -> dg.MetadataValue[Any]:
    kinds = {str(name): "string" if name in ("one", "other", "band") else "float" for name in table.columns}
    schema = dg.TableSchema([dg.TableColumn(name, kind) for name, kind in kinds.items()])
    rows = table.round(4).astype(object).to_dict("records")
    records = [dg.TableRecord({str(name): value for name, value in row.items()}) for row in rows]
    return dg.MetadataValue.table(records, schema)


def _result(problems: list[str], passed: str, metadata: dict[str, Any] | None = None) -> dg.AssetCheckResult:
    return dg.AssetCheckResult(
        asset_key=RTS, check_name=SENSORS_AGREE.name, passed=not problems, severity=dg.AssetCheckSeverity.WARN,
        description="; ".join(problems) or passed, metadata=as_metadata(metadata or {}),
    )  # fmt: skip
