"""The chain with its store on S3."""

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from darts_assets.demo import World
from darts_assets.orchestration.core.partitions import STEPS
from tests.e2e.harness import Site, metadata_of, reason
from tests.servers.s3.moto_server import CREDENTIALS, S3Server


@pytest.fixture
def endpoint(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[str]:
    for name, value in CREDENTIALS.items():
        monkeypatch.setenv(name, value)
    server = S3Server(tmp_path)
    server.client.create_bucket(Bucket="darts")
    yield server.endpoint
    server.stop()


def test_the_chain_on_s3_equals_the_chain_on_a_path(new_site: Callable[..., Site], world: World, endpoint: str) -> None:
    local, remote = new_site("local"), new_site("remote", store="s3://darts/root", store_endpoint=endpoint)
    for site in (local, remote):
        (scene,) = site.register(world.items[0])
        result = site.run(scene)
        assert result.success, reason(result)
        assert all(site.materialized(step) == {scene} for step in STEPS)
    for step in ("preprocessed_tile", "segmentation"):
        here, there = local.load(step, scene), remote.load(step, scene)
        for name in here.data_vars:
            np.testing.assert_array_equal(here[name].values, there[name].values)
    assert local.load("polygons", scene)["segments"].equals(remote.load("polygons", scene)["segments"])
    files = metadata_of(result, "products")["files"]
    place = remote.place("products", "sentinel2", scene)
    assert {key.rpartition("/")[2] for key in place.location.keys()} == {*files, "current.json"}  # noqa: SIM118
    secrets = str([e.materialization.metadata for e in result.get_asset_materialization_events()])
    assert "secret" not in secrets
