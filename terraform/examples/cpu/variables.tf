variable "project" {
  description = "Project of the deployment."
  type        = string
}

variable "region" {
  description = "Region of every resource; any region of Cloud Run. Where it has no Cloud Tasks, the queue of Cloud Tasks is in a near one (`tasks_region`)."
  type        = string
  default     = "europe-west4"
}

variable "tasks_region" {
  description = "Region of the queue of Cloud Tasks, as in the root module; null: the region, or a near one where Cloud Tasks does not exist in the region."
  type        = string
  default     = null
}

variable "redis" {
  description = "Redis, as in the root module; { tier = \"BASIC\" } for a trial."
  type = object({
    tier      = optional(string, "STANDARD_HA")
    memory_gb = optional(number, 1)
  })
  default = {}
}
