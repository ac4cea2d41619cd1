"""Label archives: the real one, whose third iteration is broken, and made ones that are broken otherwise."""

import geopandas as gpd
import pytest
import shapely

from darts_assets.errors import TrainingError
from darts_assets.training.labels import read_archive


@pytest.fixture(scope="module")
def real(shared):
    return shared / "data" / "ml_training_labels"


@pytest.fixture(scope="module")
def as_geopandas_reads(real):
    """Iteration -> labels and footprints, as they are."""
    tables = {}
    for path in real.rglob("*.gpkg"):
        kind = "labels" if path.name.startswith("TrainingLabel") else "footprints"
        tables.setdefault(path.stem[-12:], {})[kind] = gpd.read_file(path)
    return tables


def test_counts_of_the_real_archive_are_what_geopandas_gives(real, as_geopandas_reads) -> None:
    archive = read_archive(real)
    expected = {}
    for name in ("iteration002", "iteration006"):
        labels = as_geopandas_reads[name]["labels"]
        for (region, label), count in labels.groupby(["region", "label"]).size().items():
            expected[name, region, int(label)] = count
    counts = archive.counts()
    assert (
        dict(zip(map(tuple, counts[["iteration", "region", "label"]].values), counts["labels"], strict=True))
        == expected
    )
    seen = archive.footprints
    for name in ("iteration002", "iteration006"):
        footprints = as_geopandas_reads[name]["footprints"]
        assert set(seen.loc[seen["iteration"] == name, "image_id"]) == set(footprints["image_id"])
    assert len(archive.of_image("5828620_4271614_2022-08-02_2495")) == 21
    assert archive.of_image("5851529_0870615_2022-08-12_2403").empty, "an image that was looked at, with nothing on it"


def test_outlines_of_the_broken_iteration_are_reported_and_left_out_with_their_images(real, as_geopandas_reads) -> None:
    archive = read_archive(real)
    tables = as_geopandas_reads["iteration005"]
    broken = next(iteration for iteration in archive.iterations if iteration.name == "iteration005")
    assert broken.unjoined == tables["labels"]["image_id"].value_counts().sort_index().to_dict()
    assert sum(broken.unjoined.values()) == len(tables["labels"]) == 141
    assert set(broken.doubtful) == set(tables["footprints"]["image_id"]), "their slumps would be background"
    assert "iteration005" not in set(archive.footprints["iteration"])
    (said,) = (problem for problem in archive.problems if problem.startswith("iteration005"))
    assert "141 outlines of 5 images have no footprint" in said
    assert "4688749_0470419_2021-07-12_105" in said
    assert broken.repaired == 2
    first = next(iteration for iteration in archive.iterations if iteration.name == "iteration001")
    assert (first.footprints, sum(first.unjoined.values()), len(first.unjoined)) == (0, 2182, 142)
    assert "there are no footprints" in str(first)


def test_ids_are_completed_only_when_asked_for(real, as_geopandas_reads) -> None:
    archive = read_archive(real, match_prefix=True)
    broken = next(iteration for iteration in archive.iterations if iteration.name == "iteration005")
    assert not broken.unjoined
    assert not broken.doubtful
    assert all(full[:-1] == short for short, full in broken.joined_by_prefix.items())
    footprints = as_geopandas_reads["iteration005"]["footprints"].set_index("image_id").geometry
    joined = archive.labels[archive.labels["iteration"] == "iteration005"]
    assert len(joined) == 141
    assert joined.geometry.is_valid.all()
    on_their_image = joined.geometry.intersects(footprints.loc[joined["image_id"]].set_axis(joined.index))
    assert on_their_image.mean() > 0.99
    assert "4691214_0470419_2021-07-14_245 -> 4691214_0470419_2021-07-14_2455" in str(broken)


def write(folder, name, rows, crs="EPSG:4326") -> None:
    folder.mkdir(parents=True, exist_ok=True)
    table = gpd.GeoDataFrame(rows, geometry=[shapely.box(n, 70, n + 1, 71) for n in range(len(rows))], crs=crs)
    table.to_file(folder / name)


def test_a_prefix_of_two_ids_is_no_match(tmp_path) -> None:
    write(tmp_path / "it_iteration003", "TrainingLabel_a.gpkg", [{"image_id": "x_10", "label": "1"}])
    write(
        tmp_path / "it_iteration003", "ImageFootprints_a.gpkg",
        [{"image_id": "x_10a", "datasource": "s"}, {"image_id": "x_10b", "datasource": "s"}],
    )  # fmt: skip
    (iteration,) = read_archive(tmp_path, match_prefix=True).iterations
    assert iteration.unjoined == {"x_10": 1}
    assert iteration.joined_by_prefix == {}


def test_an_image_of_two_iterations_is_one_image(tmp_path) -> None:
    for name in ("iteration001", "iteration002"):
        write(tmp_path / name, "TrainingLabel.gpkg", [{"image_id": "a", "label": 1}])
        write(tmp_path / name, "ImageFootprints.gpkg", [{"image_id": "a", "datasource": "s"}])
    archive = read_archive(tmp_path)
    assert list(archive.footprints["iteration"]) == ["iteration001+iteration002"]
    assert list(archive.of_image("a")["label_id"]) == ["iteration001-0", "iteration002-0"]


@pytest.mark.parametrize(
    ("rows", "crs", "message"),
    [
        ([{"image_id": "a"}], "EPSG:4326", "missing column label"),
        ([{"label": 1}], "EPSG:4326", "missing column image_id"),
        ([{"image_id": "a", "label": 7}], "EPSG:4326", "unknown values of label: '7'"),
        ([{"image_id": "a", "label": 1}], None, "no CRS"),
    ],
)
def test_invalid_tables(tmp_path, rows, crs, message) -> None:
    write(tmp_path / "iteration009", "TrainingLabel_x.gpkg", rows, crs)
    with pytest.raises(TrainingError, match=message) as raised:
        read_archive(tmp_path)
    assert "iteration009" in str(raised.value)


def test_no_archive_and_no_table(tmp_path) -> None:
    with pytest.raises(TrainingError, match=r"contain TrainingLabel\*.gpkg"):
        read_archive(tmp_path)
    (tmp_path / "TrainingLabel_x.gpkg").write_bytes(b"nothing")
    with pytest.raises(TrainingError, match=r"TrainingLabel_x\.gpkg: cannot be read"):
        read_archive(tmp_path)
