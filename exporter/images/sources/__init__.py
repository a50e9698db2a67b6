"""Pictures wherever they lie, through fsspec: folders, lists, Parquet and WebDataset tars."""
