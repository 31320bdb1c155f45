# Compares accepted with finished images. Rows in Postgres are not a metric, but every queued and every finished image is a
# line in the log.
locals {
  counted = {
    accepted = {
      filter = "${local.function_log} AND jsonPayload.message=\"event_accepted\" AND jsonPayload.enqueued=true"
      what   = "Images queued by the function."
      source = "cloud_run_revision"
      label  = null
    }
    finished = {
      filter = "${local.worker_log} AND jsonPayload.message=\"finished\""
      what   = "Images finished by the worker, captioned or failed."
      source = "cloud_run_worker_pool"
      label  = null
    }
    failed = {
      filter = "${local.worker_log} AND jsonPayload.message=\"caption_failed\""
      what   = "Images that failed for good, by code."
      source = "cloud_run_worker_pool"
      label  = "code"
    }
    skipped = {
      filter = "${local.function_log} AND jsonPayload.message=\"event_filtered\""
      what   = "Objects that a rule filters, by reason."
      source = "cloud_run_revision"
      label  = "reason"
    }
  }

  # Distributions of a number in a log line.
  timed = {
    latency = {
      filter = "${local.worker_log} AND jsonPayload.message=\"captioned\" AND jsonPayload.priority=0"
      what   = "Seconds from the row of a fresh image to its caption; no backfills and no redone captions."
      value  = "waited_s"
    }
    due = {
      filter = "${local.worker_log} AND jsonPayload.message=\"looked_at_queue\""
      what   = "Seconds for which the oldest due row has been due, at each look of a worker at the queue."
      value  = "oldest_s"
    }
  }

  # Metric names in PromQL's spelling; WINDOW is a placeholder for the time window.
  metric = { for key in keys(merge(local.counted, local.timed)) : key => "${replace(var.name, "-", "_")}_${key}" }
  increase = {
    for key, counted in local.counted :
    key => "sum(increase(logging_googleapis_com:user_${local.metric[key]}{monitored_resource=\"${counted.source}\"}[WINDOW]))"
  }
  awake = "sum(run_googleapis_com:container_instance_count{monitored_resource=\"cloud_run_worker_pool\",worker_pool_name=\"${var.worker_pool}\"})"

  stalls = merge(
    {
      images_wait = {
        page     = "the-worker-pool-does-not-scale-up"
        title    = "images wait to be captioned"
        query    = "${local.increase.accepted} > 0 unless ${local.increase.finished} > 0"
        window   = 2 * var.thresholds.image_waits_s
        duration = var.thresholds.image_waits_s
        severity = "ERROR"
        what     = "Images were accepted, but no image was captioned since. Check that the worker pool has running instances (causes: quota, a zone without GPUs, a container image that does not start). Captioning resumes automatically with the first running instance."
      }
    },
    var.pool_idle_s == null ? {} : {
      pool_awake = {
        page     = "the-worker-pool-does-not-scale-to-zero"
        title    = "workers are awake without work"
        query    = "${local.awake} > 0 unless ${local.increase.finished} > 0"
        window   = var.pool_idle_s + 3600
        duration = 1800
        severity = "WARNING"
        what     = "The worker pool should be scaled to zero, but still costs money. The worker's log has the reason (pool_kept_awake)."
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

    dynamic "labels" {
      for_each = each.value.label[*]
      content {
        key        = labels.value
        value_type = "STRING"
      }
    }
  }

  label_extractors = { for label in each.value.label[*] : label => "EXTRACT(jsonPayload.${label})" }
}

resource "google_logging_metric" "timed" {
  for_each = local.timed

  project         = var.project
  name            = local.metric[each.key]
  description     = each.value.what
  filter          = each.value.filter
  value_extractor = "EXTRACT(jsonPayload.${each.value.value})"

  metric_descriptor {
    metric_kind = "DELTA"
    value_type  = "DISTRIBUTION"
    unit        = "s"
  }

  # 0.1 s to 12 days.
  bucket_options {
    exponential_buckets {
      scale              = 0.1
      growth_factor      = 1.5
      num_finite_buckets = 40
    }
  }
}
