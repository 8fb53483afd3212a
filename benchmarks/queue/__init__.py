"""Queue benchmark: throughput of submissions, behaviour under kills, latency of logs."""
