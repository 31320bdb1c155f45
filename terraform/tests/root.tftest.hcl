mock_provider "google-beta" {
  mock_resource "google_project_service_identity" {
    defaults = {
      member = "serviceAccount:service-123456789012@gcp-sa-pubsub.iam.gserviceaccount.com"
    }
  }
}

mock_provider "time" {}

mock_provider "google" {
  mock_resource "google_cloud_run_v2_service" {
    defaults = {
      uri = "https://function.example"
    }
  }
  mock_resource "google_service_account" {
    defaults = {
      email = "somebody@drop-project.iam.gserviceaccount.com"
    }
  }
  mock_data "google_artifact_registry_docker_image" {
    defaults = {
      self_link = "europe-west4-docker.pkg.dev/drop-project/dropline/image@sha256:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
    }
  }
  mock_data "google_storage_project_service_account" {
    defaults = {
      member = "serviceAccount:service-1@gs-project-accounts.iam.gserviceaccount.com"
    }
  }
}

variables {
  project = "drop-project"
}

run "a_project_is_enough" {
  command = apply

  assert {
    condition     = output.buckets == tolist(["drop-project-dropline-drops"])
    error_message = "Without a choice there is one bucket."
  }

  assert {
    condition     = data.google_artifact_registry_docker_image.this["worker"].project == "drop-project" && data.google_artifact_registry_docker_image.this["worker"].location == "europe-west4" && data.google_artifact_registry_docker_image.this["worker"].repository_id == "dropline" && data.google_artifact_registry_docker_image.this["worker"].image_name == "worker:0.1.0"
    error_message = "Without a choice the images are in the project's registry."
  }

  assert {
    condition     = alltrue([for image in values(output.images) : endswith(image, "@sha256:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa")])
    error_message = "What is deployed is the digest behind the tag."
  }
}

run "a_registry_of_ones_own" {
  command = plan
  variables {
    registry = "europe-docker.pkg.dev/shared/images"
  }

  assert {
    condition     = alltrue([for part, image in data.google_artifact_registry_docker_image.this : image.location == "europe" && image.project == "shared" && image.repository_id == "images" && image.image_name == "${part}:0.1.0"])
    error_message = "All images come from the named registry."
  }
}

run "asleep_by_default" {
  command = apply

  assert {
    condition     = module.worker.pool_settings["DROPLINE_POOL__NAME"] == module.worker.pool_path
    error_message = "Scale to zero is the default."
  }
}

run "always_awake" {
  command = apply
  variables {
    worker_scale_to_zero = false
    retry                = { max_delivery_attempts = 5 }
  }

  assert {
    condition     = length(module.worker.pool_settings) == 0
    error_message = "Without scale to zero, there are no scaling settings."
  }
}

run "too_few_attempts_for_a_pool_that_sleeps" {
  command = plan
  variables {
    retry = { max_delivery_attempts = 9 }
  }
  expect_failures = [var.retry]
}

run "attempts_that_are_over_too_soon" {
  command = plan
  variables {
    retry = { minimum_backoff_s = 0, maximum_backoff_s = 10 }
  }
  expect_failures = [var.retry]
}

run "a_lease_shorter_than_a_call" {
  command = plan
  variables {
    worker_sleep = { lease_s = 29 }
  }
  expect_failures = [var.worker_sleep]
}

run "a_pool_that_never_idles" {
  command = plan
  variables {
    worker_sleep = { idle_s = 0 }
  }
  expect_failures = [var.worker_sleep]
}

run "a_setting_of_no_group" {
  command = plan
  variables {
    environment = { DROPLINE_ENGIN__DEVICE = "cpu" }
  }
  expect_failures = [var.environment]
}

run "a_pool_of_somebody_else" {
  command = plan
  variables {
    environment = { DROPLINE_POOL__NAME = "projects/p/locations/l/workerPools/w" }
  }
  expect_failures = [var.environment]
}

run "a_reader_has_an_address" {
  command = apply
  variables {
    database_readers = { page = "page@drop-project.iam.gserviceaccount.com" }
  }

  assert {
    condition     = output.room.database_urls["page"] == "postgresql://page%40drop-project.iam@127.0.0.1:5432/dropline?sslmode=disable"
    error_message = "What is put beside Dropline logs in as itself."
  }
}

