"""The query of a job as part of its model: translated once from Spark SQL, executed by DuckDB on rows of the source."""

from farandole.serving.query.translated import QueryRows, TranslatedQuery, UntranslatableError, as_model_columns

__all__ = ["QueryRows", "TranslatedQuery", "UntranslatableError", "as_model_columns"]
