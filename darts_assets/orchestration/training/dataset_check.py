"""The check `no_leakage` of `training/dataset`: no split has the same ground, image or pixels on both sides."""

from typing import TYPE_CHECKING, Any

import dagster as dg
from pydantic import Field

from darts_assets.orchestration.core.error_handling import domain_call
from darts_assets.orchestration.core.metadata import as_metadata
from darts_assets.orchestration.core.pod_resources import op_tags
from darts_assets.orchestration.core.resources import Store
from darts_assets.orchestration.training.common import DATASET

if TYPE_CHECKING:
    from darts_assets.training.fit.split_check import SplitProof
    from darts_assets.training.fit.training_set import TrainingSet

NO_LEAKAGE = dg.AssetCheckSpec(
    "no_leakage", asset=DATASET,
    description="No fold of any split has the same ground, image or pixels in training and validation.",
)  # fmt: skip


class LeakageConfig(dg.Config):
    """The set, and the splits that are proven."""

    dataset: str | None = Field(None, description="Name of the set; null: the one that was assembled last.")
    folds: int | None = Field(None, description="Number of folds; null: as many as the set allows, at most 5.")
    distance: float | None = Field(None, description="As in the config of training/model.")
    block_size: float | None = Field(None, description="As in the config of training/model.")


@dg.multi_asset_check(name="training__dataset_checks", specs=[NO_LEAKAGE], op_tags=op_tags("check"))
def leakage_check(context: dg.AssetCheckExecutionContext, config: LeakageConfig, store: Store) -> dg.AssetCheckResult:
    """The check, of the assembled set."""
    with domain_call(context.log):
        from darts_assets.errors import TrainingError
        from darts_assets.training.fit.split_check import prove_splits
        from darts_assets.training.fit.training_set import TrainingSet
        from darts_assets.training.set_store import TrainingSetStore
        from darts_assets.training.split_parameters import SplitParameters

        name = config.dataset or _last_dataset(context.instance)
        data = TrainingSet.open(TrainingSetStore(store.root.child("training", name)).current)
        parameters = SplitParameters(**config.model_dump(exclude={"dataset"}))
        try:
            proofs = prove_splits(_with_contents(data), parameters)
        except TrainingError as error:
            return _result([str(error)], "", {})
    problems = [f"{proof.split_by}: {leak}" for proof in proofs for leak in proof.leaks]
    passed = f"{len(data)} patches: nothing is shared by {', '.join(proof.split_by for proof in proofs if proof.unit)}"
    return _result(problems, passed, {"splits": dg.MetadataValue.table([_record(proof) for proof in proofs])})


def build_dataset_check() -> list[dg.AssetChecksDefinition]:
    """The check of training sets."""
    return [leakage_check]


def _last_dataset(instance: dg.DagsterInstance) -> str:
    event = instance.get_latest_materialization_event(DATASET)
    materialization = event.asset_materialization if event else None
    if materialization is None or "provenance" not in materialization.metadata:
        return "default"
    facts: Any = materialization.metadata["provenance"].value
    return str(facts["parameters"]["dataset"])


def _with_contents(data: "TrainingSet") -> Any:
    """The rows of a set with hashes of the patches; of a set of an earlier release, all patches are read."""
    from darts_assets.training.sample_store import content_of

    if "content" in data.samples:
        return data.samples
    return data.samples.assign(content=[content_of(data.patch(number)[0]) for number in range(len(data))])


def _record(proof: "SplitProof") -> dg.TableRecord:
    leaks = "; ".join(proof.leaks) or ("none" if proof.unit else "")
    return dg.TableRecord(
        {
            "split_by": proof.split_by,
            "unit": proof.unit or "not possible",
            "folds": proof.folds,
            "groups": proof.groups,
            "left_out": proof.left_out,
            "leaks": leaks,
            "note": proof.note,
        }
    )


def _result(problems: list[str], passed: str, metadata: dict[str, Any]) -> dg.AssetCheckResult:
    return dg.AssetCheckResult(
        asset_key=DATASET, check_name=NO_LEAKAGE.name, passed=not problems,
        description="; ".join(problems[:5]) or passed, metadata=as_metadata(metadata),
    )  # fmt: skip
