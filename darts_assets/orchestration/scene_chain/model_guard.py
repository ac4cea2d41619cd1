"""Refusal to segment real scenes by the demo model, before any work is done for them."""

import dagster as dg

from darts_assets.orchestration.core.dagster_compat import selected_assets
from darts_assets.orchestration.core.partitions import SceneFamily
from darts_assets.orchestration.core.resources import Models


def check_models(context: dg.AssetExecutionContext, family: SceneFamily, models: Models) -> None:
    """Check the models at the start of a step if the run, or its backfill, also segments the scene.

    Without segmentation, the steps before it need no models of the user: they prepare training data.

    Raises:
        SettingsError: see `Models.check_suitable`.
    """
    # The selection of a backfill is read from the database; that is not needed where models are set.
    if not models.checkpoints and family.key("segmentation") in selected_assets(context):
        models.check_suitable()
