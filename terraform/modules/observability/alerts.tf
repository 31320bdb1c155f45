# All alert policies, with three kinds of condition: a metric threshold, a log line, or a PromQL query.
resource "google_monitoring_alert_policy" "this" {
  for_each = merge(local.measured, local.logged, local.stalls)

  project               = var.project
  display_name          = "${var.name}: ${each.value.title}"
  combiner              = "OR"
  severity              = each.value.severity
  notification_channels = [for channel in google_monitoring_notification_channel.email : channel.id]
  user_labels           = var.labels

  conditions {
    display_name = each.value.title

    dynamic "condition_threshold" {
      for_each = contains(keys(local.measured), each.key) ? [each.value] : []
      content {
        filter          = condition_threshold.value.filter
        comparison      = "COMPARISON_GT"
        threshold_value = condition_threshold.value.threshold
        duration        = condition_threshold.value.duration
        aggregations {
          alignment_period     = "60s"
          per_series_aligner   = condition_threshold.value.aligner
          cross_series_reducer = condition_threshold.value.reducer
        }
      }
    }

    dynamic "condition_matched_log" {
      for_each = contains(keys(local.logged), each.key) ? [each.value] : []
      content {
        filter           = condition_matched_log.value.filter
        label_extractors = { code = "EXTRACT(jsonPayload.code)" }
      }
    }

    dynamic "condition_prometheus_query_language" {
      for_each = contains(keys(local.stalls), each.key) ? [each.value] : []
      content {
        query               = replace(condition_prometheus_query_language.value.query, "WINDOW", "${condition_prometheus_query_language.value.window}s")
        duration            = "${condition_prometheus_query_language.value.duration}s"
        evaluation_interval = "60s"

        # A new metric is visible to Monitoring only after minutes; without the validation the first apply succeeds at once.
        disable_metric_validation = true
      }
    }
  }

  # At most one notification per hour: many bad uploads must not cause many e-mails.
  dynamic "alert_strategy" {
    for_each = contains(keys(local.logged), each.key) ? [1] : []
    content {
      auto_close = "86400s"
      notification_rate_limit {
        period = "3600s"
      }
    }
  }

  documentation {
    content   = "${each.value.what}\n\nMore: ${var.docs_url == null ? "" : "${trimsuffix(var.docs_url, "/")}/"}docs/operate.md#${each.value.page}"
    mime_type = "text/markdown"
  }

  depends_on = [google_logging_metric.this]
}
