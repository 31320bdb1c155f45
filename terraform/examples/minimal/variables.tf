variable "project" {
  description = "Project that Dropline lives in."
  type        = string
}
