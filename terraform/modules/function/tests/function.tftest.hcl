mock_provider "google" {
  mock_resource "google_cloud_run_v2_service" {
    defaults = {
      uri = "https://function.example"
    }
  }
}

variables {
  project      = "drop-project"
  region       = "us-central1"
  name         = "dropline"
  network      = "network"
  subnetwork   = "subnetwork"
  database_url = "postgresql://login@127.0.0.1:5432/dropline?sslmode=disable"
  proxy = {
    image       = "registry.example/proxy@sha256:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
    args        = ["--port=5432"]
    health_port = 9801
    job_command = ["python", "-m", "db.with_proxy", "--startup=http://127.0.0.1:9801/startup", "--", "cloud-sql-proxy", "--"]
  }
  broker_url_secret = "url"
  broker_certificate = {
    secret    = "ca"
    directory = "/etc/redis"
    file      = "ca.pem"
  }
  buckets              = ["drops"]
  image                = "registry.example/function@sha256:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
  service_account      = "dropline-function@drop-project.iam.gserviceaccount.com"
  push_service_account = "dropline-push@drop-project.iam.gserviceaccount.com"
}

run "closed_to_the_world" {
  command = plan

  assert {
    condition     = google_cloud_run_v2_service.this.ingress == "INGRESS_TRAFFIC_INTERNAL_ONLY"
    error_message = "Only Pub/Sub calls the function."
  }

  assert {
    condition     = google_cloud_run_v2_service_iam_member.push.member == "serviceAccount:dropline-push@drop-project.iam.gserviceaccount.com"
    error_message = "Only the push account may invoke it."
  }

  assert {
    condition     = length(google_cloud_run_v2_service_iam_member.wake) == 0
    error_message = "Without scale to zero there are no calls of Cloud Tasks."
  }
}

run "tokens_as_cloud_run_forwards_them" {
  command = plan

  assert {
    condition = !google_cloud_run_v2_service.this.invoker_iam_disabled && anytrue([
      for variable in google_cloud_run_v2_service.this.template[0].containers[0].env :
      variable.name == "DROPLINE_PUSH__BEHIND_CLOUD_RUN" && variable.value == "true"
    ])
    error_message = "Cloud Run demands a token of every caller, and the function does not look for the signature that Cloud Run removes."
  }
}

run "calls_of_cloud_tasks" {
  command = plan

  variables {
    wake = { service_account = "dropline-wake@drop-project.iam.gserviceaccount.com" }
  }

  assert {
    condition = anytrue([
      for variable in google_cloud_run_v2_service.this.template[0].containers[0].env :
      variable.name == "DROPLINE_PUSH__WAKE_SERVICE_ACCOUNT" && variable.value == "dropline-wake@drop-project.iam.gserviceaccount.com"
    ])
    error_message = "The function accepts the account of the calls."
  }

  assert {
    condition     = google_cloud_run_v2_service_iam_member.wake[0].member == "serviceAccount:dropline-wake@drop-project.iam.gserviceaccount.com"
    error_message = "Cloud Run accepts the account of the calls."
  }
}

run "starts_when_the_network_is_there" {
  command = plan

  assert {
    condition     = google_cloud_run_v2_service.this.template[0].containers[0].startup_probe[0].http_get[0].path == "/started"
    error_message = "An instance without its network must not take events."
  }

  assert {
    condition     = google_cloud_run_v2_service.this.template[0].containers[0].liveness_probe[0].http_get[0].path == "/healthz"
    error_message = "An outage of Postgres must not restart instances."
  }
}

run "one_audience_for_both_sides" {
  command = apply

  assert {
    condition     = contains(google_cloud_run_v2_service.this.custom_audiences, output.push_audience)
    error_message = "Cloud Run must accept the audience that Pub/Sub uses."
  }

  assert {
    condition     = output.push_endpoint == "https://function.example/"
    error_message = "Events are pushed to the service's own address."
  }
}

