"""Guesses about raw data: what a job file would say about files that nobody has described yet.

    guess        the one entry: a path in, everything that a job file needs out
    job_text     the guesses as a commented job file
    resolve      `features: auto` and `kind: auto` of a job
    queries      the query that converts columns and leaves out rows
    sampling     rows of the files, typed as the preparation types them
    columns      a column's numbers: missing, distinct, most frequent
    features     a column's feature, or why it is left out
    labels       which column is the label, and of which kind
    splits       rows at random, by time, or by group
    leaks        columns that alone predict the label
    pictures     folders of images

Reads with the preparation's own readers, without Spark. A guess follows from the files alone: the same files give the
same guesses.
"""
