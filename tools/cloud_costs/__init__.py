"""What a month of Dropline on Google Cloud costs: from list prices, sizes and rates that are all inputs."""
