mock_provider "time" {}

mock_provider "google" {}

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
  }
  broker_url_secret = "url"
  broker_certificate = {
    secret    = "ca"
    directory = "/etc/redis"
    file      = "ca.pem"
  }
  buckets         = ["drops"]
  image           = "registry.example/worker@sha256:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
  service_account = "dropline-worker@drop-project.iam.gserviceaccount.com"
  wake = {
    url             = "https://dropline-function-1.us-central1.run.app/wake"
    service_account = "dropline-wake@drop-project.iam.gserviceaccount.com"
    audience        = "dropline-push"
  }
}

run "an_l4_by_default" {
  command = plan

  assert {
    condition     = google_cloud_run_v2_worker_pool.this.template[0].node_selector[0].accelerator == "nvidia-l4"
    error_message = "The default worker has an L4."
  }

  assert {
    condition     = google_cloud_run_v2_worker_pool.this.template[0].containers[0].resources[0].limits["nvidia.com/gpu"] == "1"
    error_message = "The container must be given the GPU."
  }

  assert {
    condition     = google_cloud_run_v2_worker_pool.this.template[0].gpu_zonal_redundancy_disabled
    error_message = "A GPU in several zones needs a quota of its own."
  }

  assert {
    condition     = one([for env in google_cloud_run_v2_worker_pool.this.template[0].containers[0].env : env.value if env.name == "DROPLINE_ENGINE__DEVICE"]) == "cuda"
    error_message = "Without its GPU the engine must fail, not fall back to the CPU."
  }

  assert {
    condition     = one([for env in google_cloud_run_v2_worker_pool.this.template[0].containers[0].env : env.value if env.name == "DROPLINE_WORKER__MEMORY_BYTES"]) == "17179869184"
    error_message = "The worker knows the memory of its container."
  }

  assert {
    condition     = one([for env in google_cloud_run_v2_worker_pool.this.template[0].containers[0].env : env.value if env.name == "DROPLINE_BROKER__POLLING_INTERVAL_S"]) == "4"
    error_message = "The wait for Redis must fit in the time that a container has to stop."
  }
}

run "a_polling_interval_of_ones_own" {
  command = plan
  variables {
    environment = { DROPLINE_BROKER__POLLING_INTERVAL_S = "2" }
  }

  assert {
    condition     = one([for env in google_cloud_run_v2_worker_pool.this.template[0].containers[0].env : env.value if env.name == "DROPLINE_BROKER__POLLING_INTERVAL_S"]) == "2"
    error_message = "The interval may be chosen."
  }
}

run "a_trial_without_a_gpu" {
  command = plan
  variables {
    accelerator = null
    cpu         = "2"
    memory      = "8Gi"
  }

  assert {
    condition     = length(google_cloud_run_v2_worker_pool.this.template[0].node_selector) == 0
    error_message = "No accelerator may be asked for."
  }

  assert {
    condition     = google_cloud_run_v2_worker_pool.this.template[0].containers[0].resources[0].limits == tomap({ cpu = "2", memory = "8Gi" })
    error_message = "CPU and memory are what was asked for, and there is no GPU."
  }

  assert {
    condition     = one([for env in google_cloud_run_v2_worker_pool.this.template[0].containers[0].env : env.value if env.name == "DROPLINE_ENGINE__DEVICE"]) == "cpu"
    error_message = "The engine runs on the CPU."
  }
}

run "the_images_own_model" {
  command = plan

  assert {
    condition     = length([for env in google_cloud_run_v2_worker_pool.this.template[0].containers[0].env : env if startswith(env.name, "DROPLINE_ENGINE__CHECKPOINT")]) == 0
    error_message = "Where nothing is chosen the image decides."
  }
}

run "rights_on_every_bucket" {
  command = plan
  variables {
    buckets = ["a", "b"]
  }

  assert {
    condition     = keys(google_storage_bucket_iam_member.captioner) == ["a", "b"]
    error_message = "The worker must reach each bucket."
  }
}

run "a_gpu_with_too_few_cpus" {
  command = plan
  variables {
    cpu = "2"
  }
  expect_failures = [var.cpu]
}

run "all_cpus_for_the_worker" {
  command = plan
  variables {
    cpu    = "8"
    memory = "32Gi"
  }
  expect_failures = [var.cpu]
}

