"""Credentials for Earth Engine, in the order of other clients of Google's services.

1. The JSON key of a service account (`key_file`).
2. google-auth: `GOOGLE_APPLICATION_CREDENTIALS` (the key of a service account, or a configuration of workload
   identity), gcloud's application default credentials, the metadata server of a Google machine (workload identity on a
   cluster; elsewhere `NO_GCE_CHECK=true` saves the seconds of searching it).
3. The credentials stored by `earthengine authenticate`.

The project is that of the options, else that of the environment or the credentials.
"""

import os
from pathlib import Path
from typing import Any

from darts_assets.earth_engine.options import EarthEngineOptions
from darts_assets.errors import SettingsError

_SCOPES = ("https://www.googleapis.com/auth/earthengine", "https://www.googleapis.com/auth/cloud-platform")


def find_credentials(options: EarthEngineOptions) -> tuple[Any, str]:
    """Credentials of google-auth, and the project to charge.

    Raises:
        SettingsError: if there are no credentials, if their file is missing or malformed, or if there is no project.
    """
    if options.key_file is not None:
        credentials = _from_key(Path(options.key_file).expanduser())
        own_project = credentials.project_id
    else:
        credentials, own_project = _from_environment() or _stored() or (None, None)
    if credentials is None:
        raise SettingsError(
            "Earth Engine: there are no credentials; set DARTS_EARTH_ENGINE_KEY_FILE or GOOGLE_APPLICATION_CREDENTIALS "
            "to the JSON key of a service account, or run `earthengine authenticate`"
        )
    project = options.project or own_project or credentials.quota_project_id
    if not project:
        raise SettingsError(
            "Earth Engine: the credentials have no project; set DARTS_EARTH_ENGINE_PROJECT to a Google Cloud project "
            "with the Earth Engine API"
        )
    return credentials, project


def _from_key(path: Path) -> Any:
    from google.oauth2 import service_account

    # Not chained: a parser's error holds the whole document.
    try:
        return service_account.Credentials.from_service_account_file(str(path), scopes=_SCOPES)
    except OSError as error:
        problem = f"cannot be read: {error.strerror}"
    except ValueError:
        problem = "is not the JSON key of a service account (with client_email, private_key and token_uri)"
    raise SettingsError(f"Earth Engine: {path} {problem}; see DARTS_EARTH_ENGINE_KEY_FILE")


def _from_environment() -> tuple[Any, str | None] | None:
    import google.auth
    from google.auth import environment_vars
    from google.auth.exceptions import DefaultCredentialsError

    try:
        return google.auth.default(scopes=_SCOPES)
    except DefaultCredentialsError as error:
        if environment_vars.CREDENTIALS not in os.environ:
            return None
        problem = str(error.args[0])
    raise SettingsError(f"Earth Engine: {problem}; see {environment_vars.CREDENTIALS}")


def _stored() -> tuple[Any, str | None] | None:
    from ee import oauth
    from google.oauth2.credentials import Credentials

    try:
        stored = oauth.get_credentials_arguments()
    except FileNotFoundError:
        return None
    except (OSError, ValueError):
        stored = {}
    if not stored.get("refresh_token"):
        raise SettingsError(
            f"Earth Engine: {oauth.get_credentials_path()} cannot be used; run `earthengine authenticate --force`"
        )
    return Credentials(None, **stored), None
