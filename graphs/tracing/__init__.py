"""What is written down while the graph runs: visits of nodes, and OpenTelemetry spans where they are wanted."""
