variable "project" {
  description = "Project of the deployment."
  type        = string
}

variable "region" {
  description = "Region of every resource. The default worker needs a region with L4 GPUs in Cloud Run."
  type        = string
  default     = "europe-west4"
}

variable "tasks_region" {
  description = "Region of the queue of Cloud Tasks, as in the root module; null: the region, or a near one where Cloud Tasks does not exist in the region."
  type        = string
  default     = null
}

variable "worker" {
  description = "The worker pool, as in the root module; { accelerator = \"none\", cpu = \"4\", memory = \"8Gi\", concurrency = 4 } for a trial without a GPU."
  type = object({
    accelerator = optional(string, "nvidia-l4")
    cpu         = optional(string, "4")
    memory      = optional(string, "16Gi")
    instances   = optional(number, 1)
    concurrency = optional(number, 16)
  })
  default = {}
}

variable "redis" {
  description = "Redis, as in the root module; { tier = \"BASIC\" } for a trial."
  type = object({
    tier      = optional(string, "STANDARD_HA")
    memory_gb = optional(number, 1)
  })
  default = {}
}
