"""The notebooks run, and their stored outputs are small."""

import json
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

import darts_assets.demo

FOLDER = Path(darts_assets.demo.__file__).parent
LARGEST = 300_000  # bytes of a notebook with its outputs


def run(name: str, values: str) -> dict:
    """Execute a notebook; returns the value of an expression at its end."""
    notebook = nbformat.read(FOLDER / f"{name}.ipynb", as_version=4)
    assert (FOLDER / f"{name}.ipynb").stat().st_size < LARGEST
    assert any("image/png" in output.get("data", {}) for cell in notebook.cells for output in cell.get("outputs", []))
    notebook.cells.append(nbformat.v4.new_code_cell(f"import json\nprint(json.dumps({values}))"))
    NotebookClient(notebook, timeout=300, kernel_name="python3").execute()
    return json.loads(notebook.cells[-1].outputs[-1]["text"])


@pytest.mark.slow
def test_a_scene_goes_to_polygons() -> None:
    values = run("from_scene_to_polygons", '{"slumps": len(slumps), "hectares": slumps.area.sum() / 1e4}')
    assert values["slumps"] >= 4
    assert 1 < values["hectares"] < 100


@pytest.mark.slow
def test_mapped_slumps_grow_as_the_true_ones() -> None:
    columns = '{name: hectares[name].tolist() for name in ("mapped", "true")}'
    values = run("ten_years_of_one_slope", columns)
    mapped, true = values["mapped"], values["true"]
    assert len(mapped) == 10
    assert mapped == sorted(mapped)
    assert mapped == pytest.approx(true, rel=0.05)


@pytest.mark.parametrize("name", ["from_scene_to_polygons", "ten_years_of_one_slope"])
def test_stored_outputs_have_no_warnings_and_no_paths_of_a_machine(name: str) -> None:
    outputs = [
        out for cell in nbformat.read(FOLDER / f"{name}.ipynb", as_version=4).cells for out in cell.get("outputs", [])
    ]
    assert not [out for out in outputs if out.get("name") == "stderr"]
    assert "site-packages" not in json.dumps(outputs)
