"""What a sweep concludes, from its results.parquet alone."""
