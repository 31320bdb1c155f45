# One page: how much comes and is done, how old the oldest event is, what fails and is skipped, and what is paid for.
locals {
  of_function     = "resource.type=\"cloud_run_revision\" resource.label.\"service_name\"=\"${var.function_service}\""
  of_pool         = "resource.type=\"cloud_run_worker_pool\" resource.label.\"worker_pool_name\"=\"${var.worker_pool}\""
  of_subscription = "resource.type=\"pubsub_subscription\" resource.label.\"subscription_id\"=\"${var.push_subscription}\""

  charts = [
    { heading = "Images accepted, per second", filter = "metric.type=\"logging.googleapis.com/user/${local.metric.accepted}\" resource.type=\"cloud_run_revision\"", aligner = "ALIGN_RATE", reducer = "REDUCE_SUM", by = [] },
    { heading = "Images finished, per second", filter = "metric.type=\"logging.googleapis.com/user/${local.metric.finished}\" resource.type=\"cloud_run_worker_pool\"", aligner = "ALIGN_RATE", reducer = "REDUCE_SUM", by = [] },
    { heading = "Age of the oldest event that the function has not taken, in seconds", filter = "metric.type=\"pubsub.googleapis.com/subscription/oldest_unacked_message_age\" ${local.of_subscription}", aligner = "ALIGN_MAX", reducer = "REDUCE_MAX", by = [] },
    { heading = "Latency of the function, 95th percentile, in milliseconds", filter = "metric.type=\"run.googleapis.com/request_latencies\" ${local.of_function}", aligner = "ALIGN_PERCENTILE_95", reducer = "REDUCE_MAX", by = [] },
    { heading = "Failures by code, per minute", filter = "metric.type=\"logging.googleapis.com/user/${local.metric.failed}\" resource.type=\"cloud_run_worker_pool\"", aligner = "ALIGN_DELTA", reducer = "REDUCE_SUM", by = ["metric.label.\"code\""] },
    { heading = "Skipped objects by reason, per minute", filter = "metric.type=\"logging.googleapis.com/user/${local.metric.skipped}\" resource.type=\"cloud_run_revision\"", aligner = "ALIGN_DELTA", reducer = "REDUCE_SUM", by = ["metric.label.\"reason\""] },
    # An instance has one GPU; the sum of the chart over an hour is the GPU hours.
    { heading = "Worker instances (GPUs; an instance for an hour is a GPU hour)", filter = "metric.type=\"run.googleapis.com/container/instance_count\" ${local.of_pool}", aligner = "ALIGN_MEAN", reducer = "REDUCE_SUM", by = [] },
    { heading = "Dead letters", filter = "metric.type=\"pubsub.googleapis.com/subscription/num_undelivered_messages\" resource.type=\"pubsub_subscription\" resource.label.\"subscription_id\"=\"${var.dead_letter_subscription}\"", aligner = "ALIGN_MAX", reducer = "REDUCE_SUM", by = [] },
  ]
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
            dataSets = [{
              plotType = "LINE"
              timeSeriesQuery = {
                timeSeriesFilter = {
                  filter = chart.filter
                  aggregation = merge(length(chart.by) == 0 ? {} : { groupByFields = chart.by }, {
                    alignmentPeriod    = "60s"
                    perSeriesAligner   = chart.aligner
                    crossSeriesReducer = chart.reducer
                  })
                }
              }
            }]
          }
        }
      })]
    }
  })

  depends_on = [google_logging_metric.this]
}
