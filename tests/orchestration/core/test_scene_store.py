"""Scenes in the store."""

from pathlib import Path

import pytest

from darts_assets.errors import SceneError
from darts_assets.orchestration.core.partitions import SENTINEL2
from darts_assets.orchestration.core.resources import SourceAccess, Store
from darts_assets.orchestration.core.scene_store import SceneRegistry


@pytest.mark.parametrize("url", ["PATH", "s3://bucket/store"])
@pytest.mark.parametrize(
    ("key", "words"),
    [
        ("x" * 300, r"^partition 'x{80}' \(300 characters\) is not a scene: .*305 bytes, more than 200"),
        ("x" * 3000, r"^partition 'x{80}' \(3000 characters\) is not a scene: .*3005 bytes"),
        ("../../evil", r"^partition '../../evil' \(10 characters\) is not a scene: .*contains '/'"),
        ("a\0b", r"is not a scene: .*contains '\\x00'"),
        ("a#b?", r"is not a scene: .*contains '#'"),
    ],
)
def test_partitions_with_impossible_keys(tmp_path: Path, url: str, key: str, words: str) -> None:
    registry = SceneRegistry(store=Store(url=url.replace("PATH", str(tmp_path))), access=SourceAccess())
    with pytest.raises(SceneError, match=words):
        registry.scene(SENTINEL2, key)


@pytest.mark.parametrize("key", ["..", "bj\u00f8rn \U0001f43b"])
def test_partitions_added_by_hand(tmp_path: Path, key: str) -> None:
    registry = SceneRegistry(store=Store(url=str(tmp_path)), access=SourceAccess())
    with pytest.raises(SceneError, match=f"^scene {key} has a partition but no STAC item"):
        registry.scene(SENTINEL2, key)
