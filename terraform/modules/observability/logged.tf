locals {
  function_log = "resource.type=\"cloud_run_revision\" AND resource.labels.service_name=\"${var.function_service}\""
  worker_log   = "resource.type=\"cloud_run_worker_pool\" AND resource.labels.worker_pool_name=\"${var.worker_pool}\""

  # The gallery asks for a wake-up as the function does, by a task of Cloud Tasks.
  gallery_log = [for service in var.gallery_service[*] : "resource.type=\"cloud_run_revision\" AND resource.labels.service_name=\"${service}\""]
  waking_logs = join(" OR ", [for log in concat([local.function_log, local.worker_log], local.gallery_log) : "(${log})"])

  # Conditions on log lines, not on log-based metrics: Google refuses a threshold on a log-based metric for minutes after the
  # metric is created, and the first apply would fail.
  logged = {
    captions_failed = {
      page     = "failed-rows"
      title    = "images are put aside"
      filter   = "${local.worker_log} AND jsonPayload.message=\"caption_failed\""
      severity = "WARNING"
      what     = "SELECT error_code, count(*) FROM captions WHERE status = 'failed' GROUP BY 1; docs/error-codes.md explains each code. Remove the cause, then run the job ${var.name}-redrive, which queues the images again."
    }
    no_worker = {
      page     = "the-worker-pool-does-not-scale-up"
      title    = "no worker starts"
      filter   = "${local.function_log} AND jsonPayload.message=\"pool_without_worker\""
      severity = "ERROR"
      what     = "Images wait, and no worker is ready. The log line has Cloud Run's reason, as `dropline status` has: mostly no GPU quota (NvidiaL4GpuAllocNoZonalRedundancyPerProjectRegion) or no free GPU. Tried again automatically, at least once an hour."
    }
    pool_held = {
      page     = "a-held-worker-pool"
      title    = "the workers are held at zero"
      filter   = "${local.worker_log} AND jsonPayload.message=\"pool_held\""
      severity = "ERROR"
      what     = "Several starts of a worker failed in a row, so the worker pool was set to zero; images wait. The log line has the error. The next event after a change of image or settings wakes the workers, or run the job ${var.name}-redrive with --all (docs/operate.md, A held worker pool)."
    }
    pool_refused = {
      page     = "the-worker-pool-does-not-scale-up"
      title    = "the workers are not woken"
      filter   = "(${local.waking_logs}) AND (jsonPayload.code=\"scaling_denied\" OR jsonPayload.message=\"pool_not_woken_again\")"
      severity = "ERROR"
      what     = "Cloud Run refused to scale the worker pool, or Cloud Tasks refused a task. The log line has the cause: a missing right on the worker pool or on the worker's service account, or a missing worker pool; in the gallery's log, a missing right on the queue of Cloud Tasks or on the push account. Events wait in Pub/Sub; no event is lost."
    }
  }
}
