output "try_it" {
  description = "Commands that drop an image and show its caption."
  value       = module.dropline.try_it
}
