"""The backend `kubernetes`: jobs are objects of a cluster, whose API is the only store.

The official client is imported when the cluster is first contacted: `farandole plan` does without it.
"""
