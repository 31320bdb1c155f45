output "names" {
  description = "Names of all buckets, including existing buckets; known before the apply."
  value       = toset(var.buckets[*].name)
  depends_on  = [google_storage_bucket.this]
}
