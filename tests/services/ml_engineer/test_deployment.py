"""Deployment files of a delivered system: linted by the field's own tools, and sized by what was measured."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import pytest
import yaml

from mlsystem import __main__ as engine
from mlsystem.serving import server
from mlsystem.spec import examine
from services.ml_engineer import documents
from services.ml_engineer.documents.placement import Placement
from services.ml_engineer.documents.view import View
from services.ml_engineer.dossier import Dossier
from tests.delivered import measured
from tests.tools import tool

TOOLS: Final = Path(sys.executable).parent
STYLE: Final = (
    "{extends: default, rules: {line-length: {max: 160}, document-start: disable, truthy: {check-keys: false}, "
    "comments: {min-spaces-from-content: 1}}}"
)
OVERLAYS: Final = ("base", "overlays/staging", "overlays/production")
SHARED: Final[dict[str, Any]] = {"serving": {"state": "env:STATE", "replicas": {"min": 3, "max": 9, "cpu": 60}}}

Manifest = dict[str, Any]


def ended(*command: str | Path, directory: Path) -> str:
    """Run a tool that must be content; return what it printed."""
    done = subprocess.run(command, cwd=directory, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository with what was rendered for a system, and nothing else."""
    root = tmp_path_factory.mktemp("rendered")
    for path, text in rendered(measured()).items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(text, encoding="utf-8")
    return root


@pytest.fixture(scope="module")
def system(repository: Path) -> Path:
    return repository / measured().directory


@pytest.fixture(scope="module")
def built(system: Path) -> dict[str, list[Manifest]]:
    """What kustomize makes of the base and of each overlay."""
    texts = {
        name: ended(tool("kubectl"), "kustomize", f"deploy/kubernetes/{name}", directory=system) for name in OVERLAYS
    }
    return {name: list(yaml.safe_load_all(text)) for name, text in texts.items()}


def rendered(known: Dossier) -> dict[str, str]:
    inside = {f"{known.directory}/{path}": text for path, text in documents.render(known).items()}
    return {**inside, **documents.render_repository(known)}


def pods(manifests: list[Manifest]) -> Iterator[tuple[str, Manifest]]:
    """Name and pod of everything that runs."""
    for manifest in manifests:
        name, spec = manifest["metadata"]["name"], manifest.get("spec", {})
        if manifest["kind"] == "Deployment":
            yield name, spec["template"]["spec"]
        elif manifest["kind"] == "CronJob":
            yield name, spec["jobTemplate"]["spec"]["template"]["spec"]
        elif manifest["kind"] == "InferenceService":
            yield name, {key: value for key, value in spec["predictor"].items() if key not in KSERVE}


KSERVE: Final = frozenset({"minReplicas", "maxReplicas", "scaleMetric", "scaleTarget"})
"""Fields of a predictor that are no pod's."""


def one(manifests: list[Manifest], kind: str, name: str = "customers-binary") -> Manifest:
    (found,) = (m for m in manifests if (m["kind"], m["metadata"]["name"]) == (kind, name))
    return found


# ---- the field's own tools


def test_yaml_is_clean(repository: Path) -> None:
    ended(TOOLS / "yamllint", "--strict", "--config-data", STYLE, repository, directory=repository)


@pytest.mark.parametrize("image", ["serve", "train"])
def test_hadolint_has_nothing_to_say(system: Path, image: str) -> None:
    ended(TOOLS / "hadolint", f"deploy/Dockerfile.{image}", directory=system)


def test_compose_and_workflow_are_what_their_schemas_allow(repository: Path, system: Path) -> None:
    check = (TOOLS / "check-jsonschema", "--builtin-schema")
    ended(*check, "vendor.compose-spec", "deploy/compose.yml", directory=system)
    (workflow,) = (repository / ".github" / "workflows").iterdir()
    ended(*check, "vendor.github-workflows", workflow, directory=system)