run "more_memory_than_the_cpus_allow" {
  command = plan
  variables {
    memory = "24Gi"
  }
  expect_failures = [var.cpu]
}

run "less_memory_than_the_cpus_need" {
  command = plan
  variables {
    accelerator = null
    cpu         = "6"
    memory      = "2Gi"
  }
  expect_failures = [var.cpu]
}

run "a_gpu_with_too_little_memory" {
  command = plan
  variables {
    memory = "8Gi"
  }
  expect_failures = [var.memory]
}

run "half_an_instance" {
  command = plan
  variables {
    instances = 0.5
  }
  expect_failures = [var.instances]
}

run "an_accelerator_that_is_none" {
  command = plan
  variables {
    accelerator = "L4"
  }
  expect_failures = [var.accelerator]
}

run "nobody_else_scales" {
  command = plan

  assert {
    condition     = length(google_project_iam_custom_role.scaler) == 0
    error_message = "Without a scaler there is no role for it."
  }
}

run "a_scaler_only_scales" {
  command = plan
  variables {
    scalers = { function = "dropline-function@drop-project.iam.gserviceaccount.com" }
  }

  assert {
    condition     = google_project_iam_custom_role.scaler[0].permissions == toset(["run.workerpools.get", "run.workerpools.update"])
    error_message = "A scaler may change the number of instances and nothing else."
  }

  assert {
    condition     = google_service_account_iam_member.scaler["function"].service_account_id == "projects/drop-project/serviceAccounts/dropline-worker@drop-project.iam.gserviceaccount.com"
    error_message = "The right to act as a service account is limited to the worker's account."
  }
}

run "a_waker_scales_nothing" {
  command = plan
  variables {
    sleep   = {}
    scalers = { function = "dropline-function@drop-project.iam.gserviceaccount.com" }
    wakers  = { gallery = "dropline-gallery@drop-project.iam.gserviceaccount.com" }
  }

  assert {
    condition     = keys(google_cloud_tasks_queue_iam_member.enqueuer) == ["function", "gallery"] && keys(google_service_account_iam_member.wake) == ["function", "gallery"]
    error_message = "A waker puts calls of the function into the queue."
  }

  assert {
    condition     = keys(google_cloud_run_v2_worker_pool_iam_member.scaler) == ["function"] && keys(google_service_account_iam_member.scaler) == ["function"]
    error_message = "A waker has no right on the worker pool, nor on its account."
  }

  assert {
    condition     = alltrue([for name in keys(output.wake_settings) : startswith(name, "DROPLINE_POOL__WAKE_")]) && length(setsubtract(keys(output.wake_settings), keys(output.pool_settings))) == 0
    error_message = "A waker is not told of the worker pool; a scaler is told of both."
  }
}

run "a_waker_without_a_queue" {
  command = plan
  variables {
    wakers = { gallery = "dropline-gallery@drop-project.iam.gserviceaccount.com" }
  }
  expect_failures = [var.wakers]
}

run "a_waker_that_scales" {
  command = plan
  variables {
    sleep   = {}
    scalers = { gallery = "dropline-gallery@drop-project.iam.gserviceaccount.com" }
    wakers  = { gallery = "dropline-gallery@drop-project.iam.gserviceaccount.com" }
  }
  expect_failures = [var.wakers]
}

run "always_awake" {
  command = plan
  variables {
    instances = 3
  }

  assert {
    condition     = google_cloud_run_v2_worker_pool.this.scaling[0].manual_instance_count == 3
    error_message = "Without scale to zero, the worker pool starts with all instances."
  }

  assert {
    condition     = length(output.pool_settings) == 0 && length([for env in google_cloud_run_v2_worker_pool.this.template[0].containers[0].env : env if startswith(env.name, "DROPLINE_POOL__")]) == 0
    error_message = "Without scale to zero, no process may have settings for scaling the worker pool."
  }
}

