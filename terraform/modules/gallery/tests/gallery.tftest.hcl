mock_provider "google" {}

mock_provider "time" {}

variables {
  project           = "drop-project"
  project_number    = "123456789012"
  region            = "us-central1"
  name              = "dropline"
  image             = "gallery@sha256:0000000000000000000000000000000000000000000000000000000000000000"
  service_account   = "g@drop-project.iam.gserviceaccount.com"
  members           = ["group:team@example.com"]
  network           = "network"
  subnetwork        = "subnetwork"
  database_url      = "postgresql://g%40drop-project.iam@127.0.0.1:5432/dropline?sslmode=disable"
  proxy             = { image = "proxy@sha256:0000000000000000000000000000000000000000000000000000000000000000", args = [], health_port = 9801 }
  broker_url_secret = "dropline-redis-url"
  buckets           = ["drops", "scans"]
}

run "a_proxy_before_the_gallery" {
  command = plan

  assert {
    condition     = google_cloud_run_v2_service.gallery.iap_enabled && !google_cloud_run_v2_service.gallery.invoker_iam_disabled
    error_message = "Every request passes Identity-Aware Proxy."
  }

  assert {
    condition     = google_cloud_run_v2_service_iam_member.proxy[0].member == "serviceAccount:service-123456789012@gcp-sa-iap.iam.gserviceaccount.com"
    error_message = "The proxy alone calls the service."
  }

  assert {
    condition     = google_iap_web_cloud_run_service_iam_member.person["group:team@example.com"].role == "roles/iap.httpsResourceAccessor"
    error_message = "The proxy admits the members."
  }

  assert {
    condition     = length(google_secret_manager_secret.tokens) == 0 && length(google_storage_bucket_iam_member.gallery) == 2
    error_message = "Without tokens there is no secret; every bucket is readable."
  }
}

run "uploads_are_announced" {
  command = plan
  variables {
    submit_prefix = "incoming/submitted/"
  }

  assert {
    condition     = one([for each in google_cloud_run_v2_service.gallery.template[0].containers[0].env : each.value if each.name == "DROPLINE_SUBMIT__PREFIX"]) == "incoming/submitted/"
    error_message = "Uploads go where the bucket announces objects."
  }
}

run "too_much_memory_for_a_cpu" {
  command = plan
  variables {
    memory = "8Gi"
  }
  expect_failures = [var.memory]
}

run "tokens_of_its_own" {
  command = plan
  variables {
    members = []
    tokens  = ["ci:read+submit:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"]
  }

  assert {
    condition     = !google_cloud_run_v2_service.gallery.iap_enabled && google_cloud_run_v2_service.gallery.invoker_iam_disabled
    error_message = "The gallery itself checks every request."
  }

  assert {
    condition     = length(google_cloud_run_v2_service_iam_member.proxy) == 0 && google_secret_manager_secret_iam_member.tokens[0].member == "serviceAccount:g@drop-project.iam.gserviceaccount.com"
    error_message = "The gallery's account alone reads the tokens."
  }
}

run "reading_needs_one_right" {
  command = plan
  variables {
    scopes            = ["read"]
    broker_url_secret = null
  }

  assert {
    condition     = google_project_iam_custom_role.gallery.permissions == toset(["storage.objects.get"]) && length(google_project_iam_custom_role.uploads) == 0
    error_message = "A gallery that only reads gets objects, and has no other right on a bucket."
  }

  assert {
    condition     = !contains(google_cloud_run_v2_service.gallery.template[0].containers[0].env[*].name, "DROPLINE_BROKER__URL")
    error_message = "A gallery that only reads has no URL of Redis."
  }
}

run "reading_with_a_password" {
  command = plan
  variables {
    scopes = ["read"]
  }
  expect_failures = [var.broker_url_secret]
}

run "messages_without_redis" {
  command = plan
  variables {
    broker_url_secret = null
  }
  expect_failures = [var.broker_url_secret]
}

run "uploads_replace_nothing" {
  command = plan
  variables {
    scopes = ["read", "submit"]
  }

  assert {
    condition     = google_project_iam_custom_role.uploads[0].permissions == toset(["storage.objects.create"])
    error_message = "An upload needs one right more."
  }

  assert {
    condition     = google_storage_bucket_iam_member.uploads[0].bucket == "drops" && google_project_iam_custom_role.gallery.permissions == toset(["storage.objects.get"])
    error_message = "Uploads go to the first bucket; no other bucket takes one."
  }
}

run "buckets_of_another_project" {
  command = apply
  variables {
    suffix            = "ab12"
    buckets           = ["theirs", "ours"]
    buckets_elsewhere = { theirs = "other-project" }
  }

  assert {
    condition     = google_storage_bucket_iam_member.gallery["theirs"].role == "projects/other-project/roles/dropline_drop_project_gallery_ab12" && google_storage_bucket_iam_member.gallery["ours"].role == "projects/drop-project/roles/dropline_gallery_ab12"
    error_message = "A bucket gets the role of its project."
  }

  assert {
    condition     = google_storage_bucket_iam_member.uploads[0].role == "projects/other-project/roles/dropline_drop_project_uploads_ab12"
    error_message = "Uploads to a bucket of another project need a role of that project."
  }
}

run "a_project_of_no_bucket" {
  command = plan
  variables {
    buckets_elsewhere = { typo = "other-project" }
  }
  expect_failures = [var.buckets_elsewhere]
}

run "open_to_nobody" {
  command = plan
  variables {
    members = []
  }
  expect_failures = [var.tokens]
}

run "open_by_two_ways" {
  command = plan
  variables {
    tokens = ["ci:read:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"]
  }
  expect_failures = [var.tokens]
}

run "open_to_everybody" {
  command = plan
  variables {
    members = ["allAuthenticatedUsers"]
  }
  expect_failures = [var.members]
}

run "a_token_itself" {
  command = plan
  variables {
    members = []
    tokens  = ["c2VjcmV0LXRva2VuLW9mLTMyLWJ5dGVzLWluLWFsbC4u"]
  }
  expect_failures = [var.tokens]
}

run "a_token_that_may_more_than_the_account" {
  command = plan
  variables {
    members           = []
    scopes            = ["read"]
    broker_url_secret = null
    tokens            = ["ci:read+edit:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"]
  }
  expect_failures = [var.tokens]
}

run "a_scope_of_no_name" {
  command = plan
  variables {
    scopes            = ["write"]
    broker_url_secret = null
  }
  expect_failures = [var.scopes]
}

run "half_an_instance" {
  command = plan
  variables {
    instances = { min = 0.5, max = 2 }
  }
  expect_failures = [var.instances]
}
