"""The acceptance tier: benchmarks, hosts in namespaces, the cluster, the commands of the documents, whole jobs."""
