"""What deploy/ and docker-compose.yml say is what the gateway takes, and no container may do more than it must."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from control_plane.cli.settings import Settings, check_exposure, load_settings
from data_plane.observe.families import FAMILIES
from data_plane.settings import load
from shared.tuning import Tuning

ROOT = Path(__file__).resolve().parents[2]
COMPOSE = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
SERVICES: dict[str, Any] = COMPOSE["services"]
# Not ours, and they are the ones that a person's browser talks to.
DOORS = {"balancer", "prometheus", "grafana"}
KUBERNETES = [
    document
    for file in sorted((ROOT / "deploy/kubernetes").glob("*.yaml"))
    for document in yaml.safe_load_all(file.read_text())
    if document["kind"] != "Kustomization"
]
# The oldest that is still run somewhere, and the newest whose schemas are known.
VERSIONS = ("1.29", kubernetes_validate.latest_version())
# Of a pod that ends, for what comes after the last request.
END_SECONDS = 5


def variables(environment: dict[str, str], secrets: Path) -> dict[str, str]:
    """As the container has them, with what compose puts in, and its secrets in a folder that is here."""
    found = {}
    for name, value in environment.items():
        found[name] = re.sub(r"\$\{\w+:-([^}]*)\}", r"\1", str(value))
        if found[name].startswith("/run/secrets/"):
            file = secrets / Path(found[name]).name
            file.write_text("00" * 32 + "\n")
            found[name] = str(file)
    return found


def admin_of(environment: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> Settings:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    settings = load_settings({}, None)
    check_exposure(settings)
    return settings


@pytest.mark.parametrize("name", SERVICES)
def test_no_container_of_the_cluster_may_do_more_than_it_must(name: str) -> None:
    service = SERVICES[name]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert service["mem_limit"]
    assert service["cpus"] <= 1.0, "on a machine with one processor Docker refuses more"
    assert service["healthcheck"]["test"][0] == "CMD"
    assert ("ports" in service) == (name in DOORS)
    assert all(port.startswith("127.0.0.1:") for port in service.get("ports", ()))
    assert not any(re.search("KEY$|PASSWORD$", variable) for variable in service.get("environment", ())), "secrets are files"


@pytest.mark.parametrize("file", ["deploy/Dockerfile", "deploy/compose/Dockerfile"])
def test_every_image_runs_as_somebody_unprivileged(file: str) -> None:
    stages = re.split(r"^FROM .* AS ", (ROOT / file).read_text(), flags=re.MULTILINE)[1:]
    for stage in stages:
        name, _, steps = stage.partition("\n")
        if "ENTRYPOINT" in steps:
            assert re.search(r"^USER (?!root|0\b)\w+$", steps, re.MULTILINE), name


def test_the_planes_of_the_cluster_take_their_settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = load([], variables(SERVICES["data-plane"]["environment"], tmp_path))
    assert data.status == ("0.0.0.0", 7085)
    grace = int(SERVICES["data-plane"]["stop_grace_period"].removesuffix("s"))
    assert grace >= data.tuning.drain_delay + data.tuning.grace + END_SECONDS
    control = admin_of(variables(SERVICES["control-plane"]["environment"], tmp_path), monkeypatch)
    assert str(control.admin) == "0.0.0.0:9180"
    assert control.store == data.store


def test_the_balancer_looks_where_the_planes_answer_and_sooner_than_they_go() -> None:
    config = (ROOT / "deploy/compose/haproxy.cfg").read_text()
    assert re.search(r"data-plane:9080 .* check port 7085 inter (\d+)ms fall (\d+)", config)
    inter, fall = map(int, re.findall(r"check port 7085 inter (\d+)ms fall (\d+)", config)[0])
    drain = float(SERVICES["data-plane"]["environment"]["WASPGATE_DRAIN_DELAY"])
    assert inter * fall / 1000 + 1 <= drain, "it must have seen that a plane is not ready before that lets nobody in"
    (patience,) = re.findall(r"timeout server (\d+)s", config)
    assert int(patience) > 60, "the gateway waits 60 s for an upstream unless it is told otherwise"


def panels() -> Iterator[tuple[str, str]]:
    for panel in json.loads((ROOT / "deploy/grafana/dashboards/waspgate.json").read_text())["panels"]:
        for target in panel.get("targets", ()):
            yield panel["title"], target["expr"]


def test_the_dashboard_shows_metrics_that_there_are() -> None:
    used = {name for _, expression in panels() for name in re.findall(r"\b(?:waspgate|apisix)_\w+", expression)}
    assert len(used) > 15
    assert used <= FAMILIES.keys()


def test_the_dashboard_takes_rates_of_counters_and_of_nothing_else() -> None:
    for title, expression in panels():
        for name in re.findall(r"rate\(((?:waspgate|apisix)_\w+)", expression):
            assert FAMILIES[name].kind == "counter", title
        for name in re.findall(r"(?<!rate\()\b((?:waspgate|apisix)_\w+)", expression):
            assert FAMILIES[name].kind == "gauge", title


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("document", KUBERNETES, ids=lambda document: f"{document['kind']}-{document['metadata']['name']}")
def test_kubernetes_takes_it(document: dict[str, Any], version: str) -> None:
    kubernetes_validate.validate(document, version, strict=True)


def of_kind(kind: str) -> dict[str, Any]:
    return {document["metadata"]["name"]: document for document in KUBERNETES if document["kind"] == kind}


@pytest.mark.parametrize("name", of_kind("Deployment"))
def test_no_pod_may_do_more_than_it_must(name: str) -> None:
    deployment = of_kind("Deployment")[name]
    pod = deployment["spec"]["template"]["spec"]
    labels = deployment["spec"]["template"]["metadata"]["labels"]
    (container,) = pod["containers"]
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert (pod["automountServiceAccountToken"], pod["enableServiceLinks"]) == (False, False)
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert container["resources"].keys() == {"requests", "limits"}
    assert container["readinessProbe"]["httpGet"]["path"] == "/status/ready"
    assert container["livenessProbe"]["httpGet"]["path"] == "/status"
    assert {mount["name"] for mount in container["volumeMounts"]} == {volume["name"] for volume in pod["volumes"]}
    for kind, path in (("Service", "selector"), ("PodDisruptionBudget", "selector"), ("NetworkPolicy", "podSelector")):
        selector = of_kind(kind)[name]["spec"][path]
        assert selector.get("matchLabels", selector) == labels, kind


def environment_of(name: str) -> dict[str, str]:
    (container,) = of_kind("Deployment")[name]["spec"]["template"]["spec"]["containers"]
    assert container["args"] == [name.removeprefix("waspgate-")]
    own = {variable["name"]: variable["value"] for variable in container["env"]}
    return {**of_kind("ConfigMap")["waspgate"]["data"], **own}


def test_the_pods_take_their_settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pod = of_kind("Deployment")["waspgate-data-plane"]["spec"]["template"]["spec"]
    data = load([], variables(environment_of("waspgate-data-plane"), tmp_path))
    assert pod["terminationGracePeriodSeconds"] == data.tuning.drain_delay + data.tuning.grace + END_SECONDS
    assert data.tuning.grace == Tuning().grace
    ports = {port["name"]: port["containerPort"] for port in pod["containers"][0]["ports"]}
    assert data.status is not None
    assert data.prometheus is not None
    assert data.tls is not None
    assert ports == {"http": data.port, "https": data.tls[1], "status": data.status[1], "metrics": data.prometheus[1]}
    control = admin_of(variables(environment_of("waspgate-control-plane"), tmp_path), monkeypatch)
    assert control.admin_tls_cert is not None


def test_the_autoscaler_scales_the_data_plane() -> None:
    (scaler,) = of_kind("HorizontalPodAutoscaler").values()
    assert scaler["spec"]["scaleTargetRef"]["name"] == "waspgate-data-plane"
    assert "replicas" not in of_kind("Deployment")["waspgate-data-plane"]["spec"], "a new rollout would undo its scaling"
    assert (
        "cpu"
        in of_kind("Deployment")["waspgate-data-plane"]["spec"]["template"]["spec"]["containers"][0]["resources"]["requests"]
    )
