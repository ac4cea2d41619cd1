import pytest

from darts_assets.errors import SettingsError
from darts_assets.scene_shards import Shard

SCENES = [f"S2B_MSIL2A_20230715T203859_N0509_R014_T08WMB_20230715T{number:06d}" for number in range(2000)]


def array(own: str, first: str, last: str, count: str) -> dict[str, str]:
    names = ("ID", "MIN", "MAX", "COUNT")
    return {f"SLURM_ARRAY_TASK_{name}": text for name, text in zip(names, (own, first, last, count), strict=True)}


def test_shards_divide_scenes_into_parts_of_similar_size():
    shards = [Shard(index, 16) for index in range(1, 17)]
    parts = [{scene for scene in SCENES if shard.has(scene)} for shard in shards]
    assert sum(map(len, parts)) == len(SCENES)
    assert set.union(*parts) == set(SCENES)
    assert all(90 < len(part) < 165 for part in parts)


def test_a_scene_stays_in_its_shard():
    """Runs of an interrupted array and of later releases continue the same parts."""
    assert [next(i for i in range(1, 17) if Shard(i, 16).has(scene)) for scene in SCENES[:6]] == [6, 15, 4, 5, 1, 15]


def test_shards_are_written_as_index_and_count():
    assert Shard.parse("3/16") == Shard(3, 16)
    assert str(Shard(3, 16)) == "3/16"
    assert all(Shard(1, 1).has(scene) for scene in SCENES)


@pytest.mark.parametrize("text", ["", "3", "0/4", "5/4", "a/4", "3/", "-1/4", "3/16/2"])
def test_other_texts_are_refused(text):
    with pytest.raises(SettingsError, match="expected INDEX/COUNT"):
        Shard.parse(text)


def test_the_job_array_of_slurm_is_a_shard(monkeypatch):
    assert Shard.of_job_array(array("0", "0", "15", "16")) == Shard(1, 16)
    assert Shard.of_job_array(array("16", "1", "16", "16")) == Shard(16, 16)
    for name, value in array("3", "1", "4", "4").items():
        monkeypatch.setenv(name, value)
    assert Shard.parse("array") == Shard(3, 4)


@pytest.mark.parametrize(
    ("environment", "reason"),
    [
        ({}, "not part of a SLURM array"),
        ({"SLURM_ARRAY_TASK_ID": "1"}, "not part of a SLURM array"),
        (array("2", "0", "4", "3"), "expected all indices from 0 or 1 on"),  # --array=0-4:2
        (array("3", "3", "3", "1"), "expected all indices from 0 or 1 on"),  # a failed job is submitted again
    ],
)
def test_other_jobs_are_refused(environment, reason):
    with pytest.raises(SettingsError, match=reason):
        Shard.of_job_array(environment)
