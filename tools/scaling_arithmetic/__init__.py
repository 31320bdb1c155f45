"""What so many images per second ask of each part, and which part is full first."""
