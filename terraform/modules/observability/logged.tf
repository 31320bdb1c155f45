locals {
  function_log = "resource.type=\"cloud_run_revision\" AND resource.labels.service_name=\"${var.function_service}\""
  worker_log   = "resource.type=\"cloud_run_worker_pool\" AND resource.labels.worker_pool_name=\"${var.worker_pool}\""

  # Read from the log itself: an alert's threshold on a metric made from it would be refused for minutes after the metric
  # is made, and so would the first apply.
  logged = {
    captions_failed = {
      title    = "images are put aside"
      filter   = "${local.worker_log} AND jsonPayload.message=\"caption_failed\""
      severity = "WARNING"
      what     = "SELECT error_code, count(*) FROM captions WHERE status = 'failed' GROUP BY 1; docs/error-codes.md says what each code means. Once the cause is mended, the job ${var.name}-redrive puts them into the queue again."
    }
    pool_refused = {
      title    = "the workers are not woken"
      filter   = "((${local.function_log}) OR (${local.worker_log})) AND (jsonPayload.code=\"scaling_denied\" OR jsonPayload.message=\"pool_not_woken_again\")"
      severity = "ERROR"
      what     = "The line names what is missing: a right on the pool or on its service account, or the pool itself. Events wait in Pub/Sub meanwhile; nothing is lost."
    }
  }
}
