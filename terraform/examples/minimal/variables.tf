variable "project" {
  description = "Project of the deployment."
  type        = string
}
