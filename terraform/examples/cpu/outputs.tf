output "try_it" {
  description = "Commands that drop an image and show its caption."
  value       = module.dropline.try_it
}

output "push_dead_letters" {
  description = "Command that pushes the dead letters to the function again."
  value       = module.dropline.push_dead_letters
}

output "wake_queue" {
  description = "Queue of Cloud Tasks; null without scale to zero."
  value       = module.dropline.wake_queue
}
