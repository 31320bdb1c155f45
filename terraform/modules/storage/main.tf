resource "google_storage_bucket" "this" {
  for_each = { for bucket in var.buckets : bucket.name => bucket if bucket.create }

  project       = var.project
  name          = each.key
  location      = coalesce(each.value.location, var.location)
  storage_class = each.value.storage_class
  labels        = var.labels

  uniform_bucket_level_access = true
  public_access_prevention    = "enforced"
  force_destroy               = !var.deletion_protection
  deletion_policy             = var.deletion_protection ? "PREVENT" : "DELETE"

  # Time to restore objects deleted or overwritten by mistake.
  soft_delete_policy {
    retention_duration_seconds = var.soft_delete_days * 86400
  }

  # Parts of unfinished uploads cost money until deleted.
  lifecycle_rule {
    action {
      type = "AbortIncompleteMultipartUpload"
    }
    condition {
      age = 7
    }
  }
}
