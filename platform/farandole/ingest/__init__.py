"""Raw files to shards, by Spark. The only door to pyspark.

Nothing is imported here: `files` and `request` are cheap, `prepare` brings pyspark.
"""
