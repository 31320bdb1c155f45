# Whether what is accepted is also captioned: rows in Postgres are no metric, but each that is queued and each that is done
# with is a line in the log.
locals {
  counted = {
    accepted = {
      filter = "${local.function_log} AND jsonPayload.message=\"event_accepted\" AND jsonPayload.enqueued=true"
      what   = "Images that the function put into the queue."
      source = "cloud_run_revision"
    }
    finished = {
      filter = "${local.worker_log} AND jsonPayload.message=\"finished\""
      what   = "Images that the worker was done with, captioned or not."
      source = "cloud_run_worker_pool"
    }
  }

  # As PromQL spells them; a window takes the place of WINDOW.
  metric = { for key in keys(local.counted) : key => "${replace(var.name, "-", "_")}_${key}" }
  increase = {
    for key, counted in local.counted :
    key => "sum(increase(logging_googleapis_com:user_${local.metric[key]}{monitored_resource=\"${counted.source}\"}[WINDOW]))"
  }
  awake = "sum(run_googleapis_com:container_instance_count{monitored_resource=\"cloud_run_worker_pool\",worker_pool_name=\"${var.worker_pool}\"})"

  stalls = merge(
    {
      images_wait = {
        title    = "images wait to be captioned"
        query    = "${local.increase.accepted} > 0 unless ${local.increase.finished} > 0"
        window   = 2 * var.thresholds.image_waits_s
        duration = var.thresholds.image_waits_s
        severity = "ERROR"
        what     = "Images were accepted, and none was captioned since. Does the pool have instances (quota, a zone without GPUs, an image that does not start)? Once it does, captions go on by themselves."
      }
    },
    var.pool_idle_s == null ? {} : {
      pool_awake = {
        title    = "workers are awake without work"
        query    = "${local.awake} > 0 unless ${local.increase.finished} > 0"
        window   = var.pool_idle_s + 3600
        duration = 1800
        severity = "WARNING"
        what     = "The pool should sleep, and is paid for. The worker's log says what keeps it awake (pool_kept_awake)."
      }
    },
  )
}

resource "google_logging_metric" "this" {
  for_each = local.counted

  project     = var.project
  name        = local.metric[each.key]
  description = each.value.what
  filter      = each.value.filter

  metric_descriptor {
    metric_kind = "DELTA"
    value_type  = "INT64"
    unit        = "1"
  }
}