def test_kubernetes_takes_what_kustomize_makes(built: dict[str, list[Manifest]], system: Path, tmp_path: Path) -> None:
    """Base and overlays build, and every field of every resource exists; KServe's pod is looked at as a pod."""
    service = yaml.safe_load((system / "deploy/kserve/inferenceservice.yml").read_text())
    ((name, pod),) = pods([service])
    alone = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": pod}
    for place, manifests in {**built, "kserve": [alone]}.items():
        (tmp_path / f"{place.replace('/', '-')}.yml").write_text(yaml.safe_dump_all(manifests))
    ended(TOOLS / "kubernetes-validate", "--strict", *sorted(tmp_path.iterdir()), directory=tmp_path)


def test_prometheus_takes_its_configuration_and_the_rules(system: Path) -> None:
    ended(tool("promtool"), "check", "config", "deploy/prometheus/prometheus.yml", directory=system)


def test_the_script_is_one_for_any_shell(system: Path) -> None:
    ended("sh", "-n", "deploy/image.sh", directory=system)


# ---- images


@pytest.mark.parametrize("image", ["serve", "train"])
def test_an_image_is_made_from_hashed_wheels_and_runs_as_somebody_else(image: str) -> None:
    """Two stages, so that no installer and no cache is in what runs; no telemetry; SIGTERM ends it in order."""
    lines = docker(documents.render(measured())[f"deploy/Dockerfile.{image}"])
    assert lines["FROM"] == ["${BASE} AS packages", "${BASE}"]
    assert f"--require-hashes -r requirements/{image}.lock" in lines["RUN"][0]
    assert "ORT_DISABLE_TELEMETRY=1" in lines["ENV"][1]
    assert (lines["USER"], lines["STOPSIGNAL"]) == (["10001:10001"], ["SIGTERM"])
    assert json.loads(lines["ENTRYPOINT"][0]) == ["python", "-m", "mlsystem"]


def test_the_health_of_a_container_is_asked_with_what_is_in_it() -> None:
    """Python alone, at the path that says that a version has predicted."""
    (line,) = docker(documents.render(measured())["deploy/Dockerfile.serve"])["HEALTHCHECK"]
    command = json.loads(line.split("CMD ")[1])
    compile(command[2], "health", "exec")
    assert (command[:2], "/readyz" in command[2]) == (["python", "-c"], True)


def test_the_serving_image_is_built_from_what_its_ignore_file_lets_through() -> None:
    """Training data, work and secrets beside the system never reach the builder."""
    files = documents.render(measured())
    lines = docker(files["deploy/Dockerfile.serve"])["COPY"]
    copied = [word for line in lines if not line.startswith("--from") for word in line.split()[:-1]]
    assert files["deploy/Dockerfile.serve.dockerignore"].splitlines()[1:] == ["*", *(f"!{path}" for path in copied)]


def test_a_registry_elsewhere_is_mounted_not_copied() -> None:
    """A path out of the directory cannot be part of the build's context."""
    files = documents.render(measured({"registry": {"url": "../../models"}}))
    assert "models" not in " ".join(docker(files["deploy/Dockerfile.serve"])["COPY"])
    assert "--network none" not in files["deploy/image.sh"]


def docker(text: str) -> dict[str, list[str]]:
    """Instruction -> its arguments, continuation lines joined."""
    found: dict[str, list[str]] = {}
    for line in re.sub(r" *\\\n *", " ", text).splitlines():
        if line and not line.startswith("#"):
            word, _, rest = line.partition(" ")
            found.setdefault(word, []).append(rest)
    return found


# ---- commands


