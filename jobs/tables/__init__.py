"""Results as tables: Parquet under OUT/tables, DataFrames in pandas."""