run "settings_that_are_made_here_win" {
  command = plan
  variables {
    environment = { DROPLINE_EVENTS__BUCKETS = "[\"others\"]", DROPLINE_LOG__LEVEL = "DEBUG" }
  }

  assert {
    condition     = one([for env in google_cloud_run_v2_service.this.template[0].containers[0].env : env.value if env.name == "DROPLINE_EVENTS__BUCKETS"]) == "[\"drops\"]"
    error_message = "The buckets are those that are listened to."
  }

  assert {
    condition     = one([for env in google_cloud_run_v2_service.this.template[0].containers[0].env : env.value if env.name == "DROPLINE_LOG__LEVEL"]) == "DEBUG"
    error_message = "Further settings are passed on."
  }
}

run "a_setting_of_somebody_else" {
  command = plan
  variables {
    environment = { PATH = "/" }
  }
  expect_failures = [var.environment]
}

run "a_setting_of_no_group" {
  command = plan
  variables {
    environment = { DROPLINE_LOGS__LEVEL = "DEBUG" }
  }
  expect_failures = [var.environment]
}

run "tasks_of_florence" {
  command = plan
  variables {
    default_task   = "more-detailed-caption"
    task_by_prefix = { "scans/" = "<OCR>, <OD>", "cars/" = "<OPEN_VOCABULARY_DETECTION>a car, a cat, <OD>" }
  }

  assert {
    condition     = one([for env in google_cloud_run_v2_service.this.template[0].containers[0].env : env.value if env.name == "DROPLINE_EVENTS__DEFAULT_TASK"]) == "more-detailed-caption"
    error_message = "The function reads the same spellings as people write."
  }
}

run "a_task_of_nobody" {
  command = plan
  variables {
    default_task = "<CAPTOIN>"
  }
  expect_failures = [var.default_task]
}

run "a_task_that_takes_no_text" {
  command = plan
  variables {
    task_by_prefix = { "scans/" = "<OCR>", "cars/" = "<OD>a car" }
  }
  expect_failures = [var.task_by_prefix]
}

run "an_address_of_ones_own" {
  command = plan
  variables {
    environment = { DROPLINE_BROKER__URL = "redis://elsewhere" }
  }
  expect_failures = [var.environment]
}

run "a_password_in_the_address" {
  command = plan
  variables {
    database_url = "postgresql://login:secret@127.0.0.1:5432/dropline"
  }
  expect_failures = [var.database_url]
}

run "fewer_at_most_than_at_least" {
  command = plan
  variables {
    instances = { min = 3, max = 2 }
  }
  expect_failures = [var.instances]
}

run "no_bucket" {
  command = plan
  variables {
    buckets = []
  }
  expect_failures = [var.buckets]
}

run "redriving_is_the_function_in_another_form" {
  command = plan

  assert {
    condition     = google_cloud_run_v2_job.redrive.template[0].template[0].containers[0].env == google_cloud_run_v2_service.this.template[0].containers[0].env
    error_message = "The job must have the function's environment."
  }

  assert {
    condition     = google_cloud_run_v2_job.redrive.template[0].template[0].service_account == google_cloud_run_v2_service.this.template[0].service_account
    error_message = "The job must log in as the function."
  }

  assert {
    condition     = contains(google_cloud_run_v2_job.redrive.template[0].template[0].containers[0].args, "--dry-run")
    error_message = "Run without arguments the job only counts."
  }

  assert {
    condition     = length(google_cloud_run_v2_job.redrive.template[0].template[0].containers) == 1 && google_cloud_run_v2_job.redrive.template[0].template[0].containers[0].command == tolist(concat(var.proxy.job_command, ["dropline", "redrive"]))
    error_message = "The job has one container, and so ends with it; the proxy runs inside."
  }
}

run "an_image_that_can_move" {
  command = plan
  variables {
    image = "europe-west4-docker.pkg.dev/drop-project/dropline/function:0.1.0"
  }
  expect_failures = [var.image]
}

run "half_a_byte" {
  command = plan
  variables {
    max_size_bytes = 1000.5
  }
  expect_failures = [var.max_size_bytes]
}

run "half_an_instance" {
  command = plan
  variables {
    instances = { min = 0.5, max = 2 }
  }
  expect_failures = [var.instances]
}

run "no_cpu_for_the_proxy" {
  command = plan
  variables {
    cpu = "8"
  }
  expect_failures = [var.cpu]
}

run "memory_without_a_unit" {
  command = plan
  variables {
    memory = "512"
  }
  expect_failures = [var.memory]
}
