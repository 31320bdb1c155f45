"""Mutations for the policies of scale to zero."""

from tests.terraform import policies, sleep_policies
from tests.terraform.mutation import Mutation

_POOL = "worker/main.tf"
_SCALING = "worker/scaling.tf"
_WAKE = "worker/wake.tf"
_REDRIVE = "function/redrive.tf"

SLEEP_MUTATIONS = (
    Mutation(
        sleep_policies.whoever_scales_names_the_pool,
        _POOL,
        "workerPools/${var.name}-worker",
        "workerPools/${var.name}",
    ),
    Mutation(
        sleep_policies.whoever_scales_names_the_pool,
        "main.tf",
        "merge(var.environment, module.worker.pool_settings)",
        "var.environment",
    ),
    Mutation(
        sleep_policies.whoever_scales_names_the_pool,
        "main.tf",
        "merge(var.environment, module.worker.pool_settings)",
        'merge(var.environment, module.worker.pool_settings, { DROPLINE_POOL__INSTANCES = "2" })',
    ),
    Mutation(
        sleep_policies.a_pool_that_sleeps_begins_asleep,
        _POOL,
        "= var.sleep == null ? var.instances : 0",
        "= var.instances",
    ),
    Mutation(sleep_policies.tasks_reach_the_function, "main.tf", ".run.app/wake", ".run.app/"),
    Mutation(
        sleep_policies.tasks_are_accepted_and_bring_no_events,
        "main.tf",
        '= "${var.name}-push"',
        '= "another"',
    ),
    Mutation(sleep_policies.tasks_reach_the_function, _WAKE, "max_attempts  = -1", "max_attempts = 5"),
    Mutation(
        sleep_policies.tasks_are_accepted_and_bring_no_events,
        "main.tf",
        'run.app/wake"\n    service_account = google_service_account.this["wake"].email',
        'run.app/wake"\n    service_account = google_service_account.this["push"].email',
    ),
    Mutation(
        sleep_policies.tasks_are_accepted_and_bring_no_events,
        "function/main.tf",
        "DROPLINE_PUSH__WAKE_SERVICE_ACCOUNT = var.wake.service_account",
        "DROPLINE_PUSH__WAKE_SERVICE_ACCOUNT = var.push_service_account",
    ),
    Mutation(
        policies.only_pubsub_and_cloud_tasks_invoke,
        "function/main.tf",
        'member   = "serviceAccount:${var.wake.service_account}"',
        'member   = "serviceAccount:${var.service_account}"',
    ),
    Mutation(
        sleep_policies.tasks_reach_the_function,
        _WAKE,
        'queues/${try(google_cloud_tasks_queue.wake[0].name, "")}',
        "queues/${var.name}",
    ),
    Mutation(
        sleep_policies.tasks_reach_the_function,
        _WAKE,
        "locations/${local.tasks_region}/queues",
        "locations/${var.region}/queues",
    ),
    Mutation(
        sleep_policies.the_queue_is_where_cloud_tasks_exists,
        _WAKE,
        '    europe-west4            = "europe-west1"\n',
        "",
    ),
    Mutation(
        sleep_policies.the_queue_is_where_cloud_tasks_exists,
        _WAKE,
        "  location = google_cloud_tasks_queue.wake[0].location",
        "  location = var.region",
    ),
    Mutation(
        sleep_policies.scalers_change_one_pool_only,
        _WAKE,
        "serviceAccounts/${var.wake.service_account}",
        "serviceAccounts/1-compute@developer.gserviceaccount.com",
    ),
    Mutation(
        sleep_policies.events_outlive_a_falling_asleep,
        "events/main.tf",
        "= var.retry.max_delivery_attempts",
        "= 5",
    ),
    Mutation(
        sleep_policies.scalers_change_one_pool_only,
        _SCALING,
        'role     = "projects/${var.project}/roles/${google_project_iam_custom_role.scaler[0].role_id}"',
        'role = "roles/run.developer"',
    ),
    Mutation(
        sleep_policies.scalers_change_one_pool_only,
        _SCALING,
        "name     = google_cloud_run_v2_worker_pool.this.name",
        'name = "another-pool"',
    ),
    Mutation(
        sleep_policies.scalers_change_one_pool_only,
        _SCALING,
        "serviceAccounts/${var.service_account}",
        "serviceAccounts/1-compute@developer.gserviceaccount.com",
    ),
    Mutation(
        sleep_policies.scalers_change_one_pool_only,
        "main.tf",
        'to_zero ? {\n    function = google_service_account.this["function"].email',
        'to_zero ? {\n    function = google_service_account.this["push"].email',
    ),
    Mutation(
        sleep_policies.scalers_change_one_pool_only,
        _SCALING,
        "# The rights to change this worker pool",
        'resource "google_project_iam_member" "all_pools" {\n'
        '  project = var.project\n  role = "roles/run.developer"\n'
        '  member = "serviceAccount:${var.service_account}"\n}\n\n# The rights to change this worker pool',
    ),
    Mutation(
        sleep_policies.redriving_is_the_function,
        _REDRIVE,
        "service_account = var.service_account",
        "service_account = var.push_service_account",
    ),
    Mutation(
        sleep_policies.redriving_is_the_function,
        _REDRIVE,
        "for_each = local.environment",
        "for_each = var.environment",
    ),
    Mutation(sleep_policies.redriving_is_the_function, _REDRIVE, "= var.image\n", '= "elsewhere/function:1"\n'),
    Mutation(
        sleep_policies.redriving_is_the_function,
        _REDRIVE,
        "secret  = var.broker_url_secret",
        'secret = "another"',
    ),
)
