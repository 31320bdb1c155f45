output "try_it" {
  description = "Commands that drop an image and show its caption."
  value       = module.dropline.try_it
}

output "dead_letter_subscription" {
  description = "Subscription that keeps the dead letters."
  value       = module.dropline.dead_letter_subscription
}

output "service_accounts" {
  description = "E-mails of the service accounts, by process."
  value       = module.dropline.service_accounts
}

output "push_dead_letters" {
  description = "Command that has the dead letters pushed to the function again."
  value       = module.dropline.push_dead_letters
}
