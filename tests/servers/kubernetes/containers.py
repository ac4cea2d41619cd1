"""A container of a pod as a local process: its environment, its volumes, its paths.

The process gets what the pod's spec and the image say, and nothing of the environment of the tests. There is no mount
namespace, since that would need rights that not every machine gives: a path that a volume is mounted at is a folder of
the host, and this module says so wherever the path is named, in `env`, `command` and `args`. `/tmp` is the exception,
being everywhere: it is given by `TMPDIR`. In place of the token that a cluster mounts, `KUBECONFIG` names a file of
the pod's service account.
"""

import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

Object = dict[str, Any]
"""A Kubernetes object, as JSON."""


_OF_TELEMETRY = {"logs", ".logs_queue"}
"""Dagster makes them though telemetry is off; it goes without them where it cannot write."""


class ContainerConfigError(Exception):
    """The kubelet's `CreateContainerConfigError`: the pod names something that is not there."""


@dataclass(frozen=True)
class Node:
    """The machine that pods run on.

    Attributes:
        folder: of the pods' files; claims of volumes are folders in `volumes`.
        image: environment of the image of all containers, which is what is installed here.
        config_maps: data by name.
        secrets: data by name, as `stringData`.
        kubeconfigs: files by service account.
        has_init: whether the image starts containers through an init, which passes signals on.
    """

    folder: Path
    image: Mapping[str, str]
    config_maps: Mapping[str, Mapping[str, str]]
    secrets: Mapping[str, Mapping[str, str]]
    kubeconfigs: Mapping[str, Path]
    has_init: bool


def prepare(pod: Object, container: Object, node: Node) -> tuple[list[str], dict[str, str], Path]:
    """Command line, environment and working folder of a container; its volumes are then there.

    Raises:
        ContainerConfigError: if a config map, a secret or a key is not there.
    """
    name = pod["metadata"]["name"]
    home = node.folder / "pods" / name
    (home / "work").mkdir(parents=True, exist_ok=True)
    mounts = _mount(pod, container, node, home)

    def here(text: str) -> str:
        for path, folder in mounts.items():
            text = re.sub(rf"(?<![\w./-]){re.escape(path)}(?![\w.-])", str(folder), text)
        return text

    # DAGSTER_CONTAINER_CONTEXT describes other pods, with their own mounts.
    given = _environment(container, node).items()
    variables = {key: value if key == "DAGSTER_CONTAINER_CONTEXT" else here(value) for key, value in given}
    own = {"HOSTNAME": name, "TMPDIR": str(home / "work")}
    if pod["spec"].get("automountServiceAccountToken", True):
        own["KUBECONFIG"] = str(node.kubeconfigs[pod["spec"].get("serviceAccountName", "default")])
    command = [here(word) for word in [*container.get("command", []), *container.get("args", [])]]
    return command, {**node.image, **own, **variables}, home / "work"


def _environment(container: Object, node: Node) -> dict[str, str]:
    found: dict[str, str] = {}
    for source in container.get("envFrom", []):
        kind, reference = next((kind, source[kind]) for kind in ("configMapRef", "secretRef") if kind in source)
        found |= _data(node.config_maps if kind == "configMapRef" else node.secrets, reference, kind)
    for variable in container.get("env", []):
        if "valueFrom" not in variable:
            found[variable["name"]] = variable.get("value", "")
            continue
        (kind, reference), *_ = variable["valueFrom"].items()
        if kind not in ("configMapKeyRef", "secretKeyRef"):
            raise ContainerConfigError(f"{kind} is not known here")
        data = _data(node.config_maps if kind == "configMapKeyRef" else node.secrets, reference, kind)
        if reference["key"] in data:
            found[variable["name"]] = data[reference["key"]]
        elif not reference.get("optional"):
            raise ContainerConfigError(f"couldn't find key {reference['key']} in {kind} {reference['name']}")
    return found


def _data(there: Mapping[str, Mapping[str, str]], reference: Object, kind: str) -> Mapping[str, str]:
    if reference["name"] not in there and not reference.get("optional"):
        raise ContainerConfigError(f'{kind} "{reference["name"]}" not found')
    return there.get(reference["name"], {})


def _mount(pod: Object, container: Object, node: Node, home: Path) -> dict[str, Path]:
    """Where the paths of mounts are on this machine, the longest first."""
    volumes = {volume["name"]: volume for volume in pod["spec"].get("volumes", [])}
    mounts = {}
    for mount in container.get("volumeMounts", []):
        path = mount["mountPath"]
        if path == "/tmp":
            continue
        volume = volumes[mount["name"]]
        if "persistentVolumeClaim" in volume:
            folder = node.folder / "volumes" / volume["persistentVolumeClaim"]["claimName"]
            folder.mkdir(parents=True, exist_ok=True)
        else:
            folder = home / "root" / path.strip("/")
            files = _files(volume, node)
            if "subPath" in mount:
                files = {folder.name: files[mount["subPath"]]}
                path, folder = path.rpartition("/")[0], folder.parent
            folder.mkdir(parents=True, exist_ok=True)
            for name, content in files.items():
                (folder / name).write_text(content)
        mounts[path] = folder
    return dict(sorted(mounts.items(), key=lambda item: -len(item[0])))


def written_to_read_only(pod: Object, node: Node) -> list[str]:
    """Files that a container has written to volumes that it has read-only; a real one fails when it tries."""
    (container,) = pod["spec"]["containers"]
    volumes = {volume["name"]: volume for volume in pod["spec"].get("volumes", [])}
    written = []
    for mount in container.get("volumeMounts", []):
        if mount.get("readOnly") and "subPath" not in mount:
            folder = node.folder / "pods" / pod["metadata"]["name"] / "root" / mount["mountPath"].strip("/")
            expected = _files(volumes[mount["name"]], node).keys() | _OF_TELEMETRY
            written += [f"{mount['mountPath']}/{path.name}" for path in folder.glob("*") if path.name not in expected]
    return written


def _files(volume: Object, node: Node) -> dict[str, str]:
    files: dict[str, str] = {}
    for source in volume.get("projected", {}).get("sources", [volume]):
        if "configMap" in source:
            files |= _data(node.config_maps, source["configMap"], "configMap")
        elif "secret" in source:
            named = {"name": source["secret"].get("secretName", source["secret"].get("name")), **source["secret"]}
            files |= _data(node.secrets, named, "secret")
    return files


def forget(pod: str, node: Node) -> None:
    """Remove what a pod's volumes had in them."""
    shutil.rmtree(node.folder / "pods" / pod, ignore_errors=True)
