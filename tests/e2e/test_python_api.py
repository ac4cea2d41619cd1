"""The Python API on what the assets have stored: equal results, and a store as datasets and tables."""

import re
from pathlib import Path

import dagster as dg
import numpy as np
import pytest
import xarray as xr
from pandas.testing import assert_frame_equal

import darts_assets
from darts_assets.bands import VISIBLE_NIR
from darts_assets.demo import DEMO_CHECKPOINT, World
from darts_assets.errors import MissingChunksError, NotReadableError, SceneError
from darts_assets.orchestration.inventory.assets import RTS, SLUMPS, build_inventory
from darts_assets.sources import calibrate, open_raw, parse_item, read_item
from darts_assets.stores.scene_paths import STEPS
from tests.e2e.harness import SMALL_PATCHES, Site


def test_a_scene_becomes_what_the_assets_store(site: Site, world: World, tmp_path: Path) -> None:
    (scene,) = site.register(world.items[0])
    assert site.run(scene).success
    parsed = parse_item(read_item(str(world.items[0])))
    optical = calibrate(open_raw(parsed, (*VISIBLE_NIR, "s2_scl")))
    parameters = darts_assets.PreprocessParameters()

    done: list[tuple[int, int]] = []
    geobox, cubes = optical.odc.geobox, tmp_path / "own"
    buffer = darts_assets.dem_buffer(parameters, 10)
    arcticdem = darts_assets.load_arcticdem(
        geobox, cubes, buffer=buffer, source=str(world.arcticdem), progress=lambda n, total: done.append((n, total))
    )
    tcvis = darts_assets.load_tcvis(
        geobox, cubes, buffer=4, vintage=darts_assets.vintage_for(parsed.datetime.year), source=world.tcvis
    )
    assert done[-1][0] == done[-1][1] > 0
    tile = darts_assets.preprocess(optical, arcticdem, tcvis, models=DEMO_CHECKPOINT)
    probabilities = darts_assets.segment(tile, DEMO_CHECKPOINT, darts_assets.SegmentParameters(**SMALL_PATCHES))
    tables = darts_assets.polygonize(probabilities, tile)

    store = darts_assets.open_store(site.folder / "store")
    for mine, stored in ((tile, store.tile(scene)), (probabilities, store.probabilities(scene))):
        assert list(mine.data_vars) == list(stored.data_vars)
        for name in mine.data_vars:
            np.testing.assert_array_equal(mine[name].values, stored[name].values, err_msg=str(name))
            assert mine[name].dtype == stored[name].dtype
    kept = store.polygons(scene)
    assert tables.keys() == kept.keys()
    assert len(tables["segments"]) > 3
    for name in tables:
        assert_frame_equal(tables[name], kept[name])

    # Layers that are in the cube need no source any more.
    again = darts_assets.load_arcticdem(geobox, cubes, buffer=buffer, source="/nowhere", offline=True)
    np.testing.assert_array_equal(again["dem"].values, arcticdem["dem"].values)
    with pytest.raises(MissingChunksError, match=r"tcvis_2019: .* chunk.s. are missing: 2019-r"):
        darts_assets.load_tcvis(geobox, cubes, vintage=2019, offline=True)

    table = store.scenes()
    assert table["scene_id"].tolist() == [scene]
    assert table[list(STEPS)].all(axis=None)
    assert table["date"][0].isoformat() == parsed.datetime.isoformat()
    api = (Path(darts_assets.__file__).parent / "api" / "README.md").read_text()
    blocks = re.findall(r"^```python\n(.*?)^```", api, re.MULTILINE | re.DOTALL)
    results = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("darts_assets.api.auxiliary_layers.settings", lambda: site.settings)
        for block, root in zip(blocks, (site.folder / "store", cubes), strict=True):
            code = block.replace('"darts-data"', repr(str(root))).replace('"model.ckpt"', repr(str(DEMO_CHECKPOINT)))
            names = {"darts_assets": darts_assets, "scene": optical}
            exec(code, names)
            results.append(len(names["slumps"]))
    assert results[0] == len(kept["segments"])
    assert results[1] > 3
    paths = store.paths(scene)
    assert tuple(paths) == STEPS
    for step in STEPS[:3]:
        assert xr.open_zarr(paths[step]).sizes["x"] == geobox.shape[1]
    raw = store.raw(scene)
    assert raw["s2_scl"].dtype == np.uint8
    valid = np.isfinite(optical["red"].values)
    np.testing.assert_allclose(raw["red"].values[valid], optical["red"].values[valid], atol=1e-6)
    with pytest.raises(SceneError, match=f"has no scene S2X; it has {scene}"):
        store.tile("S2X")
    with pytest.raises(SceneError, match=f"has no scene S2X; it has {scene}"):
        store.paths("S2X")
    with pytest.raises(NotReadableError, match="there is no inventory of 1999; it has none"):
        store.inventory(1999)
    with pytest.raises(NotReadableError, match="there are no slumps"):
        store.slumps()
    assets = build_inventory()
    for key, year in ((RTS, str(parsed.datetime.year)), (SLUMPS, None)):
        result = dg.materialize(
            [asset for asset in assets if asset.key == key], instance=site.instance, partition_key=year,
            resources=site.defs.resources,
        )  # fmt: skip
        assert result.success
    with pytest.raises(NotReadableError, match=f"1999; it has {parsed.datetime.year}"):
        store.inventory(1999)
    assert len(store.inventory(parsed.datetime.year)) > 3
    assert len(store.slumps()) > 3
