"""Rows of files that nobody has described, with columns typed as the preparation types them.

sample           what is known after a look at the files
csv_sample       rows of text files with separated fields
json_sample      rows of JSON files
parquet_sample   rows of Parquet files
declared         rows of a source that a job file declares
rows             which pieces of the files are read, and the records that cannot be
typed_texts      columns of text, converted to the types that they fit
dialect          encoding, separator and header of a text file
nulls            texts that represent a missing value
times            the pattern that dates are written in
written_numbers  numbers as people write them
"""
