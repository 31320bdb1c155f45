mock_provider "time" {}

mock_provider "google" {
  mock_resource "google_sql_database_instance" {
    defaults = {
      connection_name = "drop-project:us-central1:dropline"
    }
  }
}

variables {
  project          = "drop-project"
  region           = "us-central1"
  name             = "dropline"
  network          = "network"
  subnetwork       = "subnetwork"
  migrations_image = "registry.example/migrations@sha256:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
  readers          = { ana = "ana@example.com", bi = "bi@drop-project.iam.gserviceaccount.com" }
  logins = {
    ingest   = "f@drop-project.iam.gserviceaccount.com"
    worker   = "w@drop-project.iam.gserviceaccount.com"
    migrator = "m@drop-project.iam.gserviceaccount.com"
  }
}

run "logins_are_accounts" {
  command = apply

  assert {
    condition     = google_sql_user.service["ingest"].name == "f@drop-project.iam"
    error_message = "Cloud SQL leaves the ending of a service account's e-mail out."
  }

  assert {
    condition     = google_sql_user.person["ana"].type == "CLOUD_IAM_USER" && google_sql_user.person["bi"].type == "CLOUD_IAM_SERVICE_ACCOUNT"
    error_message = "A reader is a person or a service account."
  }

  assert {
    condition     = google_sql_user.person["ana"].deletion_policy == "DELETE"
    error_message = "A removed reader must lose login and role, whatever the provider's default is: the migrations only grant roles."
  }

  assert {
    condition     = output.urls["ingest"] == "postgresql://f%40drop-project.iam@127.0.0.1:5432/dropline?sslmode=disable"
    error_message = "The address names the login, and no password."
  }

  assert {
    condition     = output.reader_urls == { ana = "postgresql://ana%40example.com@127.0.0.1:5432/dropline?sslmode=disable", bi = "postgresql://bi%40drop-project.iam@127.0.0.1:5432/dropline?sslmode=disable" }
    error_message = "Each reader has an address with a login of their own."
  }

  assert {
    condition     = !contains(keys(output.urls), "migrator")
    error_message = "Only the migrations job uses the migrator account."
  }
}

run "migrations_grant_what_they_make" {
  command = apply

  assert {
    condition     = contains(google_cloud_run_v2_job.migrations.template[0].template[0].containers[0].command, "--grant=dropline_reader=ana@example.com")
    error_message = "A reader gets the reader's role."
  }

  assert {
    condition     = contains(google_cloud_run_v2_job.migrations.template[0].template[0].containers[0].command, "--grant=dropline_worker=w@drop-project.iam")
    error_message = "The worker gets the worker's role."
  }
}

run "a_trial_goes_with_its_instance" {
  command = plan
  variables {
    deletion_protection = false
  }

  assert {
    condition     = google_sql_database.this[0].deletion_policy == "ABANDON" && !google_sql_database_instance.this[0].deletion_protection && !google_sql_database_instance.this[0].settings[0].deletion_protection_enabled
    error_message = "Without protection the instance goes, and the database with it."
  }
}

run "another_image_is_another_execution" {
  command = apply
  variables {
    migrations_image = "registry.example/migrations@sha256:bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb"
  }

  assert {
    condition     = google_cloud_run_v2_job.migrations.run_execution_token != run.migrations_grant_what_they_make.execution
    error_message = "New migrations must be run."
  }
}

run "another_reader_is_another_execution" {
  command = apply
  variables {
    migrations_image = "registry.example/migrations@sha256:bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb"
    readers          = {}
  }

  assert {
    condition     = google_cloud_run_v2_job.migrations.run_execution_token != run.another_image_is_another_execution.execution
    error_message = "Readers get their role from the migrations."
  }
}

run "an_existing_instance" {
  command = apply
  variables {
    existing = { connection_name = "data-project:us-central1:main" }
  }

  assert {
    condition     = length(google_sql_database_instance.this) == 0 && output.instance == null && output.connection_name == "data-project:us-central1:main"
    error_message = "No instance is made beside the existing one."
  }

  assert {
    condition     = google_sql_database.this[0].project == "data-project" && google_sql_database.this[0].instance == "main" && google_sql_database.this[0].name == "dropline"
    error_message = "The database is made in the existing instance."
  }

  assert {
    condition     = alltrue([for user in google_sql_user.service : user.project == "data-project" && user.instance == "main"])
    error_message = "The logins are made in the existing instance."
  }

  assert {
    condition     = alltrue([for member in google_project_iam_member.login : member.project == "data-project" && strcontains(member.condition[0].expression, "projects/data-project/instances/main")])
    error_message = "The rights to log in are limited to the existing instance."
  }

  assert {
    condition     = contains(output.proxy.args, "data-project:us-central1:main")
    error_message = "The proxy connects to the existing instance."
  }
}

run "an_existing_instance_with_all_logins" {
  command = plan
  variables {
    gallery = { email = "g@drop-project.iam.gserviceaccount.com", writes = false }
    existing = {
      connection_name = "data-project:us-central1:main"
      has_database    = true
      has_logins      = ["ingest", "worker", "migrator", "gallery"]
      has_people      = ["ana"]
    }
  }

  assert {
    condition     = length(google_sql_database.this) == 0 && length(google_sql_user.service) == 0 && length(google_sql_user.gallery) == 0 && !contains(keys(google_sql_user.person), "ana")
    error_message = "What is there already is not made again."
  }

  assert {
    condition     = contains(local.deploy, "--grant=dropline_reader=ana@example.com") && contains(keys(google_project_iam_member.login), "roles/cloudsql.client/reader ana")
    error_message = "A login that was there already gets its roles and the rights to log in."
  }
}

