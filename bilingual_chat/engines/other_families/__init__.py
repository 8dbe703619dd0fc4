"""Models of other families, through transformers."""
