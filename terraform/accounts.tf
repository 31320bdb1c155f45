locals {
  accounts = {
    function = "Takes events: writes rows and messages; nothing in Cloud Storage."
    worker   = "Captions: reads objects, writes their metadata and rows."
    migrator = "Runs the migrations."
    push     = "Pub/Sub's identity towards the function."
  }
}

# One for each process; none has a key, none has a role of the whole project but logging in to its own database.
resource "google_service_account" "this" {
  for_each = local.accounts

  project      = var.project
  account_id   = "${var.name}-${each.key}"
  display_name = "Dropline: ${each.key}"
  description  = each.value

  depends_on = [google_project_service.this]
}