run "a_login_of_no_process" {
  command = plan
  variables {
    existing = { connection_name = "data-project:us-central1:main", has_logins = ["function"] }
  }
  expect_failures = [var.existing]
}

run "a_login_of_nobody" {
  command = plan
  variables {
    existing = { connection_name = "data-project:us-central1:main", has_people = ["typo"] }
  }
  expect_failures = [var.existing]
}

run "an_existing_instance_by_its_name_alone" {
  command = plan
  variables {
    existing = { connection_name = "main" }
  }
  expect_failures = [var.existing]
}

run "a_database_with_a_strange_name" {
  command = plan
  variables {
    existing = { connection_name = "data-project:us-central1:main", database = "Captions!" }
  }
  expect_failures = [var.existing]
}

run "an_old_postgres" {
  command = plan
  variables {
    postgres_version = "POSTGRES_14"
  }
  expect_failures = [var.postgres_version]
}

run "a_login_too_few" {
  command = plan
  variables {
    logins = { ingest = "f@drop-project.iam.gserviceaccount.com" }
  }
  expect_failures = [var.logins]
}

run "hardly_any_backups" {
  command = plan
  variables {
    retained_backups = 1
  }
  expect_failures = [var.retained_backups]
}

run "a_reader_with_capitals" {
  command = plan
  variables {
    readers = { ana = "Ana@example.com" }
  }
  expect_failures = [var.readers]
}

run "a_reader_with_too_long_a_name" {
  command = plan
  variables {
    readers = { ana = "a-name-that-is-much-longer-than-those-of-postgres@a-rather-long-domain.example.com" }
  }
  expect_failures = [var.readers]
}

run "images_that_can_move" {
  command = plan
  variables {
    migrations_image = "europe-west4-docker.pkg.dev/drop-project/dropline/migrations:0.1.0"
    proxy_image      = "gcr.io/cloud-sql-connectors/cloud-sql-proxy:2.25.4"
  }
  expect_failures = [var.migrations_image, var.proxy_image]
}

run "an_editor_reads_too" {
  command = plan
  variables {
    editors = { eva = "eva@example.com" }
  }

  assert {
    condition     = google_sql_user.person["eva"].type == "CLOUD_IAM_USER" && length(setsubtract(["--grant=dropline_reader=eva@example.com", "--grant=dropline_editor=eva@example.com"], local.deploy)) == 0
    error_message = "The migrations grant an editor both roles."
  }

  assert {
    condition     = contains(keys(google_project_iam_member.login), "roles/cloudsql.instanceUser/reader eva")
    error_message = "An editor may log in."
  }
}

# A login that is made anew while the old one is dropped may be refused, or dropped after it was made.
run "a_reader_becomes_an_editor_by_a_grant_alone" {
  command = plan
  variables {
    readers = {}
    editors = { ana = "ana@example.com", bi = "bi@drop-project.iam.gserviceaccount.com" }
  }

  assert {
    condition     = google_sql_user.person["ana"].name == "ana@example.com" && contains(keys(google_project_iam_member.login), "roles/cloudsql.client/reader ana")
    error_message = "Login and rights keep their addresses."
  }

  assert {
    condition     = contains(local.deploy, "--grant=dropline_editor=ana@example.com")
    error_message = "The role of an editor is granted."
  }
}

run "an_address_with_two_names" {
  command = plan
  variables {
    editors = { eva = "ana@example.com" }
  }
  expect_failures = [var.editors]
}

run "an_editor_who_is_a_reader" {
  command = plan
  variables {
    editors = { ana = "ana@example.com" }
  }
  expect_failures = [var.editors]
}

run "a_gallery_that_only_reads" {
  command = plan
  variables {
    gallery = { email = "g@drop-project.iam.gserviceaccount.com", writes = false }
  }

  assert {
    condition     = contains(local.deploy, "--grant=dropline_reader=g@drop-project.iam") && output.gallery_url == "postgresql://g%40drop-project.iam@127.0.0.1:5432/dropline?sslmode=disable"
    error_message = "A gallery without the scopes submit and edit logs in as a reader."
  }
}

run "a_gallery_that_writes" {
  command = plan
  variables {
    gallery = { email = "g@drop-project.iam.gserviceaccount.com", writes = true }
  }

  assert {
    condition     = contains(local.deploy, "--grant=dropline_gallery=g@drop-project.iam")
    error_message = "A gallery with the scopes submit or edit has the role for both."
  }
}

run "a_tier_of_another_edition" {
  command = plan
  variables {
    tier = "db-perf-optimized-N-2"
  }
  expect_failures = [var.tier]
}

run "three_cpus" {
  command = plan
  variables {
    tier = "db-custom-3-11520"
  }
  expect_failures = [var.tier]
}

run "more_memory_than_a_cpu_has" {
  command = plan
  variables {
    tier = "db-custom-1-7680"
  }
  expect_failures = [var.tier]
}

run "less_memory_than_the_cpus_need" {
  command = plan
  variables {
    tier = "db-custom-8-3840"
  }
  expect_failures = [var.tier]
}

run "memory_that_is_no_multiple" {
  command = plan
  variables {
    tier = "db-custom-2-7700"
  }
  expect_failures = [var.tier]
}

run "half_a_gigabyte_of_disk" {
  command = plan
  variables {
    disk_gb = 10.5
  }
  expect_failures = [var.disk_gb]
}

run "half_a_connection" {
  command = plan
  variables {
    max_connections = 100.5
  }
  expect_failures = [var.max_connections]
}

run "backups_for_ever" {
  command = plan
  variables {
    retained_backups = 1000
  }
  expect_failures = [var.retained_backups]
}