run "an_image_of_ones_own" {
  command = plan
  variables {
    images = { worker = "example.com/team/worker@sha256:bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb" }
  }

  assert {
    condition     = output.images.worker == "example.com/team/worker@sha256:bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb" && keys(data.google_artifact_registry_docker_image.this) == ["function", "migrations"]
    error_message = "One image can be replaced alone, and a digest is not looked up."
  }
}

run "an_image_of_another_registry_that_can_move" {
  command = plan
  variables {
    images = { migrations = "example.com/migrations:7" }
  }
  expect_failures = [var.images]
}

run "an_image_that_always_moves" {
  command = plan
  variables {
    images = { function = "europe-west4-docker.pkg.dev/drop-project/dropline/function:latest" }
  }
  expect_failures = [var.images]
}

run "a_registry_without_digests" {
  command = plan
  variables {
    registry = "docker.io/dropline"
  }
  expect_failures = [var.registry]
}

run "a_second_one_beside_the_first" {
  command = plan
  variables {
    name = "other"
  }

  assert {
    condition     = output.worker_pool == "other-worker" && output.buckets == tolist(["drop-project-other-drops"])
    error_message = "All names begin with the deployment's."
  }

  assert {
    condition     = data.google_artifact_registry_docker_image.this["worker"].repository_id == "dropline"
    error_message = "Both run the same images."
  }
}

run "prefixes_that_overlap" {
  command = plan
  variables {
    buckets = [{ name = "drops", prefixes = ["in/", "in/new/"] }]
  }
  expect_failures = [var.buckets]
}

run "a_zone_for_a_region" {
  command = plan
  variables {
    region = "us-central1-a"
  }
  expect_failures = [var.region]
}

run "a_zone_for_the_region_of_the_queue" {
  command = plan
  variables {
    tasks_region = "europe-west1-b"
  }
  expect_failures = [var.tasks_region]
}

run "a_project_number" {
  command = plan
  variables {
    project = "123456789012"
  }
  expect_failures = [var.project]
}

run "an_image_that_nobody_can_name" {
  command = plan
  variables {
    image_tag = "latest"
  }
  expect_failures = [var.image_tag]
}

run "labels_that_google_refuses" {
  command = plan
  variables {
    labels = { Team = "Us" }
  }
  expect_failures = [var.labels]
}

run "a_name_that_is_too_long" {
  command = plan
  variables {
    name = "a-name-that-is-longer-than-accounts"
  }
  expect_failures = [var.name]
}

run "a_name_that_is_too_long_with_its_project" {
  command = plan
  variables {
    project = "a-project-with-a-very-long-nam"
    name    = "a-name-of-20-letters"
  }
  expect_failures = [var.name]
}

run "a_gallery_of_a_bucket_with_prefixes" {
  command = plan
  variables {
    buckets = [{ name = "drops", prefixes = ["in/", "new/"] }]
    gallery = { members = ["user:ana@example.com"] }
  }

  assert {
    condition     = local.submit_prefix == "in/submitted/"
    error_message = "An upload has a name that the bucket announces."
  }
}

run "a_gallery_of_a_whole_bucket" {
  command = plan
  variables {
    gallery = { members = ["user:ana@example.com"] }
  }

  assert {
    condition     = local.submit_prefix == null
    error_message = "Uploads have the usual prefix."
  }
}

run "a_token_beside_the_gallery" {
  command = plan
  variables {
    environment = { DROPLINE_GALLERY__TOKENS = "[]" }
  }
  expect_failures = [var.environment]
}

run "more_prefixes_than_notifications" {
  command = plan
  variables {
    buckets = [{ name = "drops", prefixes = [for number in range(11) : "day-${number + 10}/"] }]
  }
  expect_failures = [var.buckets]
}

run "a_name_of_googles_own" {
  command = plan
  variables {
    name = "google-drops"
  }
  expect_failures = [var.name]
}

run "an_existing_network" {
  command = plan
  variables {
    network = { network = "projects/host/global/networks/shared", subnetwork = "projects/host/regions/europe-west4/subnetworks/run" }
  }

  assert {
    condition     = length(module.network) == 0 && output.room.subnetwork == "projects/host/regions/europe-west4/subnetworks/run"
    error_message = "An existing network is used, and none is made."
  }
}

