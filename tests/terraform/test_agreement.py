"""The plan deploys the values that the code expects, at each step of an upload."""

import json
import re
import tomllib
from hashlib import sha256
from pathlib import Path
from typing import Any
from urllib.parse import SplitResult, urlsplit

import pytest
from sqlalchemy.engine import make_url

from dropline import contract
from dropline.broker.configuration import make_producer, make_worker_app
from dropline.scaling.errors import ScalingDenied
from dropline.selection import Selection
from dropline.settings import Settings, load_settings, require, variables
from migrations.deploy import parse_grant
from tests.support.deliveries import push
from tests.support.dockerfile import read_dockerfile
from tests.support.function import serve
from tests.support.tokens import Signer, forwarded
from tests.terraform.conftest import EXAMPLES, GIVEN_SECRETS
from tests.terraform.parts import PARTS, container_of, containers, part, split_command
from tests.terraform.workspace import PROJECT, ROOT, Plan, Terraform
from trigger_fn.activation import MOST_WAITING, WAKE_BUDGET_S
from trigger_fn.endpoint import REQUEST_BUDGET_S, Endpoint
from trigger_fn.intake import Intake
from trigger_fn.push_auth import Credentials, TokenRefused, TokenVerifier, fetched_keys


def secret_values(plan: Plan) -> dict[str, str]:
    """The value of each secret, by secret id; the secrets of an existing Redis are in no plan."""
    secrets = {
        each.address.rpartition('["')[2].rstrip('"]'): each.values for each in plan.of("secret_manager_secret")
    }
    return GIVEN_SECRETS | {
        secrets[each.address.rpartition(".")[2]]["secret_id"]: each.values["secret_data"]
        for each in plan.of("secret_manager_secret_version")
    }


def environment_of(plan: Plan, name: str) -> dict[str, str]:
    """The environment of a part's container, with the values of the secrets."""
    secrets = secret_values(plan)
    found = {}
    for variable in container_of(plan, name)["env"]:
        source = variable["value_source"]
        found[variable["name"]] = (
            secrets[source[0]["secret_key_ref"][0]["secret"]] if source else variable["value"]
        )
    return found