def test_every_command_that_runs_in_a_container_is_one_that_the_engine_has(
    built: dict[str, list[Manifest]], system: Path
) -> None:
    """The engine's own parser takes them: a server, a monitor, and the stages of the pipeline."""
    service = yaml.safe_load((system / "deploy/kserve/inferenceservice.yml").read_text())
    (default,) = docker((system / "deploy/Dockerfile.serve").read_text())["CMD"]
    commands: list[list[str]] = [json.loads(default)]
    for name, pod in pods([*built["overlays/production"], service]):
        args = pod["containers"][0]["args"]
        commands += [[stage] for stage in stages_of(args[0])] if name.endswith("-pipeline") else [args]
    parse = vars(engine)["_parser"](engine.COMMANDS).parse_args
    assert sorted(parse(command).command for command in commands) == sorted(
        ["serve", "serve", "serve", "monitor", "check", "validate", "train", "evaluate", "package", "smoke"]
    )


def stages_of(script: str) -> list[str]:
    (stages,) = re.findall(r"for stage in (.*); do", script)
    return stages.split()


# ---- rights


def test_nothing_that_runs_has_rights(built: dict[str, list[Manifest]], system: Path) -> None:
    """Not root, nothing to gain, a root that cannot be written, no token of the cluster."""
    service = yaml.safe_load((system / "deploy/kserve/inferenceservice.yml").read_text())
    for name, pod in pods([*built["overlays/production"], service]):
        (container,) = pod["containers"]
        assert pod["automountServiceAccountToken"] is False, name
        assert pod["securityContext"]["runAsNonRoot"] is True, name
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}, name
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }, name
        assert container["resources"]["limits"].keys() == {"memory"}, name


def test_containers_of_the_compose_file_have_no_rights(system: Path) -> None:
    """Three containers that write nowhere but where they must, and listen on this machine alone."""
    services = yaml.safe_load((system / "deploy/compose.yml").read_text())["services"]
    assert list(services) == ["serve", "prometheus", "grafana"]
    for name, service in services.items():
        assert (service["read_only"], service["cap_drop"]) == (True, ["ALL"]), name
        assert service["security_opt"] == ["no-new-privileges:true"], name
        assert all(port.startswith("127.0.0.1:") for port in service["ports"]), name


def test_what_the_compose_file_mounts_is_there(system: Path) -> None:
    """Files and folders of the system that are delivered; the registry is made by the pipeline."""
    services = yaml.safe_load((system / "deploy/compose.yml").read_text())["services"]
    mounted = [mount.split(":")[0] for service in services.values() for mount in service["volumes"]]
    files = [path for path in mounted if path.startswith(".") and path != "../registry"]
    assert len(files) == 3
    delivered = documents.render(measured())
    for path in files:
        assert [name for name in delivered if name.startswith(f"deploy/{path.removeprefix('./')}/")] != [], path


def test_nothing_goes_out_but_what_the_system_needs(built: dict[str, list[Manifest]]) -> None:
    """Alone a server asks for addresses; with others it reaches state, registry, webhook, traces and events."""
    ports = {
        place: sorted(
            {
                port["port"]
                for manifest in manifests
                if manifest["kind"] == "NetworkPolicy"
                for rule in manifest["spec"]["egress"]
                for port in rule["ports"]
            }
        )
        for place, manifests in built.items()
    }
    shared = [53, 443, 4222, 4317, 4318, 5432]
    assert ports == {"base": [53], "overlays/staging": shared, "overlays/production": shared}


def test_every_pod_is_under_the_policies(built: dict[str, list[Manifest]]) -> None:
    for manifests in built.values():
        policies = [m["spec"]["podSelector"]["matchLabels"] for m in manifests if m["kind"] == "NetworkPolicy"]
        assert all(labels == {"app.kubernetes.io/name": "customers-binary"} for labels in policies)
        for manifest in manifests:
            template = manifest.get("spec", {}).get("template") or manifest.get("spec", {}).get("jobTemplate", {}).get(
                "spec", {}
            ).get("template")
            if template:
                assert template["metadata"]["labels"]["app.kubernetes.io/name"] == "customers-binary"


# ---- places