run "a_subnetwork_of_another_region" {
  command = plan
  variables {
    network = { network = "projects/host/global/networks/shared", subnetwork = "projects/host/regions/us-central1/subnetworks/run" }
  }
  expect_failures = [var.network]
}

run "a_subnetwork_of_another_project" {
  command = plan
  variables {
    network = { network = "projects/host/global/networks/shared", subnetwork = "projects/other/regions/europe-west4/subnetworks/run" }
  }
  expect_failures = [var.network]
}

run "a_network_by_its_name" {
  command = plan
  variables {
    network = { network = "shared", subnetwork = "projects/host/regions/europe-west4/subnetworks/run" }
  }
  expect_failures = [var.network]
}

run "a_redis_with_its_password" {
  command = plan
  variables {
    redis = { existing = { url_secret = "redis://:word@10.0.0.3:6379/0" } }
  }
  expect_failures = [var.redis]
}

run "a_new_bucket_in_another_project" {
  command = plan
  variables {
    buckets = [{ name = "theirs", project = "other-project" }]
  }
  expect_failures = [var.buckets]
}

run "a_bucket_of_a_project_number" {
  command = plan
  variables {
    buckets = [{ name = "theirs", project = "123456789012", create = false }]
  }
  expect_failures = [var.buckets]
}


run "logins_that_are_there_already" {
  command = plan
  variables {
    database         = { existing = { connection_name = "data-project:europe-west4:main", has_logins = ["ana", "function"] } }
    database_readers = { ana = "ana@example.com", bi = "bi@example.com" }
  }

  assert {
    condition     = local.existing_database.has_logins == ["ingest"] && local.existing_database.has_people == toset(["ana"])
    error_message = "People and processes are told apart."
  }
}

run "a_login_of_nobody" {
  command = plan
  variables {
    database = { existing = { connection_name = "data-project:europe-west4:main", has_logins = ["ana"] } }
  }
  expect_failures = [var.database]
}

run "a_person_with_the_name_of_a_process" {
  command = plan
  variables {
    database         = { existing = { connection_name = "data-project:europe-west4:main", has_logins = ["worker"] } }
    database_readers = { worker = "ana@example.com" }
  }
  expect_failures = [var.database]
}

run "an_existing_bucket_of_this_project" {
  command = apply
  variables {
    buckets = [{ name = "ours", project = "drop-project", create = false }]
  }

  assert {
    condition     = length(data.google_storage_project_service_account.elsewhere) == 0
    error_message = "The project itself is no other project."
  }
}

run "a_gallery_of_a_bucket_of_another_project" {
  command = plan
  variables {
    buckets = [{ name = "theirs", project = "other-project", create = false }]
    gallery = { members = ["user:ana@example.com"] }
  }

  assert {
    condition     = length(module.gallery) == 1 && local.buckets_elsewhere == { theirs = "other-project" }
    error_message = "The gallery shows buckets of other projects, too."
  }
}

run "a_gallery_that_only_reads" {
  command = plan
  variables {
    gallery = { members = ["user:ana@example.com"], scopes = ["read"] }
  }

  assert {
    condition     = !contains(keys(local.redis_readers), "gallery") && length(local.gallery_wakes) == 0
    error_message = "A gallery that only reads has neither the password of Redis nor a way to wake workers."
  }
}

run "a_name_that_buckets_refuse" {
  command = plan
  variables {
    name = "my-google"
  }
  expect_failures = [var.name]
}

run "a_tag_with_a_slash" {
  command = plan
  variables {
    image_tag = "release/0.1.0"
  }
  expect_failures = [var.image_tag]
}

run "more_labels_than_google_takes" {
  command = plan
  variables {
    labels = { for number in range(64) : "label-${number}" => "x" }
  }
  expect_failures = [var.labels]
}

run "null_means_the_default" {
  command = plan
  variables {
    region              = null
    buckets             = null
    labels              = null
    environment         = null
    function_instances  = null
    worker              = null
    retry               = null
    alert_emails        = null
    alert_thresholds    = null
    database_readers    = null
    deletion_protection = null
  }

  assert {
    condition     = output.buckets == tolist(["drop-project-dropline-drops"]) && var.deletion_protection && var.worker.instances == 1
    error_message = "A variable that is passed on as null has its default."
  }
}
