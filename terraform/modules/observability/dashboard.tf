# One page: how much comes and is done, how long it takes, what fails and is skipped, and what is paid for.
locals {
  of_function     = "resource.type=\"cloud_run_revision\" resource.label.\"service_name\"=\"${var.function_service}\""
  of_pool         = "resource.type=\"cloud_run_worker_pool\" resource.label.\"worker_pool_name\"=\"${var.worker_pool}\""
  of_subscription = "resource.type=\"pubsub_subscription\" resource.label.\"subscription_id\"=\"${var.push_subscription}\""

  of_log = { for key, name in local.metric : key => "metric.type=\"logging.googleapis.com/user/${name}\"" }

  # `kind` is the resource with the log line; the other values are of the chart.
  log_charts = {
    accepted = { heading = "Images accepted, per second", kind = "cloud_run_revision", aligner = "ALIGN_RATE", reducers = ["REDUCE_SUM"], by = [] }
    finished = { heading = "Images finished, per second", kind = "cloud_run_worker_pool", aligner = "ALIGN_RATE", reducers = ["REDUCE_SUM"], by = [] }
    latency  = { heading = "From the row of a fresh image to its caption, 50th and 95th percentile, in seconds", kind = "cloud_run_worker_pool", aligner = "ALIGN_DELTA", reducers = ["REDUCE_PERCENTILE_50", "REDUCE_PERCENTILE_95"], by = [] }
    due      = { heading = "Age of the oldest due row, when a worker looks, in seconds", kind = "cloud_run_worker_pool", aligner = "ALIGN_DELTA", reducers = ["REDUCE_PERCENTILE_99"], by = [] }
    failed   = { heading = "Failures by code, per minute", kind = "cloud_run_worker_pool", aligner = "ALIGN_DELTA", reducers = ["REDUCE_SUM"], by = ["metric.label.\"code\""] }
    skipped  = { heading = "Skipped objects by reason, per minute", kind = "cloud_run_revision", aligner = "ALIGN_DELTA", reducers = ["REDUCE_SUM"], by = ["metric.label.\"reason\""] }
  }

  google_charts = {
    oldest   = { heading = "Age of the oldest event that the function has not taken, in seconds", filter = "metric.type=\"pubsub.googleapis.com/subscription/oldest_unacked_message_age\" ${local.of_subscription}", aligner = "ALIGN_MAX", reducers = ["REDUCE_MAX"], period = "60s", plot = "LINE" }
    requests = { heading = "Latency of the function, 95th percentile, in milliseconds", filter = "metric.type=\"run.googleapis.com/request_latencies\" ${local.of_function}", aligner = "ALIGN_PERCENTILE_95", reducers = ["REDUCE_MAX"], period = "60s", plot = "LINE" }
    # Seconds of instances per second of an hour: the instance-hours of that hour. Time without an instance counts as 0, which the mean of
    # `instance_count` would leave out. An instance has one GPU.
    hours      = { heading = "Worker hours in each hour (GPU hours: an instance has one GPU)", filter = "metric.type=\"run.googleapis.com/container/billable_instance_time\" ${local.of_pool}", aligner = "ALIGN_RATE", reducers = ["REDUCE_SUM"], period = "3600s", plot = "STACKED_BAR" }
    dead_ended = { heading = "Dead letters", filter = "metric.type=\"pubsub.googleapis.com/subscription/num_undelivered_messages\" resource.type=\"pubsub_subscription\" resource.label.\"subscription_id\"=\"${var.dead_letter_subscription}\"", aligner = "ALIGN_MAX", reducers = ["REDUCE_SUM"], period = "60s", plot = "LINE" }
  }

  all_charts = merge(
    { for key, chart in local.google_charts : key => merge(chart, { by = [] }) },
    { for key, chart in local.log_charts : key => merge(chart, {
      filter = "${local.of_log[key]} resource.type=\"${chart.kind}\""
      period = "60s"
      plot   = "LINE"
    }) },
  )
  # Two in a row.
  charts = [for key in ["accepted", "finished", "oldest", "due", "requests", "latency", "failed", "skipped", "hours", "dead_ended"] : local.all_charts[key]]
}

resource "google_monitoring_dashboard" "this" {
  project = var.project
  dashboard_json = jsonencode({
    displayName = "Dropline: ${var.name}"
    labels      = { app = "" }
    mosaicLayout = {
      columns = 48
      # Monitoring leaves zeros and empty lists out of what it stores: with them, each plan would show a change.
      tiles = [for number, chart in local.charts : merge(number % 2 == 0 ? {} : { xPos = 24 }, number < 2 ? {} : { yPos = 16 * floor(number / 2) }, {
        width  = 24
        height = 16
        widget = {
          title = chart.heading
          xyChart = {
            dataSets = [for reducer in chart.reducers : {
              plotType = chart.plot
              timeSeriesQuery = {
                timeSeriesFilter = {
                  filter = chart.filter
                  aggregation = merge(length(chart.by) == 0 ? {} : { groupByFields = chart.by }, {
                    alignmentPeriod    = chart.period
                    perSeriesAligner   = chart.aligner
                    crossSeriesReducer = reducer
                  })
                }
              }
            }]
          }
        }
      })]
    }
  })

  depends_on = [google_logging_metric.this, google_logging_metric.timed]
}