def test_overlays_share_state_and_registry(built: dict[str, list[Manifest]]) -> None:
    """Each in a namespace and a bucket of its own; secrets come from a secret, and none is in the files."""
    for place in ("staging", "production"):
        manifests = built[f"overlays/{place}"]
        assert {m["metadata"].get("namespace", m["metadata"]["name"]) for m in manifests} == {
            f"customers-binary-{place}"
        }
        (config,) = (m for m in manifests if m["kind"] == "ConfigMap")
        assert config["data"] == {
            "ORT_DISABLE_TELEMETRY": "1",
            "MLSYSTEM_REGISTRY": f"s3://customers-binary-{place}/registry",
        }
        for _, pod in pods(manifests):
            sources = [*pod["containers"][0]["envFrom"]]
            assert {"secretRef": {"name": "customers-binary"}} in sources
            assert {"configMapRef": {"name": config["metadata"]["name"]}} in sources
        assert [m for m in manifests if m["kind"] == "Secret"] == []


def test_the_number_of_servers_is_the_autoscalers_alone(built: dict[str, list[Manifest]]) -> None:
    """A deployment that said a number would undo what the autoscaler did; alone it is one, on SQLite."""
    alone = one(built["base"], "Deployment")["spec"]
    scaled = one(built["overlays/production"], "Deployment")["spec"]
    assert (alone["replicas"], "replicas" in scaled) == (1, False)
    numbers = {
        place: tuple(one(built[f"overlays/{place}"], "HorizontalPodAutoscaler")["spec"][key] for key in (MIN, MAX))
        for place in ("staging", "production")
    }
    assert numbers == {"staging": (2, 2), "production": (2, 3)}


MIN: Final = "minReplicas"
MAX: Final = "maxReplicas"


def test_a_pod_has_longer_than_the_server_takes_to_end(built: dict[str, list[Manifest]]) -> None:
    """Leaving the service, then the requests in flight, then some room."""
    pod = one(built["base"], "Deployment")["spec"]["template"]["spec"]
    placement = Placement(View(measured()))
    assert placement.drain_s == vars(server)["_DRAIN_S"]
    assert pod["terminationGracePeriodSeconds"] > placement.drain_s + placement.leave_s
    compose = yaml.safe_load(documents.render(measured())["deploy/compose.yml"])
    assert compose["services"]["serve"]["stop_grace_period"] == f"{placement.drain_s + 5}s"


def test_the_pipeline_sees_the_data_where_the_spec_looks_for_them(built: dict[str, list[Manifest]]) -> None:
    """`../../data/customers.csv` from the system's directory, read only; all stages, in their order."""
    pipeline = one(built["overlays/production"], "CronJob", "customers-binary-pipeline")
    (container,) = pipeline["spec"]["jobTemplate"]["spec"]["template"]["spec"]["containers"]
    mounts = {mount["mountPath"]: mount.get("subPath") for mount in container["volumeMounts"]}
    assert mounts == {"/tmp": None, "/workspace": None, "/workspace/data": "data"}  # noqa: S108 - in a container
    assert stages_of(container["args"][0]) == ["check", "validate", "train", "evaluate", "package", "smoke"]


def test_secrets_come_from_the_environment_and_are_in_no_file() -> None:
    """What system.toml takes from a variable is asked for by name: by compose, the workflow, the cluster's secret."""
    known = measured(
        {
            "data": {"source": ["env:WAREHOUSE"], "query": "SELECT 1"},
            "serving": {"state": "env:STATE", "api_keys": "env:KEYS"},
            "registry": {"url": "s3://bucket/models"},
        }
    )
    files = documents.render(known)
    compose = yaml.safe_load(files["deploy/compose.yml"])["services"]["serve"]
    missing = {name: f"${{{name}:?system.toml takes a secret from it}}" for name in ("STATE", "KEYS")}
    assert compose["environment"] == {**dict.fromkeys((*CLOUD, "AWS_REGION", "AWS_ENDPOINT_URL")), **missing}
    (text,) = documents.render_repository(known).values()
    secret = {name: value for name, value in yaml.safe_load(text)["env"].items() if "secrets." in str(value)}
    assert secret == {name: f"${{{{ secrets.{name} }}}}" for name in (*CLOUD, "WAREHOUSE", "STATE", "KEYS")}
    assert "env:VAR: WAREHOUSE, STATE, KEYS." in files["deploy/kubernetes/components/kustomization.yml"]
    assert "/deploy/prometheus/api_key" in files[".gitignore"].splitlines()
    scrape = yaml.safe_load(files["deploy/prometheus/prometheus.yml"])["scrape_configs"][0]
    assert scrape["authorization"] == {"credentials_file": "api_key"}


