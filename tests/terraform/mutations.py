"""Changes of `terraform/`. Each change breaks a policy, and the policy is of use only if it notices the change."""

from tests.terraform import policies, run_policies
from tests.terraform.fresh_mutations import FRESH_MUTATIONS
from tests.terraform.mutation import Mutation
from tests.terraform.sleep_mutations import SLEEP_MUTATIONS

_BUCKET = "storage/main.tf"
_EVENTS = "events/main.tf"
_GRANTS = "events/iam.tf"
_FUNCTION = "function/main.tf"
_REDIS = "queue/main.tf"
_POSTGRES = "database/main.tf"
_POOL = "worker/main.tf"
_KEY = 'resource "google_service_account_key" "key" {\n  service_account_id = "dropline-worker"\n}\n\n'
_INVOKER = 'member   = "serviceAccount:${var.push_service_account}"'

MUTATIONS = (
    Mutation(policies.no_open_doors, _BUCKET, '= "enforced"', '= "inherited"'),
    Mutation(
        policies.no_open_doors,
        _BUCKET,
        "uniform_bucket_level_access = true",
        "uniform_bucket_level_access = false",
    ),
    Mutation(policies.no_open_doors, _FUNCTION, "INGRESS_TRAFFIC_INTERNAL_ONLY", "INGRESS_TRAFFIC_ALL"),
    Mutation(policies.no_open_doors, _FUNCTION, "invoker_iam_disabled = false", "invoker_iam_disabled = true"),
    Mutation(policies.no_public_access, _FUNCTION, _INVOKER, 'member = "allUsers"'),
    Mutation(policies.no_public_access, _POSTGRES, "ipv4_enabled    = false", "ipv4_enabled = true"),
    Mutation(policies.no_broad_roles, "database/users.tf", '"roles/cloudsql.client"', '"roles/editor"'),
    Mutation(policies.no_broad_roles, "database/users.tf", '"roles/cloudsql.client"', '"roles/cloudsql.admin"'),
    Mutation(
        policies.no_broad_roles, "database/users.tf", '"roles/cloudsql.client"', '"roles/storage.objectViewer"'
    ),
    Mutation(policies.no_broad_roles, _GRANTS, "serviceAccountOpenIdTokenCreator", "serviceAccountTokenCreator"),
    Mutation(policies.no_keys, "accounts.tf", "# Each process has", _KEY + "# Each process has"),
    Mutation(
        policies.secrets_come_from_secret_manager,
        _FUNCTION,
        "DROPLINE_PUSH__AUDIENCE ",
        'DROPLINE_BROKER__URL = "redis://10.0.0.1:6379/0"\n    DROPLINE_PUSH__AUDIENCE ',
    ),
    Mutation(
        policies.secrets_come_from_secret_manager,
        "database/migrations.tf",
        'value = local.urls["migrator"]',
        'value = "postgresql://me:hunter2@127.0.0.1/dropline"',
    ),
    Mutation(
        policies.arguments_hold_no_secrets,
        "database/migrations.tf",
        '"--", "cloud-sql-proxy"],',
        '"--", "cloud-sql-proxy", "--dsn=postgresql://me:hunter2@127.0.0.1/dropline"],',
    ),
    Mutation(
        policies.secrets_come_from_secret_manager,
        "database/migrations.tf",
        'value = local.urls["migrator"]',
        'value = "host=127.0.0.1 dbname=dropline user=me password=hunter2"',
    ),
    *(
        Mutation(
            policies.arguments_hold_no_secrets,
            "database/migrations.tf",
            '"--", "cloud-sql-proxy"],',
            f'"--", "cloud-sql-proxy", {arguments}],',
        )
        for arguments in (
            '"--token=hunter2"',
            '"--db-password", "hunter2"',
            '"-c", "proxy --client-secret=hunter2"',
        )
    ),
    Mutation(
        policies.secrets_come_from_secret_manager,
        "database/users.tf",
        'type     = "CLOUD_IAM_SERVICE_ACCOUNT"',
        'type = "BUILT_IN"',
    ),
    Mutation(
        policies.secrets_are_read_by_name,
        "queue/secrets.tf",
        '"serviceAccount:${each.value.member}"',
        '"domain:example.com"',
    ),
    Mutation(policies.secrets_are_read_by_name, "queue/secrets.tf", "secretAccessor", "admin"),
    Mutation(policies.what_holds_data_is_protected, _BUCKET, '"PREVENT"', '"DELETE"'),
    Mutation(policies.what_holds_data_is_protected, _BUCKET, "= !var.deletion_protection", "= true"),
    Mutation(policies.what_holds_data_is_protected, _REDIS, "= var.deletion_protection", "= false"),
    Mutation(
        policies.what_holds_data_is_protected,
        _POSTGRES,
        "deletion_protection_enabled = var.deletion_protection",
        "deletion_protection_enabled = false",
    ),
    Mutation(policies.what_holds_data_is_protected, _POSTGRES, '"PREVENT"', '"DELETE"'),
    Mutation(
        policies.what_holds_data_is_protected,
        "variables.tf",
        'with all data."\n  type        = bool\n  default     = true',
        'with all data."\n  type        = bool\n  default     = false',
    ),
    Mutation(policies.what_is_promised_is_kept, _BUCKET, "var.soft_delete_days * 86400", "0"),
    Mutation(
        policies.what_is_promised_is_kept,
        _POSTGRES,
        "retained_backups = var.retained_backups",
        "retained_backups = 7",
    ),
    Mutation(policies.what_is_promised_is_kept, _POSTGRES, "log_retention_days = 7", "log_retention_days = 1"),
    Mutation(policies.what_is_promised_is_kept, _EVENTS, '"2678400s"', '"604800s"'),
    Mutation(
        policies.what_is_promised_is_kept,
        _EVENTS,
        'the events of a weekend.\n  message_retention_duration = "604800s"',
        'the events of a weekend.\n  message_retention_duration = "86400s"',
    ),
    Mutation(
        policies.agents_have_their_roles, _GRANTS, "member  = var.storage_agent", "member = var.pubsub_agent"
    ),
    Mutation(policies.agents_have_their_roles, _GRANTS, "roles/pubsub.subscriber", "roles/pubsub.viewer"),
    Mutation(policies.agents_have_their_roles, _GRANTS, "serviceAccountOpenIdTokenCreator", "serviceAccountUser"),
    Mutation(
        policies.agents_have_their_roles,
        _GRANTS,
        "topic   = google_pubsub_topic.dead_letters.name",
        "topic = google_pubsub_topic.objects.name",
    ),
    Mutation(
        policies.dead_letters_are_kept,
        _EVENTS,
        "topic                      = google_pubsub_topic.dead_letters.id",
        "topic = google_pubsub_topic.objects.id",
    ),
    Mutation(
        policies.dead_letters_are_kept,
        _EVENTS,
        'without a reader.\n  expiration_policy {\n    ttl = ""',
        'without a reader.\n  expiration_policy {\n    ttl = "2678400s"',
    ),
    Mutation(policies.only_pubsub_and_cloud_tasks_invoke, _FUNCTION, _INVOKER, 'member = "user:me@example.com"'),
    Mutation(
        policies.only_pubsub_and_cloud_tasks_invoke,
        _FUNCTION,
        _INVOKER,
        'member = "serviceAccount:${var.service_account}"',
    ),
    Mutation(
        policies.events_are_new_and_gone_objects, _EVENTS, '"OBJECT_FINALIZE", ', '"OBJECT_METADATA_UPDATE", '
    ),
    Mutation(
        policies.events_are_new_and_gone_objects,
        _EVENTS,
        ', "OBJECT_ARCHIVE"',
        ', "OBJECT_ARCHIVE", "OBJECT_METADATA_UPDATE"',
    ),
    Mutation(policies.events_are_new_and_gone_objects, _EVENTS, ', "OBJECT_ARCHIVE"', ""),
    Mutation(policies.events_are_new_and_gone_objects, _EVENTS, "JSON_API_V1", "NONE"),
    Mutation(
        policies.storage_rights_are_narrow,
        "worker/iam.tf",
        '"storage.objects.update"]',
        '"storage.objects.delete"]',
    ),
    Mutation(
        policies.storage_rights_are_narrow,
        "worker/iam.tf",
        '"projects/${var.project}/roles/${google_project_iam_custom_role.captioner.role_id}"',
        '"roles/storage.objectUser"',
    ),
    Mutation(policies.redis_keeps_the_queue, _REDIS, "= var.tier", '= "BASIC"'),
    Mutation(policies.redis_keeps_the_queue, _REDIS, '"noeviction"', '"volatile-lru"'),
    Mutation(policies.redis_keeps_the_queue, _REDIS, '"SERVER_AUTHENTICATION"', '"DISABLED"'),
    Mutation(policies.redis_keeps_the_queue, _REDIS, "auth_enabled            = true", "auth_enabled = false"),
    Mutation(
        policies.postgres_is_backed_up_and_encrypted,
        _POSTGRES,
        "point_in_time_recovery_enabled = true",
        "point_in_time_recovery_enabled = false",
    ),
    Mutation(
        policies.postgres_is_backed_up_and_encrypted,
        _POSTGRES,
        "TRUSTED_CLIENT_CERTIFICATE_REQUIRED",
        "ALLOW_UNENCRYPTED_AND_ENCRYPTED",
    ),
    Mutation(
        policies.postgres_is_backed_up_and_encrypted,
        _POSTGRES,
        "cloudsql.iam_authentication",
        "cloudsql.enable_pgaudit",
    ),
    Mutation(
        policies.pushes_are_signed_and_tried_again,
        _EVENTS,
        '  retry_policy {\n    minimum_backoff = "${var.retry.minimum_backoff_s}s"\n'
        '    maximum_backoff = "${var.retry.maximum_backoff_s}s"\n  }\n\n  dead_letter_policy',
        "  dead_letter_policy",
    ),
    Mutation(
        policies.pushes_are_signed_and_tried_again,
        _EVENTS,
        "    oidc_token {\n      service_account_email = var.push_service_account\n"
        "      audience              = var.push_audience\n    }\n",
        "",
    ),
    Mutation(
        policies.tokens_are_accepted_without_their_signature,
        _FUNCTION,
        'DROPLINE_PUSH__BEHIND_CLOUD_RUN = "true"',
        'DROPLINE_PUSH__BEHIND_CLOUD_RUN = "false"',
    ),
    Mutation(
        policies.tokens_are_accepted_without_their_signature,
        _FUNCTION,
        '    DROPLINE_PUSH__BEHIND_CLOUD_RUN = "true"\n',
        "",
    ),
    Mutation(
        run_policies.processes_run_as_themselves,
        _POOL,
        "= var.service_account\n",
        '= "1-compute@developer.gserviceaccount.com"\n',
    ),
    Mutation(
        run_policies.processes_run_as_themselves,
        "main.tf",
        'service_account    = google_service_account.this["worker"].email',
        'service_account = google_service_account.this["function"].email',
    ),
    Mutation(run_policies.images_are_pinned, _POOL, "image      = var.image", 'image = "worker:0.1.0"'),
    Mutation(run_policies.images_are_pinned, _FUNCTION, "image = var.proxy.image", 'image = "proxy"'),
    Mutation(
        run_policies.images_are_pinned,
        "database/migrations.tf",
        "= var.migrations_image\n        command",
        '= "registry.example/migrations:0.1.0"\n        command',
    ),
    *(
        Mutation(
            run_policies.a_job_ends_with_its_container,
            file,
            "      vpc_access {",
            f'      containers {{\n        name = "proxy"\n        image = {image}\n      }}\n      vpc_access {{',
        )
        for file, image in (
            ("database/migrations.tf", "var.proxy_image"),
            ("function/redrive.tf", "var.proxy.image"),
        )
    ),
    Mutation(run_policies.a_gpu_gets_what_it_needs, _POOL, '{ "nvidia.com/gpu" = "1" }', "{}"),
    Mutation(run_policies.a_gpu_gets_what_it_needs, _POOL, "local.gpu ? true : null", "null"),
    Mutation(run_policies.a_gpu_gets_what_it_needs, _POOL, "memory = var.memory }", 'memory = "8Gi" }'),
    Mutation(
        run_policies.an_instance_fits_into_cloud_run, _POOL, '          cpu    = "1"', '          cpu    = "6"'
    ),
    Mutation(
        run_policies.an_instance_fits_into_cloud_run,
        "function/variables.tf",
        'default     = "512Mi"',
        'default = "128Mi"',
    ),
    Mutation(
        run_policies.the_function_takes_many_at_once,
        _FUNCTION,
        "request_concurrency = 80",
        "request_concurrency = 1",
    ),
    Mutation(run_policies.an_idle_function_costs_nothing, _FUNCTION, "        cpu_idle = true\n", ""),
    Mutation(run_policies.an_idle_function_costs_nothing, "database/migrations.tf", '    "--lazy-refresh",\n', ""),
    Mutation(run_policies.whatever_runs_on_is_probed, _POOL, "tostring(local.health_port)", '"8081"'),
    Mutation(run_policies.whatever_runs_on_is_probed, _POOL, "failure_threshold = 24", "failure_threshold = 120"),
    *(
        Mutation(run_policies.a_service_starts_with_its_network, _FUNCTION, old, new)
        for old, new in (
            ('path = "/started"', 'path = "/healthz"'),
            ("period_seconds    = 3\n", "period_seconds = 1\n"),
            ("timeout_seconds   = 2\n", ""),
        )
    ),
    Mutation(
        run_policies.a_job_waits_for_its_network,
        "function/redrive.tf",
        'concat(var.proxy.job_command, ["dropline", "redrive"])',
        '["dropline", "redrive"]',
    ),
    Mutation(
        run_policies.a_job_waits_for_its_network,
        "database/migrations.tf",
        '"db.with_proxy", ',
        '"db.with_proxy", "--answer-s=0", ',
    ),
    Mutation(policies.everything_is_labelled, "main.tf", '{ app = "dropline" }', "{}"),
    Mutation(
        policies.everything_is_labelled,
        _POSTGRES,
        "user_labels                 = var.labels",
        "user_labels = {}",
    ),
    Mutation(
        run_policies.everybody_reaches_google,
        _FUNCTION,
        '"PRIVATE_RANGES_ONLY"',
        '"ALL_TRAFFIC"',
    ),
    Mutation(
        run_policies.everybody_reaches_google,
        "network/main.tf",
        "private_ip_google_access = true",
        "private_ip_google_access = false",
    ),
    *SLEEP_MUTATIONS,
    *FRESH_MUTATIONS,
)