def settings_of(plan: Plan, name: str, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """The settings of a part at the start."""
    for variable, value in environment_of(plan, name).items():
        monkeypatch.setenv(variable, value)
    return load_settings()


@pytest.mark.parametrize("name", PARTS)
def test_every_variable_is_a_setting(plan: Plan, name: str) -> None:
    """Every variable of a container is a setting."""
    assert environment_of(plan, name).keys() <= {name for name, _, _ in variables()}


@pytest.mark.parametrize("name", PARTS)
def test_every_value_is_accepted(plan: Plan, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each part's environment is valid, and contains the settings that the part requires."""
    settings = settings_of(plan, name, monkeypatch)
    assert require(settings.database.url, "DROPLINE_DATABASE__URL")
    assert name == "migrations" or require(settings.broker.url, "DROPLINE_BROKER__URL")


class Effects:
    """Stands for Postgres and Redis; a skipped event reaches neither."""


def test_a_push_reaches_the_function(plan: Plan, monkeypatch: pytest.MonkeyPatch) -> None:
    """Events are pushed to `/`, the function's path for events; the probes ask paths of the function."""
    settings = settings_of(plan, "function", monkeypatch)
    effects: Any = Effects()
    endpoint = Endpoint(Intake(Selection(settings.events), effects, effects), None)
    client = serve(endpoint, monkeypatch).test_client()
    address = plan.one("pubsub_subscription", ".push")["push_config"][0]["push_endpoint"]
    assert urlsplit(address).path == "/"
    update = push(event_type="OBJECT_METADATA_UPDATE")
    assert client.post("/", data=update.body, headers=update.headers).status_code == 204
    container = container_of(plan, "function")
    assert client.get("/elsewhere").status_code == 405
    for kind in ("startup_probe", "liveness_probe"):
        probe = container[kind][0]["http_get"][0]
        assert client.get(probe["path"]).status_code == 200
        assert probe["port"] == container["ports"][0]["container_port"] == default_port()


def default_port() -> int:
    """The port of the image."""
    found = re.search(r"^ENV PORT=(\d+)$", (ROOT / "Dockerfile").read_text(), re.MULTILINE)
    assert found
    return int(found[1])


def test_the_address_is_the_functions(plan: Plan) -> None:
    """The push address and the right to invoke are of the same service."""
    address = plan.one("pubsub_subscription", ".push")["push_config"][0]["push_endpoint"]
    service = plan.one("cloud_run_v2_service")
    assert address == f"{service['uri']}/"
    invoked = {each.values["name"] for each in plan.of("cloud_run_v2_service_iam_member")}
    assert invoked == {service["name"]}


def test_tokens_are_accepted(plan: Plan, monkeypatch: pytest.MonkeyPatch) -> None:
    """The audience and account of the pushes are the values that Cloud Run and the function expect."""
    token = plan.one("pubsub_subscription", ".push")["push_config"][0]["oidc_token"][0]
    expected = settings_of(plan, "function", monkeypatch).push
    assert (token["audience"], token["service_account_email"]) == (expected.audience, expected.service_account)
    assert token["audience"] in plan.one("cloud_run_v2_service")["custom_audiences"]
    verifier = TokenVerifier(expected, fetched_keys(expected.certs_url))
    of_pubsub = Signer().token(aud=token["audience"], email=token["service_account_email"])
    verifier.verify(Credentials(forwarded(f"Bearer {of_pubsub}")))


def test_calls_of_cloud_tasks_are_accepted(plan: Plan, monkeypatch: pytest.MonkeyPatch) -> None:
    """The function accepts the token of a task that function, worker or gallery makes, and no event with it."""
    settings = settings_of(plan, "function", monkeypatch)
    verifier = TokenVerifier(settings.push, fetched_keys(settings.push.certs_url))
    if not settings.pool.wake_service_account:
        assert not settings.push.wake_service_account
        return
    token = Signer().token(aud=settings.pool.wake_audience, email=settings.pool.wake_service_account)
    header = forwarded(f"Bearer {token}")
    verifier.verify(Credentials(header, wakes=True))
    with pytest.raises(TokenRefused):
        verifier.verify(Credentials(header))


def test_tasks_are_made_in_the_region_that_is_given(
    terraform: Terraform, sources: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`tasks_region` is the region of the queue in the plan, in the settings, and in the output."""
    directory = sources / "examples" / "minimal"
    plan = terraform.plan(directory, EXAMPLES["minimal"] | {"tasks_region": "europe-west3"})
    queue = plan.one("cloud_tasks_queue")
    assert queue["location"] == "europe-west3"
    path = f"projects/{PROJECT}/locations/europe-west3/queues/{queue['name']}"
    found = {settings_of(plan, name, monkeypatch).pool.wake_queue for name in ("function", "worker", "redrive")}
    assert found == {path} == {plan.outputs["wake_queue"]}


def test_events_are_of_buckets_that_are_ours(plan: Plan, monkeypatch: pytest.MonkeyPatch) -> None:
    """Function, notifications and the worker's rights name the same buckets."""
    settings = settings_of(plan, "function", monkeypatch)
    listened_to = {each.values["bucket"] for each in plan.of("storage_notification")}
    readable = {each.values["bucket"] for each in plan.of("storage_bucket_iam_member")}
    assert set(settings.events.buckets) == listened_to == readable


def test_both_sides_have_the_same_limit_of_size(plan: Plan, monkeypatch: pytest.MonkeyPatch) -> None:
    """The size limit of the worker is the function's: the worker downloads every object of an accepted event."""
    sizes = {environment_of(plan, each)["DROPLINE_EVENTS__MAX_SIZE_BYTES"] for each in ("function", "worker")}
    assert len(sizes) == 1


@pytest.mark.parametrize("name", [name for name in PARTS if name != "migrations"])
def test_redis_is_verified_by_the_mounted_certificate(
    plan: Plan, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The broker URL makes Celery encrypt, and verify Redis with the file mounted from the secret."""
    connection = make_producer(settings_of(plan, name, monkeypatch).broker).connection_for_write()
    for redis in (each.values for each in plan.of("redis_instance")):
        assert (connection.hostname, connection.port) == (redis["host"], redis["port"])
        assert connection.password == redis["auth_string"]
    (mount,) = container_of(plan, name)["volume_mounts"]
    (volume,) = part(plan, name)["volumes"]
    assert mount["name"] == volume["name"]
    file = Path(mount["mount_path"]) / volume["secret"][0]["items"][0]["path"]
    assert connection.ssl["ssl_ca_certs"] == str(file)
    assert connection.ssl["ssl_cert_reqs"].name == "CERT_REQUIRED"
    certificate = secret_values(plan)[volume["secret"][0]["secret"]]
    certificates = [each.values["server_ca_certs"][0]["cert"] for each in plan.of("redis_instance")]
    assert certificate in (certificates or GIVEN_SECRETS.values())


def test_a_worker_stops_in_time_where_redis_does_not_end_its_pop(
    plan: Plan, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The BRPOP ends by itself before the worker hangs up, and half of a container's ten seconds are left."""
    with make_worker_app(settings_of(plan, "worker", monkeypatch).broker) as app:
        options = app.conf.broker_transport_options
    assert options["polling_interval"] < options["socket_timeout"] <= 5


@pytest.mark.parametrize("name", PARTS)
def test_postgres_is_reached_through_the_proxy(plan: Plan, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Host and port are the proxy's, the proxy starts first, and the login exists and has no password."""
    url = make_url(require(settings_of(plan, name, monkeypatch).database.url, "DROPLINE_DATABASE__URL"))
    arguments, startup = proxy_of(plan, name)
    assert {f"--port={url.port}", "--auto-iam-authn", "--private-ip", f"--http-port={startup.port}"} <= arguments
    assert startup.path == "/startup"
    assert (url.host, url.password, url.database) == ("127.0.0.1", None, plan.one("sql_database")["name"])
    assert url.username in {each.values["name"] for each in plan.of("sql_user")}


def proxy_of(plan: Plan, name: str) -> tuple[set[str], SplitResult]:
    """The arguments of the proxy, a sidecar or part of a job's command, and the address of its readiness."""
    beside = [each for each in part(plan, name)["containers"] if each["name"] == "cloud-sql-proxy"]
    if not beside:
        options, proxy, _ = split_command(container_of(plan, name)["command"])
        (startup,) = [option.partition("=")[2] for option in options if option.startswith("--startup=")]
        assert proxy[0] == "cloud-sql-proxy"
        return set(proxy[1:]), urlsplit(startup)
    assert container_of(plan, name)["depends_on"] == ["cloud-sql-proxy"]
    probe = beside[0]["startup_probe"][0]["http_get"][0]
    return set(beside[0]["args"]), urlsplit(f"http://127.0.0.1:{probe['port']}{probe['path']}")


def test_the_jobs_run_the_sidecars_proxy(plan: Plan) -> None:
    """The images contain the version of the proxy that the services have beside them."""
    image = read_dockerfile().arguments["PROXY_IMAGE"]
    (proxy,) = {each["image"] for _, each in containers(plan) if each["name"] == "cloud-sql-proxy"}
    name, _, digest = proxy.partition("@")
    assert re.fullmatch(rf"{re.escape(name)}:[0-9.]+@{digest}", image)


def test_logins_get_the_roles_of_the_migrations(plan: Plan) -> None:
    """The job grants roles of the migrations to existing logins, and each login but the job's own gets a role."""
    command = split_command(container_of(plan, "migrations")["command"])[2]
    assert command[:3] == ["python", "-m", "migrations.deploy"]
    grants = dict(parse_grant(each.partition("=")[2])[::-1] for each in command if each.startswith("--grant="))
    made = "".join(path.read_text() for path in (ROOT / "migrations" / "versions").glob("*.py"))
    assert all(f'"{role}"' in made for role in grants.values())
    logins = {each.values["name"] for each in plan.of("sql_user") if not each.values["database_roles"]}
    assert grants.keys() == logins
    assert {grants[login].removeprefix("dropline_") for login in logins} <= {"ingest", "worker", "reader"}


def test_a_push_may_take_as_long_as_the_function(plan: Plan) -> None:
    """Pub/Sub and Cloud Run wait longer than a request may take that wakes the worker pool."""
    longest_s = REQUEST_BUDGET_S + WAKE_BUDGET_S
    assert plan.one("pubsub_subscription", ".push")["ack_deadline_seconds"] > longest_s
    assert float(part(plan, "function")["timeout"].rstrip("s")) > longest_s
    # The least value that the variable accepts.
    events = (ROOT / "terraform" / "modules" / "events" / "variables.tf").read_text()
    (least_s,) = re.findall(r"ack_deadline_s >= (\d+)", events)
    assert int(least_s) > longest_s


def test_the_image_has_a_thread_for_every_request(plan: Plan) -> None:
    """The image has a thread for each concurrent request: without a thread, a request waits and counts as slow."""
    started = read_dockerfile().stages["function"].last("CMD")
    assert started
    threads = int(started.command[started.command.index("--threads") + 1])
    assert threads >= part(plan, "function")["max_instance_request_concurrency"]
    # The other threads are free while a wake-up takes long.
    assert threads >= 2 * MOST_WAITING


def test_the_worker_may_do_what_it_does(plan: Plan) -> None:
    """The worker's rights are exactly the rights that the worker's storage code names."""
    used = set(
        re.findall(r'"(storage\.objects\.\w+)"', (ROOT / "dropline" / "storage" / "objects.py").read_text())
    )
    granted = set(plan.one("project_iam_custom_role", ".captioner")["permissions"])
    assert granted == used


#: Patterns for the name of a resource in a filter or a query.
_ALERTED = {
    "pubsub_subscription": r'subscription_id="([^"]*)"',
    "cloud_run_v2_service": r'service_name="([^"]*)"',
    "cloud_run_v2_worker_pool": r'worker_pool_name="([^"]*)"',
    "redis_instance": r'/instances/([^"]*)"\)',
    "sql_database_instance": rf'database_id="{PROJECT}:([^"]*)"',
}


def test_alerts_name_what_there_is(plan: Plan) -> None:
    """The log lines, queues, subscriptions, services and instances in alerts exist."""
    text = json.dumps([each.values for each in plan.of("monitoring_alert_policy")])
    code = "".join(path.read_text() for room in ("worker", "trigger_fn") for path in (ROOT / room).glob("*.py"))
    text += json.dumps([each.values for each in plan.of("logging_metric")])
    lines = {*re.findall(r'jsonPayload\.message=\\"(\w+)', text), *re.findall(r"\b((?:event|pool)_\w+)", text)}
    assert {"caption_failed", "pool_not_woken_again", "event_accepted", "finished"} <= lines
    assert re.findall(r'jsonPayload\.code=\\"(\w+)', text) == [ScalingDenied.default_code]
    assert all(f'"{line}"' in code for line in lines)
    assert set(re.findall(r"\bdropline\.\w+", text)) <= {contract.CAPTION_QUEUE}
    # The alert on the memory of Redis names the queue; an existing Redis has alerts of its owner.
    assert (contract.CAPTION_QUEUE in text) == bool(plan.of("redis_instance"))
    plain = text.replace(r"\"", '"')
    for kind, spelt in _ALERTED.items():
        assert set(re.findall(spelt, plain)) == {each.values["name"] for each in plan.of(kind)}


def test_alerts_count_what_is_logged(plan: Plan) -> None:
    """The queries use exactly the log-based metrics, and the metrics of accepted events count enqueued events."""
    queries = [
        condition["condition_prometheus_query_language"][0]["query"]
        for each in plan.of("monitoring_alert_policy")
        for condition in each.values["conditions"]
        if condition["condition_prometheus_query_language"]
    ]
    metrics = {each.values["name"]: each.values["filter"] for each in plan.of("logging_metric")}
    shown = plan.one("monitoring_dashboard")["dashboard_json"]
    alerted = set(re.findall(r":user_(\w+)", "".join(queries)))
    assert alerted | set(re.findall(r"/user/(\w+)", shown)) == metrics.keys()
    assert all(
        'message="event_accepted" AND jsonPayload.enqueued=true' in metrics[name]
        for name in metrics
        if name.endswith("_accepted")
    )


def test_metrics_extract_what_is_logged(plan: Plan) -> None:
    """Each number and label of a metric is an attribute of a log line of function or worker."""
    code = "".join(path.read_text() for room in ("worker", "trigger_fn") for path in (ROOT / room).glob("*.py"))
    metrics = plan.of("logging_metric")
    text = json.dumps([each.values for each in metrics])
    names = set(re.findall(r"EXTRACT\(jsonPayload\.(\w+)\)", text)) | set(
        re.findall(r"jsonPayload\.(\w+)=\d", text)
    )
    assert {"waited_s", "oldest_s", "priority", "code", "reason"} == names
    assert [name for name in names if f"{name}=" not in code and f'"{name}":' not in code] == []
    kinds = {
        each.values["metric_descriptor"][0]["value_type"] for each in metrics if each.values["value_extractor"]
    }
    assert kinds == {"DISTRIBUTION"}


#: Metrics of Google; their names are read, not seen.
_KNOWN_METRICS = {
    "pubsub.googleapis.com/subscription/num_undelivered_messages",
    "pubsub.googleapis.com/subscription/oldest_unacked_message_age",
    "run.googleapis.com/container/billable_instance_time",
    "run.googleapis.com/request_latencies",
}


def test_the_dashboard_shows_metrics_that_exist(plan: Plan) -> None:
    """Each metric of the dashboard is made by the plan or known, and grouped by its labels."""
    charts = json.loads(plan.one("monitoring_dashboard")["dashboard_json"])["mosaicLayout"]["tiles"]
    made = {
        f"logging.googleapis.com/user/{each.values['name']}": {
            label["key"] for label in each.values["metric_descriptor"][0]["labels"]
        }
        for each in plan.of("logging_metric")
    }
    sets = [each["timeSeriesQuery"] for chart in charts for each in chart["widget"]["xyChart"]["dataSets"]]
    for query in (each["timeSeriesFilter"] for each in sets):
        (metric,) = re.findall(r'metric\.type="([^"]+)"', query["filter"])
        assert metric in made.keys() | _KNOWN_METRICS
        grouped = re.findall(r'metric\.label\."(\w+)"', "".join(query["aggregation"].get("groupByFields", [])))
        assert set(grouped) == made.get(metric, set())


def test_the_dashboard_has_no_value_that_monitoring_leaves_out(plan: Plan) -> None:
    """The provider compares the text with that of Monitoring, which stores neither zeros nor empty lists."""
    text = plan.one("monitoring_dashboard")["dashboard_json"]
    assert [tile.get("yPos", 0) for tile in json.loads(text)["mosaicLayout"]["tiles"]] == [
        0,
        0,
        16,
        16,
        32,
        32,
        48,
        48,
        64,
        64,
    ]
    assert not re.search(r":(0|\[\]|null)[,}]", text)


def test_alerts_lead_to_a_section_that_exists(plan: Plan) -> None:
    """The documentation of each alert names a heading of docs/operate.md, and the page's table has each alert."""
    text = (ROOT / "docs" / "operate.md").read_text()
    headings = {
        re.sub(r"[^a-z0-9 -]", "", title.lower()).replace(" ", "-")
        for title in re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    }
    for each in plan.of("monitoring_alert_policy"):
        (anchor,) = re.findall(r"docs/operate\.md#([\w-]+)", each.values["documentation"][0]["content"])
        assert anchor in headings
        assert f"| *{each.values['display_name'].partition(': ')[2]}* |" in text


def test_the_pages_promise_what_is_kept() -> None:
    """docs/operate.md promises the numbers of days and backups that the policy demands of the plan."""
    text = " ".join((ROOT / "docs" / "operate.md").read_text().split())
    for promise in (
        "keep deleted or overwritten objects for 7 days",
        "14 daily backups",
        "a log that reaches back 7 days",
        "`dropline-dead-letters`, for 31 days",
        "The topic keeps them for 7 days",
    ):
        assert promise in text


def test_the_metadata_key_is_the_one_that_is_written(plan: Plan) -> None:
    """The command in the output `try_it` reads a caption from the key that the worker writes."""
    keys = re.findall(r"custom_fields\.([\w-]+)", plan.outputs["try_it"])
    assert keys == [contract.METADATA_CAPTION]


def test_the_first_images_are_of_this_version(plans: dict[str, Plan]) -> None:
    """Without a named image, each part runs the digest behind the version of the checkout."""
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    for name in PARTS:
        image = "function" if name == "redrive" else name
        digest = sha256(f"{image}:{version}".encode()).hexdigest()  # As the stub makes up the digest behind a tag.
        registry = f"europe-west4-docker.pkg.dev/{PROJECT}/dropline"
        assert container_of(plans["minimal"], name)["image"] == f"{registry}/{image}@sha256:{digest}"
