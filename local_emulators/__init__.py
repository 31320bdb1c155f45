"""The services of a cloud deployment as local processes, from Python wheels alone."""
