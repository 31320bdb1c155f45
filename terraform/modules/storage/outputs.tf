output "names" {
  description = "Names of all buckets, those that existed already included; known before anything is created."
  value       = toset(var.buckets[*].name)
  depends_on  = [google_storage_bucket.this]
}
