"""The seam between the processes: typed messages, a client for the loop, a server for the trainer."""
