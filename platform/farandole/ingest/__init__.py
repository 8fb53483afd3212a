"""Preparation of datasets: raw files to shards, by Spark.

    prepare     the one entry: a job in, a dataset directory out
    cache_key   the hash that decides whether an existing dataset is used again
    rules/      the job's rules on rows: query, user transform, expectations, privacy, malformed records
    spark/      sessions, data frames, and the functions that run in Spark's Python workers
    readers/    bytes of source files to typed Arrow batches
    sources/    the files that sources name: local, in archives, in object stores

Each line may import the lines below it and no line above. `sources` and `readers` work without pyspark.
"""