CLOUD: Final = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")


def test_kserve_is_written_only_where_it_is_wanted() -> None:
    """`export.kserve = false` leaves the manifest out."""
    files = [documents.render(measured({"export": {"kserve": wanted}})) for wanted in (True, False)]
    assert [[path for path in names if "kserve" in path] for names in files] == [
        ["deploy/kserve/inferenceservice.yml"],
        [],
    ]


# ---- sizes


@pytest.mark.parametrize(
    ("rate_rps", "capacity_rps", "replicas", "cpu_millis"),
    [(50, 4000, (2, 3), 100), (2000, 4000, (2, 4), 750), (9000, 4000, (5, 11), 1000)],
)
def test_servers_and_cpu_follow_from_the_measured_rate(
    rate_rps: float, capacity_rps: float, replicas: tuple[int, int], cpu_millis: int
) -> None:
    """The usual rate, the peak of three times as much, and the loss of one; a core is planned to 70 percent."""
    spec = {"objectives": {"rate_rps": float(rate_rps)}}
    placement = Placement(View(measured(spec, capacity_rps=float(capacity_rps))))
    assert (placement.replicas, placement.cpu_millis) == (replicas, cpu_millis)
    carried = placement.busy * (placement.cpu_millis / 1000) * capacity_rps * placement.cpu_percent / 100
    assert carried >= View(measured(spec)).peak_rps


def test_numbers_of_the_spec_win() -> None:
    """serving.replicas reaches autoscaler and KServe as it stands."""
    files = documents.render(measured(SHARED))
    autoscaler = yaml.safe_load(files["deploy/kubernetes/components/autoscaler.yml"])["spec"]
    service = yaml.safe_load(files["deploy/kserve/inferenceservice.yml"])["spec"]["predictor"]
    assert (autoscaler[MIN], autoscaler[MAX], service[MIN], service[MAX]) == (3, 9, 3, 9)
    assert autoscaler["metrics"][0]["resource"]["target"]["averageUtilization"] == 60


def test_without_a_measurement_the_files_say_so() -> None:
    """Defaults are told as defaults, and are still valid numbers."""
    known = measured()
    nothing = dict.fromkeys(("p50_ms", "p99_ms", "rate_rps", "seconds", "capacity_rps"))
    blind = known.evaluation.model_copy(update={"latency": nothing, "memory_mb": None})
    files = documents.render(replace(known, evaluation=blind))
    assert "Nothing was measured" in files["deploy/kubernetes/base/deployment.yml"]
    autoscaler = yaml.safe_load(files["deploy/kubernetes/components/autoscaler.yml"])["spec"]
    assert (autoscaler[MIN], autoscaler[MAX]) == (2, 4)


@pytest.mark.parametrize(
    ("serving", "refused"),
    [
        ({"replicas": {"min": 1, "max": 3}}, ["serving.replicas.max"]),
        ({"replicas": {"min": 4, "max": 3}, "state": "env:STATE"}, ["serving.replicas.min"]),
        ({"replicas": {"min": 2, "max": 3}, "state": "env:STATE"}, []),
    ],
)
def test_servers_that_cannot_share_their_state_are_refused(serving: dict[str, Any], refused: list[str]) -> None:
    """More than one on SQLite is a mistake that `check` names."""
    spec = {**measured().design.spec, "serving": serving}
    assert [problem.key for problem in examine(spec)[1] if "replicas" in problem.key] == refused
