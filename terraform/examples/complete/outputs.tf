output "try_it" {
  description = "Commands that drop an image and show its caption."
  value       = module.dropline.try_it
}

output "dead_letter_subscription" {
  description = "Name of the subscription with the dead letters."
  value       = module.dropline.dead_letter_subscription
}

output "service_accounts" {
  description = "E-mail addresses of the service accounts, by process."
  value       = module.dropline.service_accounts
}

output "push_dead_letters" {
  description = "Command that pushes the dead letters to the function again."
  value       = module.dropline.push_dead_letters
}
