"""The chain with its store on S3."""

from collections.abc import Callable, Iterator

import boto3
import numpy as np
import pytest
from moto.server import ThreadedMotoServer

from darts_assets.demo import World
from darts_assets.orchestration.core.partitions import STEPS
from tests.e2e.harness import Site, metadata_of, reason


@pytest.fixture
def endpoint(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    for name, value in (("ACCESS_KEY_ID", "key"), ("SECRET_ACCESS_KEY", "secret"), ("DEFAULT_REGION", "us-east-1")):
        monkeypatch.setenv(f"AWS_{name}", value)
    server = ThreadedMotoServer(port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    url = f"http://{host}:{port}"
    boto3.client("s3", endpoint_url=url).create_bucket(Bucket="darts")
    yield url
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