run "asleep_until_the_first_event" {
  command = plan
  variables {
    instances = 3
    sleep     = { idle_s = 120 }
    scalers   = { function = "dropline-function@drop-project.iam.gserviceaccount.com", worker = "dropline-worker@drop-project.iam.gserviceaccount.com" }
  }

  assert {
    condition     = google_cloud_run_v2_worker_pool.this.scaling[0].manual_instance_count == 0
    error_message = "With scale to zero, the worker pool starts with zero instances, at no cost."
  }

  assert {
    condition = output.pool_settings == tomap({
      DROPLINE_POOL__NAME      = "projects/drop-project/locations/us-central1/workerPools/dropline-worker"
      DROPLINE_POOL__INSTANCES = "3"
      DROPLINE_POOL__IDLE_S    = "120"
      DROPLINE_POOL__LEASE_S   = "60"
      DROPLINE_POOL__AWAKE_S   = "600"
      DROPLINE_POOL__CHECK_S   = "300"

      DROPLINE_POOL__WAKE_QUEUE           = "projects/drop-project/locations/us-central1/queues/dropline-wake"
      DROPLINE_POOL__WAKE_URL             = "https://dropline-function-1.us-central1.run.app/wake"
      DROPLINE_POOL__WAKE_SERVICE_ACCOUNT = "dropline-wake@drop-project.iam.gserviceaccount.com"
      DROPLINE_POOL__WAKE_AUDIENCE        = "dropline-push"
    })
    error_message = "The function needs the name of the worker pool and the number of instances."
  }

  assert {
    condition     = tomap({ for env in google_cloud_run_v2_worker_pool.this.template[0].containers[0].env : env.name => env.value if startswith(env.name, "DROPLINE_POOL__") }) == output.pool_settings
    error_message = "Worker and function need the same scaling settings."
  }
}

run "a_queue_where_cloud_tasks_exists" {
  command = plan
  variables {
    region  = "europe-west4"
    sleep   = {}
    scalers = { function = "dropline-function@drop-project.iam.gserviceaccount.com" }
  }

  assert {
    condition     = google_cloud_tasks_queue.wake[0].location == "europe-west1" && google_cloud_tasks_queue_iam_member.enqueuer["function"].location == "europe-west1"
    error_message = "europe-west4 has no Cloud Tasks: the queue is in a near region."
  }

  assert {
    condition     = output.wake_queue == "projects/drop-project/locations/europe-west1/queues/dropline-wake" && output.wake_queue == output.pool_settings["DROPLINE_POOL__WAKE_QUEUE"]
    error_message = "Tasks are made in the queue that exists."
  }

  assert {
    condition     = google_cloud_run_v2_worker_pool.this.location == "europe-west4"
    error_message = "The worker pool stays in its region."
  }
}

run "a_queue_in_a_given_region" {
  command = plan
  variables {
    region       = "europe-west4"
    tasks_region = "europe-west3"
    sleep        = {}
    scalers      = { function = "dropline-function@drop-project.iam.gserviceaccount.com" }
  }

  assert {
    condition     = google_cloud_tasks_queue.wake[0].location == "europe-west3" && output.wake_queue == "projects/drop-project/locations/europe-west3/queues/dropline-wake"
    error_message = "A given region is used."
  }
}

run "no_queue_without_scale_to_zero" {
  command = plan

  assert {
    condition     = output.wake_queue == null && length(google_cloud_tasks_queue.wake) == 0
    error_message = "Without scale to zero there is no queue."
  }
}

run "asleep_for_ever" {
  command = plan
  variables {
    sleep = {}
  }
  expect_failures = [var.sleep]
}

run "awake_with_nobody" {
  command = plan
  variables {
    instances = 0
    sleep     = {}
    scalers   = { worker = "dropline-worker@drop-project.iam.gserviceaccount.com" }
  }
  expect_failures = [var.sleep]
}

run "a_lease_shorter_than_a_call" {
  command = plan
  variables {
    sleep   = { lease_s = 10 }
    scalers = { worker = "dropline-worker@drop-project.iam.gserviceaccount.com" }
  }
  expect_failures = [var.sleep]
}

run "an_image_that_can_move" {
  command = plan
  variables {
    image = "europe-west4-docker.pkg.dev/drop-project/dropline/worker:0.1.0"
  }
  expect_failures = [var.image]
}

run "half_an_image" {
  command = plan
  variables {
    concurrency = 1.5
  }
  expect_failures = [var.concurrency]
}

run "more_instances_than_the_function_wakes" {
  command = plan
  variables {
    instances = 1001
  }
  expect_failures = [var.instances]
}

run "a_checkpoint_with_a_space" {
  command = plan
  variables {
    checkpoint = "Florence 2"
  }
  expect_failures = [var.checkpoint]
}

run "a_branch_of_a_checkpoint" {
  command = plan
  variables {
    revision = "main"
  }
  expect_failures = [var.revision]
}
