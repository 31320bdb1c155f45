locals {
  accounts = merge({
    function = "Function: accepts events, writes rows and messages. With scale to zero it can run any image with the worker's rights."
    worker   = "Worker: reads and lists objects, writes object metadata and rows."
    migrator = "Runs the migrations."
    push     = "The identity of Pub/Sub towards the function."
    }, var.worker_scale_to_zero ? {
    wake = "The identity of Cloud Tasks towards the function: it wakes and checks the worker pool, and brings no events."
  } : {})
}

# Each process has an account of its own, without a key. The only roles on the whole project are for the login to Postgres,
# limited to Dropline's instance.
resource "google_service_account" "this" {
  for_each = local.accounts

  project      = var.project
  account_id   = "${var.name}-${each.key}"
  display_name = "Dropline: ${each.key}"
  description  = each.value

  depends_on = [time_sleep.services]
}
